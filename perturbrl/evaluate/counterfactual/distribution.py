"""Distances between populations of cells. Letters: N cells, K dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """Cells [N, K], and the mean distance of two different ones; what is compared often is measured once."""

    points: Array
    spread: float

    @classmethod
    def of(cls, points: Array) -> Sample:
        """Measure the spread; NaN for a single cell."""
        n = len(points)
        return cls(points, float(_distances(points, points).sum() / (n * (n - 1))) if n > 1 else float("nan"))


def energy_distance(a: Sample, b: Sample) -> float:
    """Return 2 E|x - y| - E|x - x'| - E|y - y'|, Euclidean, as a U-statistic.

    The U-statistic (pairs of two different cells) has mean 0 for equal populations, and so can be negative.
    """
    return float(2 * _distances(a.points, b.points).mean()) - a.spread - b.spread


def _distances(a: Array, b: Array) -> Array:
    square = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T
    if a is b:
        np.fill_diagonal(square, 0.0)
    return np.asarray(np.sqrt(np.maximum(square, 0.0)))
