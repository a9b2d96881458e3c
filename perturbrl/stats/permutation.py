"""A paired test over seeds, and a correction for multiple tests."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr

Array = NDArray[np.float64]
MOST_EXACT = 40  # seeds; half of them give 2^20 sums


def sign_flip_test(differences: ArrayLike) -> float:
    """Return the two-sided p value of the exact paired permutation test.

    It is the fraction of all 2^n assignments of signs whose sum is at least as extreme. For more than ``MOST_EXACT``
    seeds the t test is used instead. The smallest possible p is ``smallest_p(n)``.

    Parameters
    ----------
    differences
        Differences between paired seeds, shape [n].

    Returns
    -------
    float
        The p value, in [0, 1].

    Raises
    ------
    ValueError
        ``differences`` is empty, not one-dimensional, or not finite.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or not len(d) or not np.isfinite(d).all():
        raise ValueError(f"differences must be finite and at least one, got shape {d.shape}")
    n, size = len(d), float(np.abs(d).sum())
    observed = abs(float(d.sum())) - 1e-12 * size  # sums that are equal but for rounding count as equal
    if observed <= 0:
        return 1.0
    if n > MOST_EXACT:
        spread = float(d.std(ddof=1))
        t = abs(float(d.mean())) * math.sqrt(n) / spread if spread else math.inf
        return 2 * float(stdtr(n - 1, -t))
    # every sum of signed differences is one of the first half plus one of the second: count pairs, not sums
    first, second = _signed_sums(d[: n // 2]), np.sort(_signed_sums(d[n // 2 :]))
    above = len(second) - np.searchsorted(second, observed - first, side="left")
    below = np.searchsorted(second, -observed - first, side="right")
    return min(1.0, math.ldexp(float(above.sum() + below.sum()), -n))


def smallest_p(n: int) -> float:
    """Return the smallest two-sided p that ``sign_flip_test`` can give for n seeds: 2 / 2^n."""
    return float(min(1.0, 2.0 ** (1 - n)))


def least_units(tests: int, alpha: float) -> int:
    """Return the least n that can support a claim: that n differences of one sign give p <= alpha in a family of tests.

    That is the exact paired test at its best, ``smallest_p(n) * tests <= alpha``. A t test would give smaller p values
    to fewer units, but only by trusting the normal distribution where it cannot be checked.

    Parameters
    ----------
    tests
        Size of the family that Holm's correction covers.
    alpha
        Level of the test.
    """
    return next(n for n in itertools.count(2) if smallest_p(n) * tests <= alpha)


def _signed_sums(d: Array) -> Array:
    sums = np.zeros(1)
    for value in d:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def holm(p: ArrayLike) -> Array:
    """Return p values adjusted for multiple tests (Holm 1979, controls the family-wise error rate).

    Parameters
    ----------
    p
        The p values of a family of tests, shape [m].

    Returns
    -------
    ndarray
        Adjusted p values in the same order, shape [m].

    Raises
    ------
    ValueError
        A p value is not in [0, 1].
    """
    x = np.asarray(p, dtype=np.float64)
    if x.ndim != 1 or not ((x >= 0) & (x <= 1)).all():
        raise ValueError("p values must be a list of numbers in [0, 1]")
    m = len(x)
    order = np.argsort(x, kind="stable")
    adjusted = np.maximum.accumulate(x[order] * np.arange(m, 0, -1))
    out = np.empty(m)
    out[order] = np.minimum(adjusted, 1.0)
    return out
