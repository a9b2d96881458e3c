"""The only words in which a report says who is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from perturbrl.stats.intervals import Interval, Span

Word = Literal["better", "no evidence", "worse"]


@dataclass(frozen=True)
class Claim:
    """``word`` on ``difference`` (positive: better), whose test gave ``p`` after Holm's correction."""

    word: Word
    difference: Interval | Span
    p: float


def claim(difference: Interval | Span, p: float, alpha: float = 0.05) -> Claim:
    """Say ``better`` or ``worse`` only where the interval excludes 0 and the corrected p is at most alpha.

    ``p`` is corrected over the family declared beforehand (``holm``); ``difference`` is ours minus that of the best
    simple baseline, paired by seed, its sign such that more is better.

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
