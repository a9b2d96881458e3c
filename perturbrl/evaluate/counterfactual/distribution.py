"""Distances between populations of cells. Letters: N cells, K dimensions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def energy_distance(a: Array, b: Array) -> float:
    """Return 2 E|x - y| - E|x - x'| - E|y - y'| of samples [N, K], Euclidean, as a U-statistic.

    The U-statistic (pairs of two different cells) has mean 0 for equal populations, and so can be negative.
    """
    n, m = len(a), len(b)
    within = _distances(a, a).sum() / (n * (n - 1)) + _distances(b, b).sum() / (m * (m - 1))
    return float(2 * _distances(a, b).mean() - within)


def _distances(a: Array, b: Array) -> Array:
    square = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T
    if a is b:
        np.fill_diagonal(square, 0.0)
    return np.asarray(np.sqrt(np.maximum(square, 0.0)))
