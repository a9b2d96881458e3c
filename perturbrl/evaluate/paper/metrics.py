"""The ten metrics of the published tables, each over n cells, for every feature at once.

The signs of standardised values are taken as classes (positive: value > 0). Where a score is undefined it takes the
value that scikit-learn gives with ``zero_division=0``. Letters: n cells, G features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from perturbrl import registry
from perturbrl.errors import UserError

Array = NDArray[np.float64]
MetricFunction = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class MetricConfig:
    """A metric has nothing to configure but its name."""

    name: str


@registry.metrics.register("accuracy", MetricConfig)
def accuracy(truth: Array, prediction: Array) -> Array:
    """Return the fraction of cells whose sign is kept, [G]."""
    return np.asarray(((truth > 0) == (prediction > 0)).mean(axis=0))


@registry.metrics.register("precision", MetricConfig)
def precision(truth: Array, prediction: Array) -> Array:
    """Return the precision of both signs, weighted by how often each is true, [G]."""
    n, both, pos_true, pos_pred = _counts(truth, prediction)
    neither = n - pos_true - pos_pred + both
    of_positive = pos_true * _ratio(both, pos_pred)
    return (of_positive + (n - pos_true) * _ratio(neither, n - pos_pred)) / n


@registry.metrics.register("recall", MetricConfig)
def recall(truth: Array, prediction: Array) -> Array:
    """Return the recall of both signs, weighted by how often each is true, [G]: the weights cancel, it is accuracy."""
    n, both, pos_true, pos_pred = _counts(truth, prediction)
    neither = n - pos_true - pos_pred + both
    return (both + neither) / n


@registry.metrics.register("f1", MetricConfig)
def f1(truth: Array, prediction: Array) -> Array:
    """Return the F1 score of both signs, weighted by how often each is true, [G]."""
    n, both, pos_true, pos_pred = _counts(truth, prediction)
    neither = n - pos_true - pos_pred + both
    of_positive = pos_true * _ratio(2 * both, pos_true + pos_pred)
    return (of_positive + (n - pos_true) * _ratio(2 * neither, 2 * n - pos_true - pos_pred)) / n


@registry.metrics.register("auprc", MetricConfig)
def auprc(truth: Array, prediction: Array) -> Array:
    """Return the average precision of the predicted sign taken as a score of 0 or 1, [G]; 0 where no cell is positive.

    Two scores make at most two thresholds: "predicted positive" (absent where nothing is), then "every cell", whose
    precision is the base rate.
    """
    n, both, pos_true, pos_pred = _counts(truth, prediction)
    recalled = _ratio(both, pos_true)
    return recalled * _ratio(both, pos_pred) + (1 - recalled) * (pos_true / n)


@registry.metrics.register("mse", MetricConfig)
def mse(truth: Array, prediction: Array) -> Array:
    """Return the mean squared error, [G]."""
    return np.asarray(np.square(prediction - truth).mean(axis=0))


@registry.metrics.register("rmse", MetricConfig)
def rmse(truth: Array, prediction: Array) -> Array:
    """Return the root of each feature's mean squared error, [G] (rooted before any average over features)."""
    return np.asarray(np.sqrt(mse(truth, prediction)))


@registry.metrics.register("mae", MetricConfig)
def mae(truth: Array, prediction: Array) -> Array:
    """Return the mean absolute error, [G]."""
    return np.asarray(np.abs(prediction - truth).mean(axis=0))


@registry.metrics.register("r2", MetricConfig)
def r2(truth: Array, prediction: Array) -> Array:
    """Return the coefficient of determination, [G]; where the truth is constant, 1 if it is met exactly and else 0."""
    left = np.square(prediction - truth).sum(axis=0)
    total = np.square(truth - truth.mean(axis=0)).sum(axis=0)
    constant = _constant(truth)
    explained = 1 - left / np.where(constant, 1.0, total)
    return np.asarray(np.where(constant, (left == 0).astype(np.float64), explained))


@registry.metrics.register("pearson", MetricConfig)
def pearson(truth: Array, prediction: Array) -> Array:
    """Return Pearson's correlation, [G]; 0 where the truth or the prediction is constant."""
    x, y = _standard(truth), _standard(prediction)
    sxx, syy, sxy = (x * x).sum(axis=0), (y * y).sum(axis=0), (x * y).sum(axis=0)
    undefined = _constant(truth) | _constant(prediction)
    r = sxy / np.sqrt(np.where(undefined, 1.0, sxx * syy))
    return np.asarray(np.where(undefined, 0.0, np.clip(r, -1.0, 1.0)))


def _counts(truth: Array, prediction: Array) -> tuple[int, Array, Array, Array]:
    """Return n and, for each feature, how many cells are positive in both, in truth, in prediction."""
    true, predicted = truth > 0, prediction > 0
    count = [m.sum(axis=0).astype(np.float64) for m in (true & predicted, true, predicted)]
    return len(truth), count[0], count[1], count[2]


def _ratio(part: Array, whole: Array) -> Array:
    return np.asarray(part / np.where(whole > 0, whole, 1.0))


def _constant(x: Array) -> NDArray[np.bool_]:
    # Compared value by value: the rounded mean of a constant column need not equal its value.
    return np.asarray((x == x[0]).all(axis=0))


def _standard(x: Array) -> Array:
    """Centre, and bring the largest deviation to 1, so that no sum of squares under- or overflows."""
    centred = x - x.mean(axis=0)
    largest = np.abs(centred).max(axis=0)
    return np.asarray(centred / np.where(largest > 0, largest, 1.0))


RESERVED = ("mean_abs_action", "return", "return_gain", "return_gain_se")
"""Columns that stand beside the metrics."""

FUNCTIONS: Mapping[str, MetricFunction] = MappingProxyType(
    {f.__name__: f for f in (accuracy, precision, recall, f1, auprc, mse, rmse, mae, r2, pearson)}
)
"""The functions of ``metrics_info.PAPER``, in its order."""


def plugin_metrics() -> dict[str, MetricFunction]:
    """Return the metrics that plugins registered beside the ten.

    Raises
    ------
    UserError
        A plugin's metric has the name of a column in ``RESERVED``.
    """
    for name in RESERVED:
        if name in registry.metrics:
            raise UserError(f"metric={name}: the name is that of a column every table has; call the metric otherwise")
    return {name: entry.build for name, entry in registry.metrics.items() if name not in FUNCTIONS}


def per_feature(truth: Array, prediction: Array, functions: Mapping[str, MetricFunction]) -> dict[str, Array]:
    """Return each metric of ``functions`` for each feature, [G]; ``truth`` and ``prediction`` are [n, G].

    Raises
    ------
    UserError
        A metric (of a plugin) does not return one number for each feature.
    """
    scores = {}
    for name, function in functions.items():
        score = np.asarray(function(truth, prediction), dtype=np.float64)
        if score.shape != truth.shape[1:]:
            raise UserError(f"metric={name}: returned shape {score.shape}; expected {truth.shape[1:]}, one a feature")
        scores[name] = score
    return scores
