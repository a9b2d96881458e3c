"""Advantage actor-critic (Mnih et al. 2016, arXiv 1602.01783, Algorithm S3), with all actors in step ("A2C").

As in Stable-Baselines3. Their actors are cells here: B = ``n_envs`` cells take T steps, then one step of RMSprop is
taken on all T x B transitions. Stable-Baselines3 has one environment by default, so it takes B times as many gradient
steps for the same number of environment steps: ``agent.n_envs=1 agent.rollout_steps=5`` repeats it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from perturbrl.agents.common.build import agent
from perturbrl.agents.common.losses import value_loss
from perturbrl.agents.common.recipe import Recipe
from perturbrl.agents.common.rollout import Log, Rollout
from perturbrl.agents.model.heads import Heads, Model, gradient
from perturbrl.agents.optim import network_optimiser
from perturbrl.agents.settings.a2c import A2CConfig
from perturbrl.rng import Streams


@agent("a2c", A2CConfig)
class A2C(Recipe[A2CConfig]):
    """One step of the optimiser on each rollout. Letters: S runs, M transitions; settings ``c`` are [S, 1]."""

    def __init__(self, configs: Sequence[A2CConfig], model: Model, streams: Streams) -> None:
        super().__init__(configs, model, streams)
        self.optimiser = network_optimiser(model, configs)
        self.stateful = {"": self.optimiser}

    def update(self, batch: Rollout, iteration: int) -> Log:
        """Improve every policy and value network on its batch."""
        if self.c.normalise_advantage:
            batch = batch.normalised()
        heads = self.model.heads(batch.obs, batch.action)
        loss, log = self.loss(heads, batch)
        gradient(loss, heads)
        scale = self.model.arithmetic.clip_scale(self.model.grad, self.c.max_grad_norm)
        self.optimiser.step(self.model.grad, scale=scale)  # eq. 1
        return log | {"explained_variance": batch.explained_variance()}

    def loss(self, heads: Heads, batch: Rollout) -> tuple[Tensor, Log]:
        """Return the loss of Algorithm S3 with the entropy of section 4, [S], and what to log.

        With ``gae_lambda`` = 1 the advantage is R - V of Algorithm S3: R are the rewards up to the end of the rollout,
        and beyond it the value network.
        """
        c = self.c
        policy = -(heads.log_prob * batch.advantage).mean(1)
        critic = value_loss(heads.value, batch.ret)
        loss = policy + c.vf_coef.squeeze(1) * critic - c.ent_coef.squeeze(1) * heads.entropy
        log = {"policy_loss": policy, "value_loss": critic, "entropy": heads.entropy, "loss": loss}
        return loss, {key: number.detach() for key, number in log.items()}
