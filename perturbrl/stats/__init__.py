"""Statistics over independent runs: intervals, aggregates, tests, and claims.

The unit of replication is the seed (or the split, if several were drawn): one trained run gives one number. The scores
of one trained policy on several perturbations are not replicates, because they share its seed.
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
