"""What is computed once for a table, a truth or a prediction is kept with it, and goes with it."""

from __future__ import annotations

import ast
import gc
import weakref
from pathlib import Path

import pytest
from fakes.configs import SCORE as CONFIG
from fakes.screens import noisy

from perturbrl.effects.observed import observe_effects
from perturbrl.effects.responses import trained, tuning
from perturbrl.envs.counterfactual.residual import residual_changes
from perturbrl.evaluate.counterfactual.prediction import Prediction
from perturbrl.evaluate.counterfactual.values import ConditionValues


def test_each_is_computed_once() -> None:
    table = noisy(cells=8)
    assert trained(table) is tuning(table)[0] is trained(table)
    assert residual_changes(table, "train_mean") is residual_changes(table, "train_mean")
    assert residual_changes(table, "none") is not residual_changes(table, "train_mean")
    truth = observe_effects(table, CONFIG)
    metrics, prediction = ConditionValues(truth), Prediction(truth.centre)
    first = metrics.of({"a": prediction})["a"]
    assert metrics.of({"b": prediction})["b"] is first
    assert metrics.of({"b": Prediction(truth.centre)})["b"] is not first
    assert metrics.duplicates is metrics.duplicates


def test_equal_objects_share_nothing() -> None:
    one, other = noisy(cells=8), noisy(cells=8)
    assert trained(one) is not trained(other)
    assert residual_changes(one, "train_mean") is not residual_changes(other, "train_mean")


@pytest.mark.parametrize("compute", [trained, lambda table: residual_changes(table, "train_mean")])
def test_it_is_given_back_with_its_table(compute) -> None:
    table = noisy(cells=8)
    kept = weakref.ref(compute(table))
    gc.collect()
    assert kept() is not None
    del table
    gc.collect()
    assert kept() is None


def test_what_was_scored_goes_with_its_prediction() -> None:
    truth = observe_effects(noisy(cells=8), CONFIG)
    metrics, prediction = ConditionValues(truth), Prediction(truth.centre)
    kept = weakref.ref(metrics.of({"a": prediction})["a"]["mse"])
    del prediction
    gc.collect()
    assert kept() is None


def test_nothing_is_remembered_under_an_address(root: Path) -> None:
    """The address of an object that is gone is given to the next."""
    calls = [
        f"{file.name}:{node.lineno}"
        for file in (root / "perturbrl").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "id"
    ]
    assert calls == []
