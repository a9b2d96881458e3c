"""Behaviour cloning before training: the mean of a policy learns the actions that its task demonstrates.

Supervised regression on states in which the demonstrator acts (Pomerleau 1991, Efficient training of artificial neural
networks for autonomous navigation). Letters: S runs, M transitions of a rollout, A action size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, zeros_like

from perturbrl.agents.common.learner import Stage, same
from perturbrl.agents.common.recipe import Recipe
from perturbrl.agents.common.rollout import Log, Rollout, reorder
from perturbrl.agents.model.distributions import Gaussian
from perturbrl.agents.model.heads import Model
from perturbrl.agents.optim import asked, part_optimiser
from perturbrl.config import require
from perturbrl.envs.base import BatchedEnv
from perturbrl.rng import Streams


class Clone(Recipe[Any]):
    """Epochs of minibatch Adam on E |mean - a|^2, the actions a those of the batch; the value network stands still."""

    def __init__(self, configs: Sequence[Any], model: Model, streams: Streams) -> None:
        super().__init__(configs, model, streams)
        self.grad = zeros_like(model.theta)
        model.cache_views(self.grad)
        self.adam = part_optimiser(model, "policy", [float(self.c.clone_lr)] * len(configs), asked(configs))
        self.stateful = {"": self.adam}

    @torch.no_grad()
    def update(self, batch: Rollout, iteration: int) -> Log:
        """Fit every policy to its batch; ``clone_loss`` is the mean of (mean - a)^2 before."""
        columns = slice(0, self.model.policy_size)
        size = getattr(self.c, "minibatch", batch.ret.shape[1])
        before = self._mean(batch.obs)[0].sub(batch.action).square().mean(-1).mean(1)
        for order in self.orders(batch, iteration, _epochs(self.c)):
            shuffled = (torch.split(x, size, 1) for x in reorder(order, batch.obs, batch.action))
            for obs, action in zip(*shuffled, strict=True):
                mean, cache = self._mean(obs)
                # no gradient to log_std: its columns of ``grad`` stay zero
                self.model.policy_vjp(cache, (mean - action).mul_(2 / size), None, self.grad)
                self.adam.step(self.grad[:, columns])
        return {"clone_loss": before}

    def _mean(self, obs: Tensor) -> tuple[Tensor, Any]:
        policy, cache = self.model.policy(obs)
        assert isinstance(policy, Gaussian)
        return policy.mean, cache


def _epochs(settings: Any) -> int:
    """Return the passes over a rollout; TRPO's settings have those of its critic, A2C's have none: 1."""
    return int(getattr(settings, "critic_epochs", getattr(settings, "epochs", 1)))


def with_clone(
    stages: Sequence[Stage], configs: Sequence[Any], model: Model, env: BatchedEnv, streams: Streams
) -> list[Stage]:
    """Return ``stages`` with a stage ``clone`` of ``clone_steps`` before them.

    The last stage gives up as many rollouts: with and without cloning a run takes the same number of steps.

    Raises
    ------
    UserError
        The task demonstrates nothing, or cloning leaves no step to the last stage.
    """
    steps, rollout_steps = int(same(configs, "clone_steps")), int(same(configs, "rollout_steps"))
    teacher = getattr(env, "demonstration", None)
    can = teacher is not None and env.action_space.kind == "box"
    require(can, "agent.clone_steps", "this task demonstrates no actions; set it to 0, or choose env=counterfactual")
    charged = -(-steps // rollout_steps) * rollout_steps
    last = stages[-1]
    left = last.total_steps - charged
    message = f"{charged} steps of cloning leave none of the {last.total_steps} of stage {last.name}; give fewer"
    require(left > 0, "agent.clone_steps", message)
    clone = Clone(configs, model, streams)
    first = Stage("clone", charged, stages[0].gamma, stages[0].gae_lambda, clone, teacher=teacher)
    return [first, *stages[:-1], dataclasses.replace(last, total_steps=left)]
