"""Aggregates over runs and tasks after Agarwal et al. 2021 (rliable). Letters: N runs, M other runs, K tasks.

A task is trained on separately (a data set, a split). Scores of different tasks must be on a common scale.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def iqm(scores: ArrayLike) -> NDArray[np.float64]:
    """Return the interquartile mean over the last two axes.

    The lowest and the highest quarter of the N K numbers are dropped (their count is rounded down).

    Parameters
    ----------
    scores
        Shape [..., N, K].

    Returns
    -------
    ndarray
        Shape [...].
    """
    x = np.asarray(scores, dtype=np.float64)
    x = np.sort(x.reshape(*x.shape[:-2], -1), axis=-1)
    cut = x.shape[-1] // 4
    return np.asarray(x[..., cut : x.shape[-1] - cut].mean(axis=-1))


def optimality_gap(scores: ArrayLike, gamma: float = 1.0) -> NDArray[np.float64]:
    """Return the mean shortfall of scores from a target: gamma - mean(min(score, gamma)).

    Parameters
    ----------
    scores
        Shape [..., N, K].
    gamma
        The target; higher scores count as ``gamma``.

    Returns
    -------
    ndarray
        Shape [...].
    """
    return np.asarray(gamma - np.minimum(np.asarray(scores, dtype=np.float64), gamma).mean(axis=(-2, -1)))


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """Return the mean over tasks of P(X > Y) + P(X = Y) / 2.

    Parameters
    ----------
    x
        Scores of the first algorithm, shape [N, K].
    y
        Scores of the second algorithm, shape [M, K], on the same tasks.

    Returns
    -------
    float
        In [0, 1]; 0.5 if neither is better.

    Raises
    ------
    ValueError
        The two have different numbers of tasks.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"scores of shape {a.shape} and {b.shape}; expected [runs, tasks] with the same tasks")
    return float(((a[:, None] > b[None]) + 0.5 * (a[:, None] == b[None])).mean())
