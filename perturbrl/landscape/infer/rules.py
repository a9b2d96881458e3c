"""The rule of each gene: the least that has to be conceded to the data, and the best rule under that."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from perturbrl.landscape.infer.candidates import Candidate
from perturbrl.landscape.infer.demands import Demands, Rule, demands
from perturbrl.landscape.infer.order import Branch
from perturbrl.landscape.infer.settings import InferConfig
from perturbrl.landscape.infer.solver import Problem, Solution, best_rule
from perturbrl.landscape.infer.trajectory import Binary


@dataclass(frozen=True)
class GeneRule:
    """The rule of one gene, over ``candidates``.

    ``support`` counts for each edge the states that need it. ``lag``: how many states the gene may wait; ``wrong`` of
    ``n_states`` demanded values are not those of the rule. ``proven`` is false where the time limit ended the search.
    """

    gene: int
    rule: Rule
    candidates: tuple[Candidate, ...]
    support: tuple[int, ...]
    lag: int
    wrong: int
    n_states: int
    proven: bool


def gene_rule(branches: Sequence[Branch], gene: int, candidates: Sequence[Candidate], config: InferConfig) -> GeneRule:
    """Return the rule of ``gene`` with the highest total mutual information among those that the states allow.

    With no waiting all demanded values are asked of the rule; then with as few states of waiting as will do, at most
    ``config.max_lag``; then, without waiting, the rule may miss values, as few as will do: first only where the gene
    stays as it is on the way (the network then can still take every step, and ends are steady), then also where it
    changes, then anywhere. A gene that only has to go off may be off for good.
    """
    end = time.monotonic() + config.seconds
    for lag in range(config.max_lag + 1):
        asked = demands(branches, gene, lag)
        everywhere = np.ones_like(asked.value)
        if (solution := _best(asked, everywhere, candidates, config, end)) is not None:
            return _gene_rule(gene, candidates, asked, solution, lag)
    asked = demands(branches, gene, 0)
    for must in (asked.end | asked.change, asked.end, np.zeros_like(asked.end)):
        if (solution := _best(asked, must, candidates, config, end)) is not None:
            return _gene_rule(gene, candidates, asked, solution, 0)
    # No rule in time: the constant that is right more often.
    likely = _constant(asked, bool(asked.value.mean() >= 0.5))
    return _gene_rule(gene, candidates, asked, replace(likely, proven=False), 0)


def _constant(asked: Demands, constant: bool) -> Solution:
    wrong = int((asked.value != constant).sum())
    return Solution(Rule((), (), "and", constant), wrong, 0, proven=True)


def _best(
    asked: Demands, must: Binary, candidates: Sequence[Candidate], config: InferConfig, end: float
) -> Solution | None:
    """Return the best rule that has the values demanded where ``must`` [T]; None if there is none.

    It is the better of the forms that ``config`` allows, of equals that of ``and``; without any, a gene that is never
    demanded on where ``must`` is off for good.
    """
    forms = ("and", "or") if config.form == "either" else (config.form,)
    on = asked.states[:, [c.regulator for c in candidates]]
    signs = np.array([c.sign for c in candidates], dtype=np.int64)
    bits = np.array([c.bits for c in candidates])
    best: Solution | None = None
    for form in forms:
        problem = Problem(on, asked.value, must, signs, bits, form, config.max_regulators)
        solution = best_rule(problem, end - time.monotonic())
        if solution is not None and (best is None or _rank(solution) > _rank(best)):
            best = solution
    if best is None and must.any() and not asked.value[must].any():
        return _constant(asked, False)
    return best


def _rank(solution: Solution) -> tuple[int, int]:
    return -solution.wrong, solution.units


def _gene_rule(gene: int, candidates: Sequence[Candidate], asked: Demands, solution: Solution, lag: int) -> GeneRule:
    on = asked.states[:, [c.regulator for c in candidates]]
    support = solution.rule.support(on, asked.value)
    n_states = len(asked.value)
    return GeneRule(gene, solution.rule, tuple(candidates), support, lag, solution.wrong, n_states, solution.proven)
