"""Metrics of mean profiles. Letters: n conditions, G genes.

All take changes, mu_p - mu_0 [n, G] in log-normalised units, and ``used`` [n, G] that is False for genes left out (a
condition's own targets). The sources are named with each formula.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

VANISHING = 1e-6
"""A vector shorter than this part of the true one counts as zero: its direction is rounding noise."""


def pds(truth: Array, prediction: Array, groups: NDArray[np.int64], panel_free: Mask) -> Array:
    """Return the perturbation discrimination score by cosine distance (cell-eval2's convention), [n].

    1 - k/(m-1), where k counts the other truths of the same group (m conditions) that are nearer to the prediction,
    ties by half. A zero vector is at distance 1 from everything. ``panel_free`` [G] is False for every target of the
    panel. NaN where a condition is alone in its group, and everywhere if no gene is free.
    """
    out = np.full(len(truth), np.nan)
    if not panel_free.any():
        return out
    a, b = _unit(prediction[:, panel_free]), _unit(truth[:, panel_free])
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        if len(rows) > 1:
            distance = 1 - a[rows] @ b[rows].T
            to_truth = np.diagonal(distance)[:, None]
            k = (distance < to_truth).sum(axis=1) + 0.5 * ((distance == to_truth).sum(axis=1) - 1)
            out[rows] = 1 - k / (len(rows) - 1)
    return out


def pearson(truth: Array, prediction: Array, used: Mask) -> Array:
    """Return Pearson's correlation over the used genes, [n]; NaN where the prediction is (nearly) zero or constant."""
    x, y = np.where(used, truth, 0.0), np.where(used, prediction, 0.0)
    size = used.sum(axis=1)
    xc = np.where(used, x - (x.sum(axis=1) / size)[:, None], 0.0)
    yc = np.where(used, y - (y.sum(axis=1) / size)[:, None], 0.0)
    xx, yy, xy = (xc * xc).sum(axis=1), (yc * yc).sum(axis=1), (xc * yc).sum(axis=1)
    vanishing = (y * y).sum(axis=1) <= VANISHING**2 * (x * x).sum(axis=1)
    flat = (yy <= 1e-24 * (y * y).sum(axis=1)) | (xx <= 1e-24 * (x * x).sum(axis=1))
    undefined = vanishing | flat | (xx == 0) | (yy == 0)
    r = xy / np.sqrt(np.where(undefined, 1.0, xx) * np.where(undefined, 1.0, yy))
    return np.where(undefined, np.nan, np.clip(r, -1.0, 1.0))


def weights(scores: Array, used: Mask) -> Array:
    """Return (minmax |score|)^2 over the used genes, normalised to sum 1 (Mejia et al. 2025), [n, G].

    ``scores`` are t statistics; where all are alike every used gene weighs the same.
    """
    size = np.abs(scores)
    low = np.where(used, size, np.inf).min(axis=1, keepdims=True)
    high = np.where(used, size, -np.inf).max(axis=1, keepdims=True)
    spread = high - low
    scaled = np.where(used, (size - low) / np.where(spread > 0, spread, 1.0), 0.0) ** 2
    scaled = np.where(spread > 0, scaled, used)
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))


def weighted_mse(truth: Array, prediction: Array, weight: Array) -> Array:
    """Return sum_g w_g (mu^_g - mu_g)^2, [n]."""
    return np.asarray((weight * np.square(prediction - truth)).sum(axis=1))


def weighted_r2(truth: Array, prediction: Array, weight: Array) -> Array:
    """Return 1 - sum w (y - y^)^2 / sum w (y - mean_w y)^2 (Mejia et al. 2025: y = mu - m), [n]; NaN for constant y.

    ``weight`` [n, G] sums to 1 over the genes.
    """
    centre = (weight * truth).sum(axis=1, keepdims=True)
    total = (weight * np.square(truth - centre)).sum(axis=1)
    left = weighted_mse(truth, prediction, weight)
    return np.where(total > 0, 1 - left / np.where(total > 0, total, 1.0), np.nan)


def error_terms(truth: Array, prediction: Array, noise: Array, used: Mask) -> Array:
    """Return (||mu^ - mu||^2 - C) / G over the used genes, [n]: the squared error that sampling does not explain.

    ``noise`` [n] is C, the expected squared error of the true change by sampling of cells (the delete-one jackknife of
    a mean is the sum over genes of s^2/n), that of the condition plus that of its controls (after cell-eval2).
    """
    return np.asarray((np.where(used, np.square(prediction - truth), 0.0).sum(axis=1) - noise) / used.sum(axis=1))


def top_distance(truth: Array, prediction: Array, control: Array, used: Mask, n_top: int) -> Array:
    """Return ||mu^ - mu|| over the ``n_top`` used genes of highest ``control`` mean (Ahlmann-Eltze 2025), [n]."""
    n_top = min(n_top, truth.shape[1])
    ranked = np.argsort(np.where(used, -control, np.inf), axis=1, kind="stable")[:, :n_top]
    error = np.where(used, np.square(prediction - truth), 0.0)
    return np.asarray(np.sqrt(np.take_along_axis(error, ranked, axis=1).sum(axis=1)))


def mean_over(values: Array, used: Mask) -> Array:
    """Return the mean of ``values`` [n, G] over the used genes, [n]."""
    return np.asarray(np.where(used, values, 0.0).sum(axis=1) / used.sum(axis=1))


def mean_cosine(a: Array, b: Array, used: Mask) -> float:
    """Return the mean over conditions of the cosine between rows (Systema: of changes with the mean change)."""
    return float((_unit(np.where(used, a, 0.0)) * _unit(np.where(used, b, 0.0))).sum(axis=1).mean())


def _unit(x: Array) -> Array:
    length = np.sqrt(np.square(x).sum(axis=1, keepdims=True))
    return np.asarray(x / np.where(length > 0, length, 1.0))
