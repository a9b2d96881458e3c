"""Intervals for a proportion."""

from __future__ import annotations

import math

from scipy.special import ndtri

from perturbrl.stats.intervals import Span, check_level


def wilson(share: float, n: int, level: float = 0.95) -> Span:
    """Return a share of ``n`` independent trials with its score interval (Wilson 1927, JASA 22:209).

    Parameters
    ----------
    share
        The mean of n values in [0, 1]; where these are not all 0 or 1, the interval is wider than it need be.
    n
        The number of trials, at least 1.
    level
        Coverage of the interval, between 0 and 1.

    Raises
    ------
    ValueError
        ``share`` is not in [0, 1], ``n`` is below 1, or ``level`` is not between 0 and 1.
    """
    check_level(level)
    if n < 1 or not 0.0 <= share <= 1.0:
        raise ValueError(f"a share in [0, 1] of at least one trial is needed, got {share} of {n}")
    z = float(ndtri(0.5 + level / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Span(share, max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)))
