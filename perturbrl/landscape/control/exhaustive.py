"""Every plan of at most n perturbations, simulated: sets and orders, for any dynamics.

``race`` gives all plans the same cells and noise and doubles the cells of those that may still be the best: a plan is
dropped once its return is below that of the leader by more than its bound on their difference (Hoeffding races, Maron
and Moore 1994; empirical Bernstein bound of Audibert, Munos and Szepesvari 2007, eq. 1). With the stated confidence no
plan that is dropped is better than the leader it was compared with.

Letters: P plans, n cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from perturbrl.errors import UserError
from perturbrl.landscape.control.plans import Plan, all_plans, count_plans, n_perturbations, sentence
from perturbrl.landscape.control.simulation import PlanSimulator
from perturbrl.landscape.fate_task import Fate, FateTask
from perturbrl.landscape.state_graph import Floats, Ints

MOST_PLANS = 200_000
FIRST_CELLS = 32
FRESH_CELLS = 1000  # of the best plan, with noise that did not choose it
FRESH_SEED = 1 << 32  # seeds of a search are below it


@dataclass(frozen=True)
class Ranking:
    """Plans from best to worst, as simulated.

    ``means`` and ``errors`` [P] are the mean return of each plan and its standard error, ``cells`` [P] the number of
    cells behind them. ``contenders`` counts the leading plans that cannot be told from the best at ``confidence``; it
    is 1 if the best is known. The best of many simulated means is too high, so ``value`` and ``value_error`` are those
    of the best plan in fresh cells. ``n_possible`` counts the plans that there are; ``upper`` is a bound on the return
    of any of them.
    """

    task: FateTask
    plans: tuple[Plan, ...]
    means: Floats
    errors: Floats
    cells: Ints
    contenders: int
    confidence: float
    value: float
    value_error: float
    n_possible: int
    upper: float

    @property
    def best(self) -> Plan:
        """The plan with the best mean among those with most cells."""
        return self.plans[0]

    @property
    def sentence(self) -> str:
        """The best plan in words."""
        return sentence(self.task, self.best)


def exhaustive(
    task: FateTask,
    n_perturb: int | None = None,
    *,
    n_cells: int = 256,
    confidence: float = 0.95,
    seed: int = 0,
    attractors: Callable[[], Fate] | None = None,
) -> Ranking:
    """Rank all plans of at most ``n_perturb`` perturbations (default: those of one decision, ``task.max_perturb``).

    Parameters
    ----------
    task
        Boolean or Hill; the plans are its sets of perturbations in all orders over ``n_decisions``.
    n_cells
        The most cells of a plan. All plans get ``FIRST_CELLS``, those that may be the best more.
    confidence
        That no plan is dropped wrongly.
    seed
        Of starts and noise, the same for all plans.
    attractors
        Where the evolution of a Boolean task ends; listed if None.

    Raises
    ------
    UserError
        There are more than ``MOST_PLANS`` plans.
    """
    most = task.max_perturb if n_perturb is None else n_perturb
    if (count := count_plans(task, most)) > MOST_PLANS:
        raise UserError(
            f"exhaustive: {count} plans of up to {most} perturbations in {task.n_decisions} decisions are too many (at"
            f" most {MOST_PLANS}); lower them, choose fewer task.controllable genes, or use search"
        )
    simulator = PlanSimulator(task, attractors)
    return race(simulator, list(all_plans(task, most)), most, n_cells=n_cells, confidence=confidence, seed=seed)


def race(
    simulator: PlanSimulator, plans: Sequence[Plan], most: int, *, n_cells: int, confidence: float, seed: int
) -> Ranking:
    """Rank ``plans`` of at most ``most`` perturbations; see ``exhaustive``."""
    task = simulator.task
    n_rounds = max(1, int(np.ceil(np.log2(max(n_cells, 1) / FIRST_CELLS))) + 1)
    lost = (1 - confidence) / (len(plans) * n_rounds)
    returns = {i: np.empty(0) for i in range(len(plans))}
    alive = list(returns)
    total = 0
    while total < n_cells and (total == 0 or len(alive) > 1):
        more = min(max(total, min(FIRST_CELLS, n_cells)), n_cells - total)
        new = simulator.returns([plans[i] for i in alive], more, seed, first=total)
        for i, row in zip(alive, new, strict=True):
            returns[i] = np.concatenate([returns[i], row])
        total += more
        table = np.stack([returns[i] for i in alive])
        leader = table[_leader(table, [plans[i] for i in alive])]
        keep = (leader - table).mean(1) <= bound(leader - table, 2 * spread(task, most), lost)
        alive = [i for i, kept in zip(alive, keep, strict=True) if kept]
    return _ranking(simulator, plans, returns, alive, confidence, most)


def bound(difference: Floats, width: float, lost: float) -> Floats:
    """Return by how much the mean of ``difference`` [P, n] may exceed its expectation, [P], at error rate ``lost``.

    The smaller of Hoeffding's and the empirical Bernstein bound, each at half of ``lost``; ``width`` is the range.
    """
    n, log = difference.shape[1], np.log(6 / lost)
    hoeffding = width * np.sqrt(np.log(2 / lost) / (2 * n))
    bernstein = difference.std(1) * np.sqrt(2 * log / n) + 3 * width * log / n
    return np.asarray(np.minimum(hoeffding, bernstein))


def spread(task: FateTask, most: int) -> float:
    """Return the width of the range of returns of plans of at most ``most`` perturbations."""
    paid = abs(task.reward) + abs(task.stage_reward) * len(task.stages)
    each = abs(task.bonus) + 2 * abs(task.shaping_weight) * (task.shaping != "none")
    return paid + each * task.n_decisions + task.cost * most


def upper_bound(task: FateTask, nothing: float, most: int) -> float:
    """Return a bound on the return of every plan: doing ``nothing``, or the best conceivable for one perturbation.

    The best conceivable: all stages and the target are reached, one a decision, from the first on.
    """
    if task.shaping != "none":
        return spread(task, most)
    n_goals = min(len(task.goals), task.n_decisions)
    rewards = [task.stage_reward] * len(task.stages) + [task.reward]
    n_paid = n_goals if task.bonus <= 0 else task.n_decisions
    paid = sum(max(r, 0.0) * task.discount**t for t, r in enumerate(rewards[:n_goals]))
    best = paid + task.bonus * sum(task.discount**t for t in range(min(n_paid, task.n_decisions)))
    last = task.discount ** (task.n_decisions - 1)
    return max(nothing, best - task.cost * last)


def _leader(table: Floats, plans: Sequence[Plan]) -> int:
    """Return the row with the best mean; among equals the one with the fewest perturbations."""
    means = table.mean(1).round(9)
    return min(range(len(plans)), key=lambda i: (-means[i], n_perturbations(plans[i]), plans[i]))


def _ranking(
    simulator: PlanSimulator,
    plans: Sequence[Plan],
    returns: dict[int, Floats],
    alive: Sequence[int],
    confidence: float,
    most: int,
) -> Ranking:
    task, still = simulator.task, set(alive)
    means = np.array([returns[i].mean() for i in range(len(plans))])
    order = sorted(returns, key=lambda i: (i not in still, -means[i].round(9), n_perturbations(plans[i]), plans[i]))
    cells = np.array([len(returns[i]) for i in order])
    errors = np.array([returns[i].std(ddof=1) if len(returns[i]) > 1 else np.nan for i in order]) / np.sqrt(cells)
    nothing: Plan = ((),) * task.n_decisions
    fresh = simulator.returns([plans[order[0]], nothing], FRESH_CELLS, FRESH_SEED)
    value, idle = fresh.mean(1)
    error = float(fresh[0].std(ddof=1) / FRESH_CELLS**0.5)
    return Ranking(
        task,
        tuple(plans[i] for i in order),
        means[order],
        errors,
        cells,
        len(alive),
        confidence,
        float(value),
        error,
        count_plans(task, most),
        upper_bound(task, float(idle), most),
    )


def first(ranking: Ranking, n: int) -> list[tuple[str, float, float]]:
    """Return the first ``n`` plans of ``ranking`` in words, with mean return and its standard error."""
    rows = zip(ranking.plans, ranking.means.tolist(), ranking.errors.tolist(), strict=True)
    return [(sentence(ranking.task, plan), mean, error) for plan, mean, error in islice(rows, n)]
