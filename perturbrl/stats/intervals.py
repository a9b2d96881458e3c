"""Intervals over independent runs. The unit of replication is the seed: one trained run gives one number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` seeds and half the width of its interval (``None`` if it has none, see ``note``)."""

    mean: float
    half: float | None
    n: int
    note: str = ""

    @property
    def low(self) -> float:
        """Lower end of the interval; NaN without one."""
        return math.nan if self.half is None else self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end of the interval; NaN without one."""
        return math.nan if self.half is None else self.mean + self.half

    def excludes(self, value: float) -> bool:
        """Return whether there is an interval and ``value`` is outside it."""
        return self.half is not None and abs(self.mean - value) > self.half


@dataclass(frozen=True)
class Span:
    """A mean and both ends of its interval, which need not be symmetric; the ends are NaN without an interval."""

    mean: float
    low: float
    high: float


def check_level(level: float) -> None:
    """Raise ``ValueError`` unless ``level`` is between 0 and 1."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1, got {level}")


def mean_interval(values: Iterable[float], level: float = 0.95) -> Interval:
    """Return the mean over seeds with its two-sided Student t interval: mean +- t(n - 1) s / sqrt(n).

    Parameters
    ----------
    values
        One number for each seed. NaN is a missing value and does not count in ``n``.
    level
        Coverage of the interval, between 0 and 1.

    Returns
    -------
    Interval
        Without an interval if there are fewer than two values, or one is infinite.

    Raises
    ------
    ValueError
        ``level`` is not between 0 and 1.
    """
    check_level(level)
    x = np.asarray(list(values), dtype=np.float64)
    x = x[~np.isnan(x)]
    n = len(x)
    if n == 0:
        return Interval(math.nan, None, 0, "no value")
    if not np.isfinite(x).all():
        return Interval(float(x.sum()), None, n, "not finite: no interval")
    mean = float(x.mean())
    if n == 1:
        return Interval(mean, None, 1, "one seed: no interval")
    half = float(stdtrit(n - 1, 0.5 + level / 2) * x.std(ddof=1) / math.sqrt(n))
    return Interval(mean, half, n)


def t_test(values: Iterable[float]) -> float:
    """Return the two-sided p value of Student's t test of a mean against 0: the test of ``mean_interval``.

    1 where that has no interval. NaN is a missing value.
    """
    x = np.asarray(list(values), dtype=np.float64)
    interval = mean_interval(x)
    if interval.half is None:
        return 1.0
    spread = float(x[~np.isnan(x)].std(ddof=1))
    if spread == 0.0:
        return float(interval.mean == 0.0)
    return min(1.0, 2 * float(stdtr(interval.n - 1, -abs(interval.mean) * math.sqrt(interval.n) / spread)))
