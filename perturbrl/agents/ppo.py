"""Proximal policy optimisation (Schulman et al. 2017), the arm "PPO" of arXiv 2510.13018."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from perturbrl.agents.common.build import agent
from perturbrl.agents.common.losses import approx_kl, clip_fraction, clipped_surrogate, importance_ratio, value_loss
from perturbrl.agents.common.recipe import Recipe
from perturbrl.agents.common.rollout import Log, Rollout
from perturbrl.agents.executors import choose
from perturbrl.agents.model.heads import Heads, Model, gradient
from perturbrl.agents.optim import network_optimiser
from perturbrl.agents.settings.ppo import PPOConfig
from perturbrl.rng import Streams


@agent("ppo", PPOConfig)
class PPO(Recipe[PPOConfig]):
    """Epochs of minibatch Adam on the clipped surrogate. Letters: S runs, M transitions; settings ``c`` are [S, 1]."""

    def __init__(self, configs: Sequence[PPOConfig], model: Model, streams: Streams) -> None:
        super().__init__(configs, model, streams)
        self.adam = network_optimiser(model, configs)
        self.stateful = {"": self.adam}
        self.executor = choose(self, PPO)
        self.executor_name = self.executor.name

    def update(self, batch: Rollout, iteration: int) -> Log:
        """Improve every policy and value network on its batch."""
        c, log = self.c, {}
        active = None if c.target_kl is None else self.all_runs()
        for epoch, order in enumerate(self.orders(batch, iteration, c.epochs)):
            shuffled = batch.reordered(order)
            if c.normalise_advantage:
                shuffled = shuffled.normalised(c.minibatch)
            logged = epoch in (0, c.epochs - 1)
            steps, active = self.executor.epoch(shuffled, active, logged)  # ``step`` on each minibatch
            if epoch == 0 and "clip_fraction" in steps:
                log["clip_fraction_first"] = steps["clip_fraction"][:, 0]
            log |= {key: values.mean(1) for key, values in steps.items()}
        return log | {"explained_variance": batch.explained_variance()}

    def step(self, batch: Rollout, active: Tensor | None) -> tuple[Log, Tensor | None]:
        """Take one Adam step; no step for runs that are not ``active`` [S] or whose KL exceeds 1.5 target_kl."""
        heads = self.model.heads(batch.obs, batch.action)
        loss, log = self.loss(heads, batch)
        gradient(loss, heads)
        if active is not None:
            active = active & (log["approx_kl"] <= 1.5 * self.c.target_kl)
        self.descend(active)
        return log, active

    def descend(self, active: Tensor | None) -> None:
        """Take a step of the optimiser down ``model.grad``, its norm limited, in the runs of a mask [S] (None: all)."""
        scale = self.model.arithmetic.clip_scale(self.model.grad, self.c.max_grad_norm)
        self.adam.step(self.model.grad, active, scale)

    def loss(self, heads: Heads, batch: Rollout) -> tuple[Tensor, Log]:
        """Return the loss of a minibatch, [S], and what to log."""
        ratio = importance_ratio(heads.log_prob, batch.log_prob)  # eq. 1
        return self.objective(ratio, heads.value, heads.entropy, batch)

    def objective(self, ratio: Tensor, value: Tensor, entropy: Tensor, batch: Rollout) -> tuple[Tensor, Log]:
        """Return the loss of eq. 8 from tensors; the native executor calls this for the numbers it logs.

        Parameters
        ----------
        ratio, value
            Importance ratios and values, [S, M].
        entropy
            Mean entropy over states, in nats, [S].
        batch
            The minibatch, for its advantages and returns.

        Returns
        -------
        loss
            To be minimised, [S].
        log
            Numbers to log, each [S].
        """  # eq. 8
        c = self.c
        surrogate, terms = self.surrogate(ratio, batch)
        critic = value_loss(value, batch.ret)
        loss = -surrogate + c.vf_coef.squeeze(1) * critic - c.ent_coef.squeeze(1) * entropy
        log = {"approx_kl": approx_kl(ratio)} | terms
        log |= {"value_loss": critic, "entropy": entropy, "surrogate": surrogate, "loss": loss}
        return loss, {key: number.detach() for key, number in log.items()}

    def surrogate(self, ratio: Tensor, batch: Rollout) -> tuple[Tensor, Log]:
        """Return what the policy maximises, [S], and what to log of it."""
        clip = self.c.clip
        log = {"clip_fraction": clip_fraction(ratio, clip)}
        return clipped_surrogate(ratio, batch.advantage, clip), log  # eq. 7
