"""Percentile bootstraps. Letters: N runs (seeds), K tasks, P perturbations, R repetitions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perturbrl.stats.intervals import Span, check_level

Array = NDArray[np.float64]
REPETITIONS = 2000
_BLOCK = 4_000_000  # numbers resampled at a time; limits memory


def stratified_bootstrap(
    scores: ArrayLike,
    statistic: Callable[[Array], Array],
    generator: np.random.Generator,
    level: float = 0.95,
    repetitions: int = REPETITIONS,
) -> Span:
    """Return a statistic of scores and its percentile interval; runs are resampled within each task.

    After Agarwal et al. 2021 (rliable). The runs of each column are resampled independently. Therefore the columns must
    not be perturbations on which the same policies are scored: these share the effect of the seed, and a nominal 95 %
    interval then covers less than half the time. Use ``crossed_bootstrap`` for them.

    Parameters
    ----------
    scores
        Shape [N, K]; each column has its own runs.
    statistic
        Maps [..., N, K] to [...], such as ``iqm``.
    generator
        Draws the samples.
    level
        Coverage of the interval, between 0 and 1.
    repetitions
        R, the number of samples.

    Returns
    -------
    Span
        The statistic of ``scores`` and both ends of its interval.

    Raises
    ------
    ValueError
        ``scores`` is not [N, K] with numbers, or ``level`` is not between 0 and 1.
    """
    check_level(level)
    x = np.asarray(scores, dtype=np.float64)
    if x.ndim != 2 or not x.size or not np.isfinite(x).all():
        raise ValueError(f"scores must be finite and [runs, tasks], got shape {x.shape}")
    n, k = x.shape
    draws: list[Array] = []
    remaining = repetitions
    while remaining:
        block = min(remaining, max(1, _BLOCK // x.size))
        rows = generator.integers(n, size=(block, n, k))
        draws.append(statistic(x[rows, np.arange(k)]))
        remaining -= block
    return _span(float(statistic(x)), np.concatenate(draws), level)


def crossed_bootstrap(
    values: ArrayLike,
    generator: np.random.Generator,
    level: float = 0.95,
    repetitions: int = REPETITIONS,
) -> Span:
    """Return the mean of values and its percentile interval; seeds and perturbations are both resampled.

    Whole rows and whole columns are resampled, so that the width includes the effect of a seed on all perturbations and
    of a perturbation on all seeds (Owen 2007). With few seeds the interval is too narrow: a nominal 95 % covers about
    88, 93 and 95 % for 3, 5 and 10 seeds.

    Parameters
    ----------
    values
        Shape [N, P]: seeds by perturbations. NaN is a missing value.
    generator
        Draws the samples.
    level
        Coverage of the interval, between 0 and 1.
    repetitions
        R, the number of samples.

    Returns
    -------
    Span
        The mean of ``values`` and both ends of its interval.

    Raises
    ------
    ValueError
        ``values`` is not [N, P] or all NaN, or ``level`` is not between 0 and 1.
    """
    check_level(level)
    x = np.asarray(values, dtype=np.float64)
    present = ~np.isnan(x)
    if x.ndim != 2 or not present.any():
        raise ValueError(f"values must be [seeds, perturbations] with a number in them, got shape {x.shape}")
    n, p = x.shape
    filled = np.where(present, x, 0.0)
    seeds = generator.multinomial(n, np.full(n, 1 / n), size=repetitions).astype(np.float64)
    perturbations = generator.multinomial(p, np.full(p, 1 / p), size=repetitions).astype(np.float64)
    total = ((seeds @ filled) * perturbations).sum(axis=1)
    count = ((seeds @ present) * perturbations).sum(axis=1)
    draws = count > 0
    return _span(float(x[present].mean()), total[draws] / count[draws], level)


def _span(mean: float, draws: Array, level: float) -> Span:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Span(mean, float(low), float(high))
