"""Metrics of mean changes, for all conditions of a truth at once. Letters: n conditions, G genes."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from perturbrl.effects import profile_metrics
from perturbrl.effects.observed import ObservedEffects

Array = NDArray[np.float64]


class ProfileMetrics:
    """Scores changes [n, G] against a truth; denominators are shared, and depend on the truth and on train only.

    A ratio of sums over conditions is given as value_p = numerator_p / mean denominator, so that its mean over
    conditions is the ratio of sums.
    """

    def __init__(self, truth: ObservedEffects) -> None:
        self._truth = truth
        _, self._groups = np.unique(np.array(truth.contexts), return_inverse=True)
        self._mean_error = self.weighted_error(truth.centre)
        self._effect = profile_metrics.error_terms(truth.change, np.zeros_like(truth.change), truth.noise, truth.used)

    def weighted_error(self, change: Array) -> Array:
        """Return wMSE of each condition, [n]."""
        return profile_metrics.weighted_mse(self._truth.change, change, self._truth.weights)

    @cached_property
    def resistant(self) -> NDArray[np.bool_]:
        """Conditions that the training mean explains least, [n]: wMSE(train mean)/wMSE(no change) above its median."""
        ratio = self._mean_error / np.maximum(self.weighted_error(np.zeros_like(self._truth.change)), 1e-300)
        return np.asarray(ratio > np.median(ratio))

    def scores(self, change: Array) -> dict[str, Array]:
        """Return the value of each metric for each condition, metric -> [n]; NaN where it is undefined."""
        truth, t = self._truth, self._truth.change
        used = truth.used
        error = np.square(change - t)
        mse = profile_metrics.mean_over(error, used)
        numerator = profile_metrics.error_terms(t, change, truth.noise, used)
        equal = used / used.sum(axis=1, keepdims=True)
        return {
            "pds_cosine": profile_metrics.pds(t, change, self._groups, truth.panel_free),
            "pearson_delta_pert": profile_metrics.pearson(t - truth.centre, change - truth.centre, used),
            "wmse_ratio": self.weighted_error(change) / _positive(self._mean_error.mean()),
            "wr2_delta": profile_metrics.weighted_r2(t - truth.centre, change - truth.centre, truth.weights),
            "mse_norm": numerator / _positive(self._effect.mean()),
            "l2_top": profile_metrics.top_distance(t, change, truth.control, used, truth.config.n_top),
            "mse": mse,
            "rmse": np.sqrt(mse),
            "mae": profile_metrics.mean_over(np.abs(change - t), used),
            "r2_delta": profile_metrics.weighted_r2(t, change, equal),
            "pearson_delta_ctrl": profile_metrics.pearson(t, change, used),
        }


def _positive(value: float) -> float:
    """Return ``value``, or NaN where it is no scale to measure by."""
    return value if value > 0 else float("nan")
