"""Plans: which genes are perturbed in which decision, whatever the cell does in between.

A plan holds, for each of T decisions, a sorted tuple of discrete actions of the task (without "done").

Letters: G genes, T decisions, m the most genes of a decision, n perturbations of a plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product
from math import comb

import numpy as np

from perturbrl.landscape.fate_task import FateTask

Decision = tuple[int, ...]
Plan = tuple[Decision, ...]


def gene_of(task: FateTask, action: int) -> int:
    """Return the index of the gene that ``action`` perturbs."""
    return action // 2 if task.moves == "set" else action


def actions(task: FateTask) -> list[int]:
    """Return the actions that perturb a controllable gene."""
    return [a for a in range(task.done) if task.network.genes[gene_of(task, a)] in task.controllable_genes]


def decisions(task: FateTask, most: int) -> list[Decision]:
    """Return all sets of at most ``most`` actions on different genes, smallest first, the empty one among them."""
    found: list[Decision] = []
    for size in range(min(most, task.max_perturb) + 1):
        for chosen in combinations(actions(task), size):
            if len({gene_of(task, a) for a in chosen}) == size:
                found.append(chosen)
    return found


def all_plans(task: FateTask, n_perturbations: int) -> Iterator[Plan]:
    """Yield every plan of at most ``n_perturbations`` perturbations in all: all sets in all orders."""
    yield from _extended((), task.n_decisions, n_perturbations, decisions(task, n_perturbations))


def _extended(plan: Plan, n_left: int, budget: int, choices: Sequence[Decision]) -> Iterator[Plan]:
    if not n_left:
        yield plan
        return
    for chosen in choices:
        if len(chosen) <= budget:
            yield from _extended((*plan, chosen), n_left - 1, budget - len(chosen), choices)


def count_plans(task: FateTask, n_perturbations: int) -> int:
    """Return the number of plans that ``all_plans`` yields."""
    n_genes, n_values = len(task.controllable_genes), 2 if task.moves == "set" else 1
    sizes = range(min(task.max_perturb, n_perturbations) + 1)
    one = [comb(n_genes, size) * n_values**size for size in sizes]
    total = [1] + [0] * n_perturbations  # by the number of perturbations used so far
    for _ in range(task.n_decisions):
        total = [sum(total[n - size] * one[size] for size in sizes if size <= n) for n in range(len(total))]
    return sum(total)


def n_perturbations(plan: Plan) -> int:
    """Return the number of perturbations of a plan."""
    return sum(map(len, plan))


def extensions(task: FateTask, plan: Plan) -> list[Plan]:
    """Return the plans with one perturbation more."""
    longer = []
    for t, action in product(range(task.n_decisions), actions(task)):
        taken = {gene_of(task, a) for a in plan[t]}
        if len(plan[t]) < task.max_perturb and gene_of(task, action) not in taken:
            longer.append((*plan[:t], tuple(sorted((*plan[t], action))), *plan[t + 1 :]))
    return longer


def reductions(plan: Plan) -> list[Plan]:
    """Return the plans with one perturbation less."""
    return [
        (*plan[:t], tuple(a for a in chosen if a != action), *plan[t + 1 :])
        for t, chosen in enumerate(plan)
        for action in chosen
    ]


def random_plan(task: FateTask, n_perturbations: int, rng: np.random.Generator) -> Plan:
    """Return a plan of 0 to ``n_perturbations`` perturbations (uniform), each added uniformly to those possible."""
    plan: Plan = ((),) * task.n_decisions
    for _ in range(int(rng.integers(n_perturbations + 1))):
        if not (longer := extensions(task, plan)):
            break
        plan = longer[int(rng.integers(len(longer)))]
    return plan


def sentence(task: FateTask, plan: Plan) -> str:
    """Return a plan in words: ``Gata1 on and Pu1 off, then nothing, then Fli1 on``."""
    parts = [" and ".join(_words(task, action) for action in chosen) or "nothing" for chosen in plan]
    while len(parts) > 1 and parts[-1] == "nothing":
        parts.pop()
    return ", then ".join(parts)


def _words(task: FateTask, action: int) -> str:
    gene = task.network.genes[gene_of(task, action)]
    return f"{gene} {'on' if action % 2 else 'off'}" if task.moves == "set" else f"{gene} flipped"
