"""Statistics over independent runs: intervals, aggregates, tests, and claims.

The unit of replication is the seed (or what was held out, if that differs): one trained run gives one number. The
scores of one trained policy on several perturbations are not replicates, because they share its seed; nor are those of
several policies on one perturbation, because they share its effect (``crossed_mean``).
"""

from __future__ import annotations

from perturbrl.stats.aggregates import iqm, optimality_gap, probability_of_improvement
from perturbrl.stats.bootstrap import stratified_bootstrap
from perturbrl.stats.claims import Claim, claim
from perturbrl.stats.crossed import CrossedMean, crossed_mean
from perturbrl.stats.intervals import Interval, Span, mean_interval, t_test
from perturbrl.stats.permutation import holm, least_units, sign_flip_test, smallest_p
from perturbrl.stats.proportions import wilson

__all__ = [
    "Claim",
    "CrossedMean",
    "Interval",
    "Span",
    "claim",
    "crossed_mean",
    "holm",
    "iqm",
    "least_units",
    "mean_interval",
    "optimality_gap",
    "probability_of_improvement",
    "sign_flip_test",
    "smallest_p",
    "stratified_bootstrap",
    "t_test",
    "wilson",
]
