"""What the rows of one truth share, computed once: many policies are scored beside the same baselines and oracles."""

from __future__ import annotations

import weakref
from collections.abc import Mapping

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

_JUDGES: weakref.WeakKeyDictionary[ObservedEffects, Judge] = weakref.WeakKeyDictionary()


def judge_of(truth: ObservedEffects) -> Judge:
    """Return the judge of ``truth``, the same for as long as the truth lives."""
    if truth not in _JUDGES:
        _JUDGES[truth] = Judge(truth)
    return _JUDGES[truth]


class Judge:
    """Values of metrics for each of n conditions; those of a ``Prediction`` are kept for as long as it lives."""

    def __init__(self, truth: ObservedEffects) -> None:
        # a proxy: the judge must not keep its truth alive
        self._truth: ObservedEffects = weakref.proxy(truth)
        rows = np.concatenate([truth.table.split.train, truth.table.split.control_train])
        _, self._basis = pca_basis(truth.table.screen, rows, truth.config.n_components, seed=truth.config.seed)
        self.profiles = ProfileMetrics(self._truth)
        self.cells = CellMetrics(self._truth, self._basis)
        self._scored: weakref.WeakKeyDictionary[Prediction, tuple[dict[str, Array], int]] = weakref.WeakKeyDictionary()
        self._oracles: Values | None = None
        self._centre: dict[str, Array] = {}

    def values(self, predictions: Mapping[str, Prediction]) -> Values:
        """Return row -> metric -> [n]; NaN where a value does not exist."""
        new = {row: prediction for row, prediction in predictions.items() if prediction not in self._scored}
        for row, values in values_of(self.profiles, self.cells, new).items():
            self._scored[new[row]] = values, self.cells.short.pop(row, 0)
        return {row: self._scored[prediction][0] for row, prediction in predictions.items()}

    def short(self, prediction: Prediction) -> int:
        """Return for how many conditions a scored prediction gave fewer cells than there are test cells."""
        return self._scored[prediction][1]

    def oracles(self) -> Values:
        """Return the values of both duplicates, averaged over the halvings; NaN where a condition cannot be halved.

        Something must have been scored before: only then it is known where the truth has differential genes.
        """
        if self._oracles is None:
            self._oracles = self._halved()
        return self._oracles

    def halved_centre(self) -> Mapping[str, Array]:
        """Return the training mean's values of profile metrics where ``oracles`` were measured, metric -> [n].

        A replicate is judged by half of the cells, whose noise must not count against it alone.
        """
        self.oracles()
        return self._centre

    def _halved(self) -> Values:
        n, drawn = len(self._truth.conditions), dict[str, dict[str, list[Array]]]()
        centre: dict[str, list[Array]] = {}
        for half, predictions in duplicates(self._truth):
            at = np.searchsorted(self._truth.conditions, half.conditions)
            profiles = ProfileMetrics(half)
            for name, value in profiles.scores(half.centre).items():
                centre.setdefault(name, []).append(_spread(value, at, n))
            for row, metrics in values_of(profiles, CellMetrics(half, self._basis), predictions).items():
                for name, value in metrics.items():
                    full = _spread(value, at, n)
                    if name in CALLED:
                        full[~self.cells.differential] = np.nan
                    drawn.setdefault(row, {}).setdefault(name, []).append(full)
        self._centre = {name: _nanmean(np.array(v)) for name, v in centre.items()}
        return {row: {name: _nanmean(np.array(v)) for name, v in metrics.items()} for row, metrics in drawn.items()}


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
