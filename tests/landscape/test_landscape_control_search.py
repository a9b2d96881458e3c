"""Searches for plans: they find what exhaustion finds, and what they say of the rest holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from perturbrl.errors import UserError
from perturbrl.landscape.control.exhaustive import exhaustive
from perturbrl.landscape.control.plans import extensions, n_perturbations, random_plan, reductions
from perturbrl.landscape.control.search import METHODS, Effort, search
from perturbrl.landscape.fate_task import Fate, FateTask
from perturbrl.landscape.network import Network

# "goal" needs a and b; each alone leads away, so the way there is worse before it is better.
GATES = Network(
    {
        "a": "a and b or a and not d",
        "b": "a and b or b and not d",
        "d": "(a and not b) or (b and not a) or d",
        "e": "e",
        "goal": "goal or (a and b)",
    },
    frozenset(),
    {},
    {},
    {},
    0.5,
)
TASK = FateTask(
    GATES,
    torch.zeros(1, 5, dtype=torch.uint8),
    Fate.of(GATES, "goal", ["goal"], ["d"]),
    n_updates=200,
    max_perturb=2,
    n_decisions=1,
    cost=0.01,
    controllable=("a", "b", "d", "e"),
)
QUICK = Effort(n_cells=32, n_final=64, n_random=60, n_steps=12)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_pair_that_exhaustion_finds(method: str) -> None:
    best = exhaustive(TASK, n_cells=64).best
    found = search(TASK, method, effort=QUICK)
    assert best == ((0, 1),)
    assert found.ranking.best == best
    assert found.ranking.value == pytest.approx(0.98)
    assert found.ranking.value <= found.ranking.upper <= 1.0


def test_a_task_that_is_solved_by_doing_nothing_has_no_perturbation() -> None:
    task = replace(TASK, start=torch.tensor([[1, 1, 0, 0, 1]], dtype=torch.uint8))
    found = search(task, "greedy", effort=QUICK)
    assert n_perturbations(found.ranking.best) == 0
    assert found.ranking.value == found.ranking.upper == 1.0


def test_the_share_of_better_plans_follows_from_the_draws() -> None:
    found = search(TASK, "greedy", effort=replace(QUICK, n_random=30), confidence=0.9)
    assert pytest.approx(1 - np.exp(-30 * found.better)) == 0.9


def test_random_plans_and_neighbours_keep_the_bounds_of_the_task() -> None:
    task = replace(TASK, moves="set", n_decisions=3, max_perturb=2)
    rng = np.random.default_rng(0)
    sizes = set()
    for _ in range(200):
        plan = random_plan(task, 4, rng)
        sizes.add(n_perturbations(plan))
        for other in (plan, *extensions(task, plan), *reductions(plan)):
            assert len(other) == 3 and all(len({a // 2 for a in chosen}) == len(chosen) <= 2 for chosen in other)
        assert {n_perturbations(p) for p in extensions(task, plan)} <= {n_perturbations(plan) + 1}
    assert sizes == {0, 1, 2, 3, 4}


def test_an_unknown_method_is_one_line() -> None:
    with pytest.raises(UserError, match=r"method.*'beem'"):
        search(TASK, "beem")
