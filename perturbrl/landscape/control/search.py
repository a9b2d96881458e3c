"""Search for good plans where they are too many to try all: greedy, beam and annealing, with what is known of the rest.

All methods see the mean return of a plan in the same cells with the same noise. Two bounds come with the result: one
on the return of every plan (``Ranking.upper``), and one on the share of plans that are better than the best found,
from plans drawn at random: if a share p were better, none of M draws would be among them with probability (1 - p)^M.

Letters: P plans, n cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from perturbrl.errors import choice
from perturbrl.landscape.control.exhaustive import Ranking, race, spread
from perturbrl.landscape.control.plans import Plan, extensions, n_perturbations, random_plan, reductions
from perturbrl.landscape.control.simulation import PlanSimulator
from perturbrl.landscape.fate_task import Fate, FateTask

METHODS = ("beam", "annealing", "greedy")
N_FINALISTS = 24  # plans that are compared again in more cells


@dataclass(frozen=True)
class Effort:
    """How hard a search tries.

    ``n_cells`` of each plan, ``n_final`` of the finalists; ``width`` plans kept by a beam; ``n_chains`` and ``n_steps``
    of annealing; ``n_random`` plans drawn for the bound.
    """

    n_cells: int = 64
    n_final: int = 512
    width: int = 8
    n_chains: int = 16
    n_steps: int = 40
    n_random: int = 300


@dataclass(frozen=True)
class Found:
    """The finalists of a search by ``method``, ranked; ``n_tried`` plans were simulated.

    With the confidence of the ranking at most a share ``better`` of all plans (as ``plans.random_plan`` draws them)
    have a higher mean in the cells of the search than the best one.
    """

    method: str
    ranking: Ranking
    n_tried: int
    better: float


def search(
    task: FateTask,
    method: str = "beam",
    n_perturb: int | None = None,
    *,
    effort: Effort | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    attractors: Callable[[], Fate] | None = None,
) -> Found:
    """Search plans of at most ``n_perturb`` perturbations (default ``task.max_perturb``).

    Parameters
    ----------
    method
        ``greedy`` adds the perturbation that helps most, up to ``n_perturb`` of them; ``beam`` keeps the ``width``
        best plans of each size; ``annealing`` (Kirkpatrick, Gelatt and Vecchi 1983) adds, removes and swaps
        perturbations in several chains.
    seed
        Of starts, noise, and the draws of the search.

    Raises
    ------
    UserError
        The method is not known.
    """
    choice(method, METHODS, "method")
    most, effort = task.max_perturb if n_perturb is None else n_perturb, effort or Effort()
    simulator, rng = PlanSimulator(task, attractors), np.random.default_rng(seed)
    tried = _Tried(simulator, effort.n_cells, seed)
    tried.means([((),) * task.n_decisions])
    if method == "annealing":
        _anneal(tried, most, effort, rng)
    else:
        _beam(tried, most, 1 if method == "greedy" else effort.width)
    tried.means(random_plan(task, most, rng) for _ in range(effort.n_random))
    finalists = tried.best(N_FINALISTS)
    ranking = race(simulator, finalists, most, n_cells=effort.n_final, confidence=confidence, seed=seed)
    better = min(1.0, -np.log(1 - confidence) / max(effort.n_random, 1e-9))
    return Found(method, ranking, len(tried.scores), float(better))


class _Tried:
    """Mean returns of the plans tried so far."""

    def __init__(self, simulator: PlanSimulator, n_cells: int, seed: int) -> None:
        self.simulator, self.task = simulator, simulator.task
        self.scores: dict[Plan, float] = {}
        self._n_cells, self._seed = n_cells, seed

    def means(self, plans: Iterable[Plan]) -> list[float]:
        """Return the mean return of each plan; a plan is simulated once."""
        wanted = list(plans)
        new = [plan for plan in dict.fromkeys(wanted) if plan not in self.scores]
        if new:
            means = self.simulator.returns(new, self._n_cells, self._seed).mean(1)
            self.scores.update(zip(new, means.round(9).tolist(), strict=True))
        return [self.scores[plan] for plan in wanted]

    def best(self, n: int, among: Iterable[Plan] | None = None) -> list[Plan]:
        """Return the ``n`` best plans ``among`` some (or all tried): those with fewer perturbations win ties."""
        plans = self.scores if among is None else among
        return sorted(plans, key=lambda plan: (-self.scores[plan], n_perturbations(plan), plan))[:n]


def _beam(tried: _Tried, most: int, width: int) -> None:
    beam: list[Plan] = [((),) * tried.task.n_decisions]
    for _ in range(most):
        longer = {plan for start in beam for plan in extensions(tried.task, start)}
        if not longer:
            break
        tried.means(sorted(longer))
        beam = tried.best(width, longer)


def _anneal(tried: _Tried, most: int, effort: Effort, rng: np.random.Generator) -> None:
    task = tried.task
    now = [random_plan(task, most, rng) for _ in range(effort.n_chains)]
    scores = tried.means(now)
    hot, cold = 0.2 * spread(task, most), 0.005 * spread(task, most)
    for step in range(effort.n_steps):
        temperature = hot * (cold / hot) ** (step / max(effort.n_steps - 1, 1))
        proposed = [_neighbour(task, plan, most, rng) for plan in now]
        for i, score in enumerate(tried.means(proposed)):
            if np.log(rng.random()) < (score - scores[i]) / max(temperature, 1e-12):
                now[i], scores[i] = proposed[i], score


def _neighbour(task: FateTask, plan: Plan, most: int, rng: np.random.Generator) -> Plan:
    """Return ``plan`` with one perturbation added, removed or replaced, each as likely where it is possible."""
    shorter = reductions(plan)
    kind = rng.integers(3)
    if shorter and (kind == 0 or n_perturbations(plan) >= most):
        plan = shorter[int(rng.integers(len(shorter)))]
        if kind == 0:
            return plan
    elif shorter and kind == 1:
        plan = shorter[int(rng.integers(len(shorter)))]
    longer = extensions(task, plan) if n_perturbations(plan) < most else []
    return longer[int(rng.integers(len(longer)))] if longer else plan
