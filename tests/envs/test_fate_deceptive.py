"""Deceptive variants of the fate task, measured exactly: what the optimum of another reward loses of the true one."""

from __future__ import annotations

from typing import Any

import pytest

from perturbrl.envs.fate.tasks import tasks
from perturbrl.landscape.control.exact import Solver

from .helpers import config

REPROGRAM = {"start": "granulocyte", "target": "erythrocyte", "max_perturb": 1, "n_decisions": 6, "bonus": 0.0}


def regret(**shaping: Any) -> float:
    """Return what the exact optimum of the shaped task loses in the task without shaping."""
    (plain,), (shaped,) = tasks(config("fate", **REPROGRAM)), tasks(config("fate", **REPROGRAM, **shaping))
    solver = Solver(plain)
    return solver.optimum().mean - solver.evaluate(Solver(shaped).optimum()).mean


@pytest.mark.parametrize("weight", [0.1, 1.0, 10.0])
def test_a_potential_leaves_the_optimum_as_it_is(weight: float) -> None:
    assert regret(shaping="potential", shaping_weight=weight) == pytest.approx(0.0, abs=1e-6)


def test_a_tempting_reward_near_another_attractor_traps_the_optimum_the_more_it_pays() -> None:
    lost = [regret(shaping="tempting", lure="monocyte", shaping_weight=weight) for weight in (0.1, 0.3, 1.0)]
    assert 0.01 < lost[0] < lost[1] < lost[2]
    # The target pays 1 less the cost of the way: the strongest lure takes all of it.
    assert lost[2] > 0.85


def test_what_is_best_for_one_decision_loses_where_two_are_needed() -> None:
    pairs = tasks(config("fate", network="haematopoietic", max_perturb=2, n_decisions=2, bonus=0.0, cost=0.05))
    shortcuts = []
    for task in pairs:
        solver = Solver(task)
        best, hasty = solver.optimum().mean, solver.evaluate(solver.one_step()).mean
        assert hasty <= best + 1e-9
        shortcuts.append(hasty > 0.01 and best - hasty > 0.1)
    assert any(shortcuts), "no pair has a shortcut that pays something and loses the target"
