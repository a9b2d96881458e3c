"""An update may use autograd: through the heads, through whole networks, with optimisers of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from perturbrl.agents.common.learner import Learner
from perturbrl.agents.common.recipe import Recipe
from perturbrl.agents.common.rollout import Log, Rollout
from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.agents.model.heads import Model, gradient
from perturbrl.agents.optim import Adam, TorchOptimiser

from .helpers import cell_table, make_env, policy_config
from .test_recipes import built

KINDS = ["paper", "paper_discrete"]


@dataclass(frozen=True)
class Config:
    name: str = "whole"
    total_steps: int = 192
    rollout_steps: int = 64
    n_envs: int = 4
    lr: float = 3e-3
    gamma: float = 0.9


def loss_of(policy: Any, value: Any, log_prob: Any, batch: Rollout) -> torch.Tensor:
    critic = (value - batch.ret).square().mean(1)
    return critic - (log_prob * batch.advantage).mean(1) - 0.1 * policy.entropy()


class ThroughNetworks(Recipe[Config]):
    """Differentiates both networks themselves, with a parameter vector of its own, and steps with plain SGD."""

    def update(self, batch: Rollout, iteration: int) -> Log:
        theta = self.model.theta.clone().requires_grad_()
        policy, _ = self.model.policy(batch.obs, theta)
        value, _ = self.model.value(batch.obs, theta)
        loss = loss_of(policy, value, policy.log_prob(batch.action)[0], batch)
        loss.sum().backward()
        with torch.no_grad():
            self.model.theta.sub_(self.c.lr * theta.grad)
        return {"loss": loss.detach()}


class Optimised(Recipe[Config]):
    """Hands theta to an optimiser of torch, and calls ``backward`` on a loss of the heads."""

    def __init__(self, configs: Any, model: Model, streams: Any) -> None:
        super().__init__(configs, model, streams)
        self.optimiser = torch.optim.RMSprop([model.theta.requires_grad_()], lr=self.c.lr, momentum=0.9)
        self.stateful = {"": TorchOptimiser(self.optimiser)}

    def update(self, batch: Rollout, iteration: int) -> Log:
        heads = self.model.heads(batch.obs, batch.action)
        critic = (heads.value - batch.ret).square().mean(1)
        loss = critic - (heads.log_prob * batch.advantage).mean(1) - 0.1 * heads.entropy
        self.optimiser.zero_grad()
        loss.sum().backward()
        self.optimiser.step()
        return {"loss": loss.detach()}


def trained(recipe: type[Recipe[Any]], task: str = "paper", iterations: int = 3) -> Learner:
    learner = built(recipe, [Config()] * 2, [1, 2], task=task)
    for i in range(iterations):
        learner.iterate(i)
    return learner


@pytest.mark.parametrize("task", KINDS)
def test_whole_networks_have_the_gradient_of_the_heads(task: str, twin: str) -> None:
    """The same three numbers by autograd through both networks and by the derivatives by hand."""
    learner = built(ThroughNetworks, [Config()] * 2, [1, 2], task=task)
    model, batch = learner.model, one_rollout(learner)
    theta = model.theta.clone().requires_grad_()
    policy, _ = model.policy(batch.obs, theta)
    value, _ = model.value(batch.obs, theta)
    (whole,) = torch.autograd.grad(loss_of(policy, value, policy.log_prob(batch.action)[0], batch).sum(), theta)
    heads = model.heads(batch.obs, batch.action)
    critic = (heads.value - batch.ret).square().mean(1)
    gradient(critic - (heads.log_prob * batch.advantage).mean(1) - 0.1 * heads.entropy, heads)
    used = whole != 0
    assert used[:, : model.policy_size].any() and used[:, model.policy_size :].any()
    torch.testing.assert_close(whole[used], model.grad[used], rtol=1e-3, atol=1e-5)


def one_rollout(learner: Learner) -> Rollout:
    with torch.no_grad():
        learner.collector.reset(0)
        stage = learner.stages[0]
        return learner.collector.collect(0, stage.gamma, stage.gae_lambda)


@pytest.mark.parametrize("task", KINDS)
def test_backward_of_a_loss_of_heads_reaches_theta(task: str, twin: str) -> None:
    learner = built(Optimised, [Config()] * 2, [1, 2], task=task)
    model, batch = learner.model, one_rollout(learner)
    heads = model.heads(batch.obs, batch.action)
    (heads.log_prob.mean(1) + heads.value.mean(1) + heads.entropy).sum().backward()
    heads = model.heads(batch.obs, batch.action)
    gradient(heads.log_prob.mean(1) + heads.value.mean(1) + heads.entropy, heads)
    assert model.theta.grad is not None and bool((model.grad != 0).any())
    torch.testing.assert_close(model.theta.grad, model.grad, rtol=0, atol=0)
    assert not model.grad.requires_grad


@pytest.mark.parametrize("recipe", [ThroughNetworks, Optimised])
@pytest.mark.parametrize("task", KINDS)
def test_such_updates_learn_and_resume(recipe: type[Recipe[Any]], task: str, twin: str) -> None:
    start = built(recipe, [Config()] * 2, [1, 2], task=task).state()["theta"]
    whole, first = trained(recipe, task), trained(recipe, task, iterations=2)
    second = built(recipe, [Config()] * 2, [1, 2], task=task)
    saved = {name: tensor.clone() for name, tensor in first.state().items()}
    second.load_state(saved)
    second.iterate(2)
    resumed = second.state()
    assert resumed.keys() == whole.state().keys()
    assert not any(tensor.requires_grad for tensor in resumed.values())
    for name, tensor in whole.state().items():
        torch.testing.assert_close(tensor, resumed[name], rtol=0, atol=0, equal_nan=True, msg=name)
    assert float((resumed["theta"] - start).abs().max()) > 1e-4


@pytest.mark.parametrize("switch", [torch.no_grad, torch.enable_grad])
def test_a_caller_without_autograd_changes_nothing(switch: Any) -> None:
    with switch():
        theta = trained(Optimised).model.theta.detach()
    torch.testing.assert_close(theta, trained(Optimised).model.theta.detach(), rtol=0, atol=0)


def test_our_adam_steps_parameters_that_require_a_gradient(twin: str) -> None:
    table = cell_table()
    env = make_env("paper", 2, 4, table)
    model = ActorCritic(policy_config(), env.obs_dim, table.slices, env.action_space, 2)
    adam = Adam(model.theta.requires_grad_(), [0.1, 0.1])
    adam.step(torch.ones_like(model.theta))
    assert float(model.theta.detach().max()) < -0.09
