"""Does TRPO learn as well with a share of the batch in its Fisher products? By an equivalence test on ``env=paper``.

Without CRISPR events: with them so few steps teach nothing that stands out of the noise, and there is nothing to lose.
"""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from .helpers import cell_table, make_learner

SEEDS = range(12)
ROLLOUTS = 24  # of 1024 steps
MARGIN = 0.1  # of what training gains with the whole batch


def returns(fraction: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean return of the episodes of the first and of the last four rollouts, one number a seed."""
    settings = {"rollout_steps": 1024, "n_envs": 16, "minibatch": 128, "lr": 1e-3, "cg_iterations": 10}
    table = cell_table(n_cells=300, n_features=16, n_clusters=4)
    learner = make_learner(
        "trpo",
        SEEDS,
        agent=settings | {"total_steps": 1024 * ROLLOUTS, "fisher_fraction": fraction},
        policy={"hidden": [32, 32]},
        horizon=32,
        table=table,
        perturb_prob=0.0,
    )
    curve = torch.stack([learner.iterate(i)["return_mean"] for i in range(learner.n_iterations)])
    return curve[:4].mean(0), curve[-4:].mean(0)


@pytest.mark.slow
def test_returns_are_the_same_with_a_half_a_fifth_and_a_tenth_of_the_batch() -> None:
    first, whole = returns(1.0)
    gain = (whole - first).mean()
    assert (whole > first).all() and gain > 2 * first.std()  # or there is nothing to lose
    for fraction in (0.5, 0.2, 0.1):
        difference = (returns(fraction)[1] - whole) / gain
        interval = stats.t.interval(0.9, len(SEEDS) - 1, difference.mean(), stats.sem(difference))  # two tests at 5 %
        print(
            f"fisher_fraction={fraction}: {difference.mean():+.3f} of the gain [{interval[0]:+.3f}, {interval[1]:+.3f}]"
        )
        assert interval[0] > -MARGIN and interval[1] < MARGIN, (fraction, interval)
