"""The rule of one gene with the highest total mutual information among all that the order of states allows, by Z3.

Letters: T demanded states, E candidate regulators.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perturbrl.errors import UserError
from perturbrl.landscape.infer.demands import Rule
from perturbrl.landscape.infer.trajectory import Binary, Values

UNITS = 1_000_000  # scores are compared as whole numbers of millionths of a bit


@dataclass(frozen=True)
class Problem:
    """The demands on a rule and its candidates.

    ``on`` [T, E], the candidates at the demanded states; ``value`` [T], the demanded values; ``must`` [T], which of
    them no rule may miss; ``signs`` [E]; ``bits`` [E], the score of each edge; ``form`` is ``and`` or ``or``; at most
    ``most`` regulators.
    """

    on: Binary
    value: Binary
    must: Binary
    signs: NDArray[np.int64]
    bits: Values
    form: str
    most: int

    @property
    def units(self) -> list[int]:
        """The scores as positive whole numbers."""
        return [max(1, round(UNITS * float(b))) for b in self.bits]


@dataclass(frozen=True)
class Solution:
    """The best rule found; ``wrong`` counts states at which it has another value than demanded.

    ``proven`` is false where the time limit ended the search before it was certain that no rule is better.
    """

    rule: Rule
    wrong: int
    units: int
    proven: bool


def require_z3() -> Any:
    """Return the module ``z3``.

    Raises
    ------
    UserError
        The package is not installed.
    """
    try:
        import z3
    except ImportError:
        raise UserError(
            "inferring a network needs the solver Z3, which is not installed: pip install 'perturbrl[infer]'"
        ) from None
    return z3


def best_rule(problem: Problem, seconds: float) -> Solution | None:
    """Return the rule with the highest total score, or None if the solver finds none.

    Every edge of the rule is needed: at some state the rule is right, and would be wrong without the edge. The search
    goes from rule to better rule until there is none, or until the time is over: first to fewer states at which the
    rule has another value than demanded, then to higher scores.

    Parameters
    ----------
    problem
        Demands and candidates.
    seconds
        Time limit.
    """
    z3 = require_z3()
    end = time.monotonic() + seconds
    use = [z3.Bool(f"use{e}") for e in range(len(problem.signs))]
    wrong = [z3.Bool(f"wrong{t}") for t in range(len(problem.value))]
    solver = z3.SolverFor("QF_FD")
    solver.set("random_seed", 0)
    solver.add(*_consistent(z3, problem, use, wrong))
    solver.add(*(z3.Not(w) for w, must in zip(wrong, problem.must, strict=True) if must))
    if use:
        solver.add(z3.PbLe([(u, 1) for u in use], problem.most))
    fewer = None if problem.must.all() else lambda best: z3.PbLe([(w, 1) for w in wrong], best.wrong - 1)
    best, certain = _improved(z3, solver, use, problem, None, fewer, end)
    if best is None or not certain:
        return best
    solver.add(z3.PbLe([(w, 1) for w in wrong], best.wrong) if best.wrong else z3.Not(z3.Or(False, *wrong)))
    higher = lambda best: z3.PbGe(list(zip(use, problem.units, strict=True)), best.units + 1)  # noqa: E731
    best, certain = _improved(z3, solver, use, problem, best, higher if use else None, end)
    return best and replace(best, proven=certain)


def _improved(
    z3: Any,
    solver: Any,
    use: Sequence[Any],
    problem: Problem,
    best: Solution | None,
    better: Callable[[Solution], Any] | None,
    end: float,
) -> tuple[Solution | None, bool]:
    """Return the last of a chain of solutions, each ``better`` than the one before, and whether none can follow it.

    Without ``better`` it is any solution. Constraints that no solution meets are taken back from ``solver``.
    """
    if best is not None and better is None:
        return best, True
    while (left := end - time.monotonic()) > 0:
        solver.push()
        if best is not None and better is not None:
            solver.add(better(best))
        solver.set("timeout", max(1, int(1000 * left)))
        answer = solver.check()
        model = solver.model() if answer == z3.sat else None
        solver.pop()
        if model is None:
            return best, answer == z3.unsat
        best = _solution(problem, tuple(e for e, u in enumerate(use) if z3.is_true(model.eval(u))))
        if better is None:
            return best, True
    return best, False


def _solution(problem: Problem, chosen: Sequence[int]) -> Solution:
    rule = Rule(tuple(chosen), tuple(int(problem.signs[e]) for e in chosen), problem.form)
    wrong = int((rule.value(problem.on) != problem.value).sum())
    return Solution(rule, wrong, sum(problem.units[e] for e in chosen), proven=False)


def _consistent(z3: Any, problem: Problem, use: Sequence[Any], wrong: Sequence[Any]) -> list[Any]:
    """Return the constraints: the demanded value at every state that is not ``wrong``, and no edge in vain."""
    plus = [e for e, sign in enumerate(problem.signs) if sign > 0]
    minus = [e for e, sign in enumerate(problem.signs) if sign < 0]
    no_activator = z3.Not(z3.Or(False, *(use[e] for e in plus)))
    constraints: list[Any] = []
    needed: list[list[Any]] = [[] for _ in use]
    for t, (on, value) in enumerate(zip(problem.on, problem.value, strict=True)):
        barring = [e for e in minus if on[e]]
        holding_off = [e for e in plus if not on[e]]
        driving = [e for e in plus if on[e]]
        if problem.form == "and":
            active = z3.Not(z3.Or(False, *(use[e] for e in holding_off)))
        else:
            active = z3.Or(no_activator, *(use[e] for e in driving))
        true = z3.And(active, *(z3.Not(use[e]) for e in barring))
        constraints.append(z3.Or(wrong[t], true if value else z3.Not(true)))
        if value and problem.form == "or":
            for e in driving:
                others = [z3.Not(use[o]) for o in driving if o != e]
                # alone among all activators, its loss leaves a rule without activators, which is as true
                company = z3.Or(False, *(use[o] for o in plus if o != e))
                needed[e].append(z3.And(z3.Not(wrong[t]), company, *others))
        if not value:
            for e in barring:
                needed[e].append(z3.And(z3.Not(wrong[t]), active, *(z3.Not(use[o]) for o in barring if o != e)))
            for e in holding_off:
                alone = (o for o in (holding_off if problem.form == "and" else plus) if o != e)
                free = (z3.Not(use[o]) for o in (*alone, *barring))
                needed[e].append(z3.And(z3.Not(wrong[t]), *free))
    return constraints + [z3.Implies(use[e], z3.Or(False, *ways)) for e, ways in enumerate(needed)]
