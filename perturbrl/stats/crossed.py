"""A mean over held-out sets (or seeds) and conditions at once. Letters: U units, P conditions, N values.

Two units may hold out the same condition and so share its effect; two conditions of a unit share that of its training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from perturbrl.stats.intervals import Interval, check_level

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CrossedMean:
    """A mean over U units and P conditions, its standard error and degrees of freedom; NaN where it has none."""

    mean: float
    error: float
    freedom: float
    units: int
    conditions: int

    def interval(self, level: float = 0.95) -> Interval:
        """Return the mean and its t interval; without one if there is a single unit or a single condition."""
        check_level(level)
        if math.isnan(self.error):
            return Interval(self.mean, None, self.units, "one unit or one condition: no interval")
        return Interval(self.mean, float(stdtrit(self.freedom, 0.5 + level / 2)) * self.error, self.units)

    @property
    def p(self) -> float:
        """Two-sided p value of the t test against 0; at most alpha where the interval of level 1 - alpha excludes 0.

        1 without a standard error.
        """
        if math.isnan(self.error):
            return 1.0
        if self.error == 0.0:
            return float(self.mean == 0.0)
        return min(1.0, 2.0 * float(stdtr(self.freedom, -abs(self.mean) / self.error)))

    def p_against_best(self, of: int) -> float:
        """Return the p value of a difference to the best of so many methods, chosen by the same scores.

        The best was lucky. To be better than it is to be better than it would be without luck; but to be worse than it
        is to be worse than any of them, which is as many tests.
        """
        return self.p if self.mean > 0 else min(1.0, of * self.p)


def crossed_mean(values: ArrayLike) -> CrossedMean:
    """Return the mean of values of units by conditions; both are random draws.

    The crossed bootstrap (whole rows and whole columns drawn anew; Owen 2007) has the variance V_U + V_P + V_N, with
    V_U from sums over rows, V_P over columns, V_N of single values. It counts the noise of a single value three times,
    so that a nominal 95 % covers up to 99.9 % where units share few conditions. Here it counts once: the variance
    is V_N + max(0, V_U - V_N) + max(0, V_P - V_N), each with the correction for its own number, and the quantile is
    that of t with min(U, P) - 1 degrees of freedom (after Cameron, Gelbach & Miller 2011). Where no condition is in two
    units (no unit has two conditions), units (conditions) are independent, and theirs is the usual t interval.

    Parameters
    ----------
    values
        Shape [U, P]; NaN where a unit does not hold out a condition. Empty rows and columns do not count.

    Returns
    -------
    CrossedMean
        The mean of all values present.

    Raises
    ------
    ValueError
        ``values`` is not [U, P] with a finite number in it, or one is infinite.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or np.isinf(x).any() or np.isnan(x).all():
        raise ValueError(f"values must be finite or NaN, [units, conditions], got shape {x.shape}")
    present = ~np.isnan(x)
    x, present = (part[present.any(axis=1)][:, present.any(axis=0)] for part in (x, present))
    mean, n = float(x[present].mean()), int(present.sum())
    units, conditions = x.shape
    if min(units, conditions) == 1:
        return CrossedMean(mean, math.nan, math.nan, units, conditions)  # spread of one kind, or none

    def made(variance: float, freedom: float) -> CrossedMean:
        return CrossedMean(mean, math.sqrt(variance), freedom, units, conditions)

    deviation = np.where(present, x - mean, 0.0) / n
    by_unit = _variance(deviation.sum(axis=1))
    by_condition = _variance(deviation.sum(axis=0))
    if present.sum(axis=0).max() == 1:
        return made(by_unit, units - 1)
    if present.sum(axis=1).max() == 1:
        return made(by_condition, conditions - 1)
    single = _variance(deviation[present])
    variance = single + max(0.0, by_unit - single) + max(0.0, by_condition - single)
    return made(variance, min(units, conditions) - 1)


def _variance(sums: Array) -> float:
    """Return the variance of a total of independent deviations, whose mean is 0."""
    return float(np.square(sums).sum()) * len(sums) / (len(sums) - 1)
