"""Claims: the only words by which a report compares two methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from perturbrl.stats.intervals import Interval, Span

Word = Literal["better", "no evidence", "worse"]


@dataclass(frozen=True)
class Claim:
    """The conclusion ``word`` on ``difference`` (positive: better), with its ``p`` after Holm's correction."""

    word: Word
    difference: Interval | Span
    p: float


def claim(difference: Interval | Span, p: float, alpha: float = 0.05) -> Claim:
    """Return ``better`` or ``worse`` only if the interval excludes 0 and the corrected p is at most alpha.

    Parameters
    ----------
    difference
        The method minus the best simple baseline, paired by seed; positive means that the method is better.
    p
        The p value, corrected (``holm``) over a family of tests that was declared before the comparison.
    alpha
        Level of the test.

    Returns
    -------
    Claim
        ``better``, ``worse`` or ``no evidence``.

    Raises
    ------
    ValueError
        ``p`` is not in [0, 1].
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p must lie in [0, 1], got {p}")
    word: Word = "no evidence"
    if p <= alpha and difference.low > 0:
        word = "better"
    elif p <= alpha and difference.high < 0:
        word = "worse"
    return Claim(word, difference, p)
