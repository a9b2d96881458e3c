"""PPO as the code released with arXiv 2510.13018 v2 really runs it after TRPO: one optimiser step a rollout.

It reads ``target_kl`` from a key that TRPO does not log, and gets 0. Stable-Baselines3 ends an update as soon as the KL
exceeds 1.5 target_kl: at the first minibatch the policy has not moved and the KL is 0, at the second it is positive.
So of every update the first step remains. For comparison with ``ppo_penalty``, the method as stated.
"""

from __future__ import annotations

from torch import Tensor

from perturbrl.agents.common.build import agent
from perturbrl.agents.common.losses import importance_ratio, normalise, surrogate, value_loss
from perturbrl.agents.common.recipe import LossRecipe
from perturbrl.agents.common.rollout import Log, Rollout
from perturbrl.agents.model.heads import Heads
from perturbrl.agents.settings.ppo_released import PPOReleasedConfig


@agent("ppo_released", PPOReleasedConfig)
class PPOReleased(LossRecipe[PPOReleasedConfig]):
    """One step of Adam on the surrogate, for S runs; settings ``c`` are [S, 1]. Equations as in ``ppo``."""

    def loss(self, heads: Heads, batch: Rollout) -> Tensor:
        """Return the loss of a minibatch, [S]."""
        c = self.c
        ratio = importance_ratio(heads.log_prob, batch.log_prob)  # eq. 1
        advantage = normalise(batch.advantage) if c.normalise_advantage else batch.advantage
        critic = c.vf_coef.squeeze(1) * value_loss(heads.value, batch.ret)
        unclipped = surrogate(ratio, advantage)  # eq. 7 while the ratio is 1
        loss: Tensor = -unclipped + critic - c.ent_coef.squeeze(1) * heads.entropy  # eq. 8
        return loss

    def update(self, batch: Rollout, iteration: int) -> Log:
        """Take the first step of the first epoch."""
        (order,) = self.orders(batch, iteration, 1)
        first = next(batch.reordered(order).minibatches(self.c.minibatch))
        log, _ = self.step(first, None)
        critic = {"value_loss": value_loss(batch.value, batch.ret), "explained_variance": batch.explained_variance()}
        return log | critic
