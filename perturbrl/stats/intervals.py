"""Intervals over independent runs. The unit of replication is the seed: one trained run, one number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` seeds and half the width of its interval (``None`` where there is none; ``note`` says why)."""

    mean: float
    half: float | None
    n: int
    note: str = ""

    @property
    def low(self) -> float:
        """Lower end of the interval; NaN where there is none."""
        return math.nan if self.half is None else self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end of the interval; NaN where there is none."""
        return math.nan if self.half is None else self.mean + self.half

    def excludes(self, value: float) -> bool:
        """Whether there is an interval and ``value`` lies outside it."""
        return self.half is not None and abs(self.mean - value) > self.half


@dataclass(frozen=True)
class Span:
    """A mean and the two ends of its interval, which need not lie at equal distances; NaN where there is none."""

    mean: float
    low: float
    high: float


def check_level(level: float) -> None:
    """Raise ``ValueError`` for a level that is not between 0 and 1."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1, got {level}")


def mean_interval(values: Iterable[float], level: float = 0.95) -> Interval:
    """Return the mean of one number a seed with its two-sided Student t interval: mean +- t(n - 1) s / sqrt(n).

    NaN stands for a missing value and is left out of ``n``. One value has no interval: it says nothing about spread.

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
