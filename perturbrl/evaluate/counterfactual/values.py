"""The value of each metric for each test condition: those of baselines and duplicates are computed once for a truth.

Letters: n test conditions.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from perturbrl.effects.observed import ObservedEffects
from perturbrl.evaluate.counterfactual.calibration import duplicates
from perturbrl.evaluate.counterfactual.cellwise import CALLED, CellMetrics
from perturbrl.evaluate.counterfactual.prediction import Prediction
from perturbrl.evaluate.counterfactual.profiles import ProfileMetrics
from perturbrl.screens.genes import pca_basis

Array = NDArray[np.float64]
Values = dict[str, dict[str, Array]]


class ConditionValues:
    """Values of every metric for each of n conditions of one truth; those of a ``Prediction`` live as long as it."""

    def __init__(self, truth: ObservedEffects) -> None:
        self.truth = truth
        self._scored: weakref.WeakKeyDictionary[Prediction, tuple[dict[str, Array], int]] = weakref.WeakKeyDictionary()

    @cached_property
    def profiles(self) -> ProfileMetrics:
        """Metrics of mean changes."""
        return ProfileMetrics(self.truth)

    @cached_property
    def cells(self) -> CellMetrics:
        """Metrics of cells; those that need differential genes know them once something was scored."""
        return CellMetrics(self.truth, self._basis)

    @cached_property
    def true_mean(self) -> Prediction:
        """The true means as a prediction: what its cells score is the most that a prediction of means can reach."""
        return Prediction(self.truth.change)

    def of(self, predictions: Mapping[str, Prediction]) -> Values:
        """Return row -> metric -> [n]; NaN where a value does not exist."""
        new = {row: prediction for row, prediction in predictions.items() if prediction not in self._scored}
        for row, values in values_of(self.profiles, self.cells, new).items():
            self._scored[new[row]] = values, self.cells.short.pop(row, 0)
        return {row: self._scored[prediction][0] for row, prediction in predictions.items()}

    def short(self, prediction: Prediction) -> int:
        """Return for how many conditions a scored prediction gave fewer cells than there are test cells."""
        return self._scored[prediction][1]

    @property
    def duplicates(self) -> Values:
        """Values of both duplicates, averaged over the halvings; NaN where a condition cannot be halved.

        Something must have been scored before: only then it is known where the truth has differential genes.
        """
        return self._halved[0]

    @property
    def halved_centre(self) -> Mapping[str, Array]:
        """The training mean's values of profile metrics where ``duplicates`` were measured, metric -> [n].

        A replicate is scored on half of the cells, whose noise must not count against it alone.
        """
        return self._halved[1]

    @cached_property
    def _basis(self) -> Array:
        truth = self.truth
        rows = np.concatenate([truth.table.split.train, truth.table.split.control_train])
        return pca_basis(truth.table.screen, rows, truth.config.n_components, seed=truth.config.seed)[1]

    @cached_property
    def _halved(self) -> tuple[Values, dict[str, Array]]:
        n, drawn = len(self.truth.conditions), dict[str, dict[str, list[Array]]]()
        centre: dict[str, list[Array]] = {}
        for half, predictions in duplicates(self.truth):
            at = np.searchsorted(self.truth.conditions, half.conditions)
            profiles = ProfileMetrics(half)
            for name, value in profiles.scores(half.centre).items():
                centre.setdefault(name, []).append(_spread(value, at, n))
            for row, metrics in values_of(profiles, CellMetrics(half, self._basis), predictions).items():
                for name, value in metrics.items():
                    full = _spread(value, at, n)
                    if name in CALLED:
                        full[~self.cells.differential] = np.nan
                    drawn.setdefault(row, {}).setdefault(name, []).append(full)
        values = {row: {name: _nanmean(np.array(v)) for name, v in metrics.items()} for row, metrics in drawn.items()}
        return values, {name: _nanmean(np.array(v)) for name, v in centre.items()}


def values_of(profiles: ProfileMetrics, cells: CellMetrics, predictions: Mapping[str, Prediction]) -> Values:
    """Return row -> metric -> [n] of predictions, NaN where a value does not exist."""
    out = cells.scores(predictions) if predictions else {}
    return {row: profiles.scores(prediction.change) | out[row] for row, prediction in predictions.items()}


def _spread(value: Array, at: NDArray[np.int64], n: int) -> Array:
    """Return ``value`` at the places ``at`` of n, NaN elsewhere."""
    full = np.full(n, np.nan)
    full[at] = value
    return full


def _nanmean(x: Array) -> Array:
    known = np.isfinite(x)
    count = known.sum(axis=0)
    return np.where(count > 0, np.where(known, x, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
