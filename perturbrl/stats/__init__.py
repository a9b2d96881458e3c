"""Statistics over independent runs: intervals, aggregates, tests, and the words that a report may use.

The unit of replication is the seed (or the split, where several were drawn): one trained run, one number. The numbers
of one trained policy on many perturbations are no replicates: they share its seed.
"""

from __future__ import annotations

from perturbrl.stats.aggregates import iqm, optimality_gap, probability_of_improvement
from perturbrl.stats.bootstrap import crossed_bootstrap, stratified_bootstrap
from perturbrl.stats.claims import Claim, claim
from perturbrl.stats.intervals import Interval, Span, mean_interval
from perturbrl.stats.permutation import holm, sign_flip_test, smallest_p

__all__ = [
    "Claim",
    "Interval",
    "Span",
    "claim",
    "crossed_bootstrap",
    "holm",
    "iqm",
    "mean_interval",
    "optimality_gap",
    "probability_of_improvement",
    "sign_flip_test",
    "smallest_p",
    "stratified_bootstrap",
]
