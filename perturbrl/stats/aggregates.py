"""Aggregates over runs and tasks after Agarwal et al. 2021 (rliable). Letters: N runs, K tasks, M thresholds.

A task is something that is trained on separately (a data set, a split), its scores brought to a common scale first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def iqm(scores: ArrayLike) -> NDArray[np.float64]:
    """Return the interquartile mean over the last two axes, [..., N, K] -> [...].

    The lowest and the highest quarter of the N K numbers are dropped (rounded down to whole numbers of them).
    """
    x = np.asarray(scores, dtype=np.float64)
    x = np.sort(x.reshape(*x.shape[:-2], -1), axis=-1)
    cut = x.shape[-1] // 4
    return np.asarray(x[..., cut : x.shape[-1] - cut].mean(axis=-1))


def optimality_gap(scores: ArrayLike, gamma: float = 1.0) -> NDArray[np.float64]:
    """Return by how much scores fall short of ``gamma``: gamma - mean(min(score, gamma)), [..., N, K] -> [...]."""
    return np.asarray(gamma - np.minimum(np.asarray(scores, dtype=np.float64), gamma).mean(axis=(-2, -1)))


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """Return the mean over tasks of P(X > Y) + P(X = Y) / 2 for runs of x [N, K] and of y [M, K].

    Raises
    ------
    ValueError
        The two have different numbers of tasks.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"scores of shape {a.shape} and {b.shape}; expected [runs, tasks] with the same tasks")
    return float(((a[:, None] > b[None]) + 0.5 * (a[:, None] == b[None])).mean())
