"""Behaviour cloning as a first stage: the mean of a policy learns the actions that its task demonstrates.

Supervised regression on states in which the demonstrator acts (Pomerleau 1991, Efficient training of artificial neural
networks for autonomous navigation). Letters: S runs, A action size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor, zeros_like

from perturbrl.agents.learner import Stage, same
from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.agents.model.distributions import Gaussian
from perturbrl.agents.optim import Adam
from perturbrl.agents.rollout import Rollout, reorder
from perturbrl.config import require
from perturbrl.envs.base import BatchedEnv
from perturbrl.rng import Streams


class CloneUpdate:
    """Epochs of minibatch Adam on E |mean - a|^2, the actions a those of the batch; the value network stands still."""

    def __init__(
        self, configs: Sequence[Any], model: ActorCritic, streams: Streams, epochs: int, minibatch: int
    ) -> None:
        self.model, self.streams, self.epochs, self.minibatch = model, streams, epochs, minibatch
        grad = zeros_like(model.theta)
        model.remember(grad)
        self.grad, self._own = grad, grad[:, : model.policy_size]
        self.adam = Adam(model.theta[:, : model.policy_size], [float(same(configs, "clone_lr"))] * len(configs))

    def run(self, batch: Rollout, iteration: int) -> dict[str, Tensor]:
        """Fit every policy to its batch; ``clone_loss`` is the mean of (mean - a)^2 before."""
        n = batch.action.shape[1]
        orders = self.streams.permutations("minibatch", iteration, n, self.epochs)
        before = self._mean(batch.obs)[0].sub(batch.action).square().mean(-1).mean(1)
        for epoch in range(self.epochs):
            obs, action = reorder(orders[:, epoch], batch.obs, batch.action)
            for start in range(0, n, self.minibatch):
                rows = slice(start, start + self.minibatch)
                mean, cache = self._mean(obs[:, rows])
                # no gradient to log_std: its columns of ``grad`` stay zero
                self.model.policy_vjp(cache, (mean - action[:, rows]).mul_(2 / self.minibatch), None, self.grad)
                self.adam.step(self._own)
        return {"clone_loss": before}

    def _mean(self, obs: Tensor) -> tuple[Tensor, Any]:
        policy, cache = self.model.policy(obs)
        assert isinstance(policy, Gaussian)
        return policy.mean, cache

    def state(self) -> dict[str, Tensor]:
        """See ``Update``."""
        return self.adam.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """See ``Update``."""
        self.adam.load_state(state)


def with_clone(
    stages: Sequence[Stage],
    configs: Sequence[Any],
    epochs: int,
    rollout_steps: int,
    model: ActorCritic,
    env: BatchedEnv,
    streams: Streams,
) -> list[Stage]:
    """Return ``stages`` with a stage ``clone`` before them, where ``clone_steps`` of the S ``configs`` asks for one.

    The last stage gives up as many rollouts: with and without cloning a run takes the same number of steps.

    Raises
    ------
    UserError
        The task demonstrates nothing, or cloning leaves no step to the last stage.
    """
    steps = int(same(configs, "clone_steps"))
    if steps == 0:
        return list(stages)
    teacher = getattr(env, "demonstration", None)
    can = teacher is not None and env.action_space.kind == "box"
    require(can, "agent.clone_steps", "this task demonstrates no actions; set it to 0, or choose env=counterfactual")
    charged = -(-steps // rollout_steps) * rollout_steps
    last = stages[-1]
    left = last.total_steps - charged
    said = f"{charged} steps of cloning leave none of the {last.total_steps} of stage {last.name}"
    require(left > 0, "agent.clone_steps", f"{said}; give fewer")
    update = CloneUpdate(configs, model, streams, epochs, int(same(configs, "minibatch")))
    first = Stage("clone", charged, stages[0].gamma, stages[0].gae_lambda, update, teacher=teacher)
    return [first, *stages[:-1], dataclasses.replace(last, total_steps=left)]
