from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from perturbrl import registry
from perturbrl.evaluate.paper.metrics import FUNCTIONS, per_feature
from perturbrl.metrics_info import PAPER as METRICS

PUBLISHED = ["accuracy", "precision", "recall", "f1", "auprc", "mse", "rmse", "mae", "r2", "pearson"]

# Quarters: sums are exact, so that "constant" means the same to scikit-learn; few values, so that ties are common.
quarters = st.integers(-12, 12).map(lambda k: k / 4)
shapes = st.tuples(st.integers(2, 30), st.integers(1, 5))


@st.composite
def tables(draw):
    shape = draw(shapes)
    truth = draw(hnp.arrays(np.float64, shape, elements=quarters))
    prediction = draw(hnp.arrays(np.float64, shape, elements=quarters))
    kinds = draw(st.lists(st.sampled_from("0+-cpe "), min_size=shape[1], max_size=shape[1]))
    for g, kind in enumerate(kinds):
        if kind in "0+-":
            truth[:, g] = {"0": 0.0, "+": np.abs(truth[:, g]) + 0.25, "-": -np.abs(truth[:, g])}[kind]
        elif kind == "c":
            truth[:, g] = truth[0, g]
        elif kind == "p":
            prediction[:, g] = prediction[0, g]
        elif kind == "e":
            prediction[:, g] = truth[:, g]
    return truth, prediction


def naive(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """One feature, as released: scikit-learn on signs and on values."""
    t, p = (truth > 0).astype(int), (prediction > 0).astype(int)
    weighted = {"average": "weighted", "zero_division": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        varies = truth.std() > 0 and prediction.std() > 0
        return {
            "accuracy": sk.accuracy_score(t, p),
            "precision": sk.precision_score(t, p, **weighted),
            "recall": sk.recall_score(t, p, **weighted),
            "f1": sk.f1_score(t, p, **weighted),
            "auprc": sk.average_precision_score(t, p),
            "mse": sk.mean_squared_error(truth, prediction),
            "rmse": np.sqrt(sk.mean_squared_error(truth, prediction)),
            "mae": sk.mean_absolute_error(truth, prediction),
            "r2": sk.r2_score(truth, prediction),
            "pearson": np.corrcoef(truth, prediction)[0, 1] if varies else 0.0,
        }


def assert_agrees(truth: np.ndarray, prediction: np.ndarray) -> None:
    ours = per_feature(truth, prediction, FUNCTIONS)
    for g in range(truth.shape[1]):
        for name, expected in naive(truth[:, g], prediction[:, g]).items():
            np.testing.assert_allclose(ours[name][g], expected, rtol=1e-9, atol=1e-12, err_msg=f"{name}, feature {g}")


@settings(max_examples=60)
@given(tables())
def test_agrees_with_scikit_learn_on_ties_and_degenerate_columns(table):
    assert_agrees(*table)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.floats(0, 3))
def test_agrees_with_scikit_learn_on_continuous_values(seed, noise):
    generator = np.random.default_rng(seed)
    truth = generator.normal(size=(30, 8))
    assert_agrees(truth, truth + noise * generator.normal(size=truth.shape))


@given(tables())
def test_every_metric_stays_in_its_range_and_recall_is_accuracy(table):
    ours = per_feature(*table, FUNCTIONS)
    for name, metric in METRICS.items():
        low, high = metric.range
        assert (ours[name] >= low).all() and (ours[name] <= high).all(), name
    np.testing.assert_array_equal(ours["recall"], ours["accuracy"])


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_a_perfect_prediction_scores_exactly_one_and_zero(seed, n):
    truth = np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32).astype(np.float64)
    truth[0] = 1.25
    ours = per_feature(truth, truth.copy(), FUNCTIONS)
    for name, metric in METRICS.items():
        assert (ours[name] == (1.0 if metric.better == "up" else 0.0)).all(), name


def test_no_positive_cell_makes_auprc_zero_even_when_nothing_moves():
    truth = -np.abs(np.random.default_rng(0).normal(size=(30, 1)))
    assert FUNCTIONS["auprc"](truth, truth)[0] == 0.0
    assert FUNCTIONS["f1"](truth, truth)[0] == 1.0


def test_constant_columns_are_recognised_despite_rounding():
    truth = np.full((30, 1), 0.1)  # 30 * 0.1 / 30 is not 0.1 in binary
    assert FUNCTIONS["r2"](truth, truth)[0] == 1.0
    assert FUNCTIONS["r2"](truth, truth + 1e-9)[0] == 0.0
    varying = np.random.default_rng(0).normal(size=(30, 1))
    assert FUNCTIONS["pearson"](truth, varying)[0] == FUNCTIONS["pearson"](varying, truth)[0] == 0.0


def test_pearson_survives_tiny_and_huge_values():
    x = np.random.default_rng(0).normal(size=(30, 1))
    for scale in (1e-200, 1e200):
        np.testing.assert_allclose(FUNCTIONS["pearson"](x * scale, -x * scale), -1.0)


def test_worked_example():
    truth = np.array([[1.0], [2.0], [-1.0], [-2.0]])
    prediction = np.array([[1.0], [-2.0], [1.0], [-2.0]])
    ours = {name: values[0] for name, values in per_feature(truth, prediction, FUNCTIONS).items()}
    assert ours["accuracy"] == ours["precision"] == ours["recall"] == ours["f1"] == 0.5
    assert ours["auprc"] == 0.5  # recall 1/2 at precision 1/2, then the base rate 1/2
    assert (ours["mse"], ours["mae"], ours["rmse"]) == (5.0, 1.5, np.sqrt(5.0))
    assert ours["r2"] == 1 - 20 / 10


def test_the_mapping_is_the_published_table_and_cannot_be_changed():
    assert list(METRICS) == list(FUNCTIONS) == PUBLISHED
    assert [n for n, m in METRICS.items() if m.better == "down"] == ["mse", "rmse", "mae"]
    with pytest.raises(TypeError):
        METRICS["mse"] = METRICS["mae"]  # type: ignore[index]
    assert all(registry.metrics[name].build is function for name, function in FUNCTIONS.items())
