"""REINFORCE leave-one-out (Ahmadian et al. 2024, "Back to basics", arXiv 2402.14740; Kool et al. 2019).

A group are K episodes from the same start; an episode's baseline is the mean return of the other K - 1. There is no
critic: the value network stays as it was drawn. Evaluation acts with the policy alone, so nothing of it is missing.
Their reward has a KL penalty to a pretrained model; without one there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from perturbrl.agents.common.build import agent
from perturbrl.agents.common.groups import Episodes, Groups
from perturbrl.agents.common.losses import leave_one_out
from perturbrl.agents.common.recipe import LossRecipe
from perturbrl.agents.common.rollout import Log, Rollout
from perturbrl.agents.model.heads import Heads, Model
from perturbrl.agents.settings.episodes import RLOOConfig
from perturbrl.rng import Streams


@agent("rloo", RLOOConfig)
class RLOO(LossRecipe[RLOOConfig]):
    """One pass over whole episodes; the policy gradient with a leave-one-out baseline."""

    trains_critic = False

    def __init__(self, configs: Sequence[RLOOConfig], model: Model, streams: Streams) -> None:
        super().__init__(configs, model, streams)
        self.groups = Groups(self.c.group, leave_one_out, by_length=False)

    def update(self, batch: Rollout, iteration: int) -> Log:
        """Improve every policy on its episodes."""
        return super().update(batch, iteration) | {"advantage_std": batch.advantage.std(1)}

    def loss(self, heads: Heads, batch: Rollout) -> Tensor:
        """Return -E[(R_i - mean of the other returns) log pi(a|s)], [S].

        The printed estimator adds up the steps of an episode; this is it divided by the mean length of the episodes.
        """
        assert isinstance(batch, Episodes)
        return -(batch.weight * batch.advantage * heads.log_prob).mean(1)
