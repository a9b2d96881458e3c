"""PPO with an adaptive KL penalty (Schulman et al. 2017, section 4, whose equation numbers these are).

The second stage of ``agent=ppo_kl``, which is the method that arXiv 2510.13018 v2 states. Differs from ``ppo`` in the
loss: no clip, but beta KL(old || new), and beta follows the KL of the updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from perturbrl.agents.common.build import agent
from perturbrl.agents.common.losses import importance_ratio, normalise, surrogate, value_loss
from perturbrl.agents.common.natural import mean_kl
from perturbrl.agents.common.recipe import LossRecipe, Recipe
from perturbrl.agents.common.rollout import Log, Rollout
from perturbrl.agents.model.heads import Heads, Model
from perturbrl.agents.settings.ppo_penalty import PPOPenaltyConfig
from perturbrl.rng import Streams

TOLERANCE, FACTOR = 1.5, 2.0  # of the rule for beta
LEAST, MOST = 2.0**-30, 2.0**30  # of beta, so that it comes back after any number of halvings


@agent("ppo_penalty", PPOPenaltyConfig)
class PPOPenalty(LossRecipe[PPOPenaltyConfig]):
    """Epochs of minibatch Adam on the penalised surrogate, for S runs; settings ``c`` are [S, 1].

    ``beta`` [S] is the weight of the KL in each run. ``measured`` [S] sums the textbook's KL of the updates of the
    stage before, and ``count`` [S] counts them.
    """

    def __init__(self, configs: Sequence[PPOPenaltyConfig], model: Model, streams: Streams) -> None:
        super().__init__(configs, model, streams)
        averaged = self.c.kl == "per_dimension" and model.actions.kind == "box"
        self.kl_scale = 1 / model.actions.size if averaged else 1.0  # as in ``trpo``
        self.beta = self.c.beta.squeeze(1).clone()
        self.measured, self.count = torch.zeros_like(self.beta), torch.zeros_like(self.beta)
        self.theta_old = model.theta.clone()

    def loss(self, heads: Heads, batch: Rollout) -> Tensor:
        """Return the loss of a minibatch, [S]."""
        c = self.c
        ratio = importance_ratio(heads.log_prob, batch.log_prob)
        advantage = normalise(batch.advantage) if c.normalise_advantage else batch.advantage
        penalised = surrogate(ratio, advantage) - self.beta * self.kl_scale * heads.kl  # eq. 8
        critic = c.vf_coef.squeeze(1) * value_loss(heads.value, batch.ret)
        loss: Tensor = -penalised + critic - c.ent_coef.squeeze(1) * heads.entropy  # eq. 9
        return loss

    def heads(self, batch: Rollout) -> Heads:
        """Evaluate the networks on a minibatch, with the KL from the policy that collected it."""
        with torch.no_grad():
            old, _ = self.model.policy(batch.obs, self.theta_old)
        return self.model.heads(batch.obs, batch.action, old=old)

    def update(self, batch: Rollout, iteration: int) -> Log:
        """Improve every policy and value network on its batch, then adapt beta to the KL of this update."""
        self.theta_old.copy_(self.model.theta)
        log = super().update(batch, iteration) | {"beta": self.beta.clone(), "kl_target": self.target}
        with torch.no_grad():
            old, new = (self.model.policy(batch.obs, theta)[0] for theta in (self.theta_old, self.model.theta))
            kl = mean_kl(old, new, self.kl_scale)
        self.adapt(kl)
        critic = {"value_loss": value_loss(batch.value, batch.ret), "explained_variance": batch.explained_variance()}
        return log | {"kl": kl} | critic

    def adapt(self, kl: Tensor) -> None:
        """Double or halve beta for the next update where the KL, d [S] in nats, has left the range around d_targ."""
        d, target, beta = kl, self.target, self.beta
        beta = torch.where(d < target / TOLERANCE, self.beta / FACTOR, beta)  # the two lines after eq. 8
        beta = torch.where(d > target * TOLERANCE, self.beta * FACTOR, beta)
        self.beta = beta.clamp(LEAST, MOST)

    @property
    def target(self) -> Tensor:
        """d_targ, [S]: the mean KL of the stage before, in the units of ``kl``; where there is none, the config's."""
        mean = self.kl_scale * self.measured / self.count.clamp(min=1)
        return torch.where(mean > 0, mean, self.c.kl_target.squeeze(1))

    def watch(self, before: Recipe[Any], log: Log) -> None:
        """Add the KL that the stage before logs, as TRPO does; its ``kl_scale`` tells the units."""
        if self.c.measure and "kl" in log:
            self.measured += log["kl"] / getattr(before, "kl_scale", 1.0)
            self.count += 1

    def state(self) -> dict[str, Tensor]:
        """Return the tensors of the optimiser and of the rule for beta, each with a leading axis S."""
        return super().state() | {"beta": self.beta, "measured": self.measured, "count": self.count}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        super().load_state(state)
        self.beta, self.measured, self.count = (state[name].clone() for name in ("beta", "measured", "count"))
