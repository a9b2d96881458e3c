"""Losses without derivatives by hand: any recipe, any network, any executor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from perturbrl.agents import kernels
from perturbrl.agents.common.build import learner as learner_of
from perturbrl.agents.common.learner import Learner, Stage
from perturbrl.agents.common.losses import normalise
from perturbrl.agents.common.recipe import LossRecipe, Recipe
from perturbrl.agents.common.rollout import Rollout
from perturbrl.agents.model.heads import Heads, gradient
from perturbrl.agents.model.modules import ModuleActorCritic
from perturbrl.agents.ppo import PPO
from perturbrl.agents.trpo import TRPO
from perturbrl.bounds import PerRun, PositiveFloat
from perturbrl.rng import Streams

from .helpers import (
    agent_config,
    cell_table,
    make_batch,
    make_env,
    make_model,
    naive,
    policy_config,
    tiny,
    torch_distribution,
)

KINDS = ["box", "discrete"]


@dataclass(frozen=True)
class Config:
    name: str
    total_steps: int
    rollout_steps: int
    n_envs: int
    minibatch: int
    epochs: int
    lr: PerRun[PositiveFloat]
    gamma: float
    max_grad_norm: float


class Mixed(LossRecipe[Config]):
    """A loss of all three heads."""

    def loss(self, heads: Heads, batch: Rollout) -> Tensor:
        policy = -(heads.log_prob * normalise(batch.advantage)).mean(1)
        return policy + 0.7 * (heads.value - batch.ret).square().mean(1) - 0.1 * heads.entropy


def config(**changed: Any) -> Config:
    plain = Config("mixed", 128, 64, 4, 32, 2, 1e-3, 0.9, 1e9)
    return replace(plain, **changed)


def built(
    recipe: type[Recipe[Any]], configs: list[Any], seeds: list[int], model: Any = None, task: str = "paper"
) -> Learner:
    table, streams = cell_table(), Streams(seeds)
    env = make_env(task, len(seeds), configs[0].n_envs, table, horizon=12)
    if model is None:
        model = recipe.make_model([policy_config()] * len(seeds), env, table.slices, streams)
    elif callable(model):
        model = model(env, streams)
    stage = Stage.of("only", configs, recipe(configs, model, streams), streams.device)
    return learner_of([stage], configs, model, env, streams)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_a_loss_of_heads_is_that_of_the_whole_networks(kind: str) -> None:
    model = make_model(kind)
    batch = make_batch(model, 30)
    recipe = Mixed([config()] * 2, model, Streams([0, 1]))
    heads = model.heads(batch.obs, batch.action)
    gradient(recipe.loss(heads, batch), heads)
    for k in range(2):
        theta = model.theta[k].clone().requires_grad_()
        policy = torch_distribution(model, theta, batch.obs[k])
        value = naive(model.value_net, theta, batch.obs[k]).squeeze(-1)
        advantage = (batch.advantage[k] - batch.advantage[k].mean()) / (batch.advantage[k].std() + 1e-8)
        loss = -(policy.log_prob(batch.action[k]) * advantage).mean()
        loss = loss + 0.7 * (value - batch.ret[k]).square().mean() - 0.1 * policy.entropy().mean()
        (expected,) = torch.autograd.grad(loss, theta)
        torch.testing.assert_close(model.grad[k], expected)


@pytest.mark.parametrize("unused", ["log_prob", "value", "entropy"])
def test_a_head_that_a_loss_does_not_use_gets_no_gradient(unused: str) -> None:
    model = make_model("box")
    batch = make_batch(model, 10)
    model.grad.fill_(7.0)  # what an earlier step left
    heads = model.heads(batch.obs, batch.action)
    parts = {"log_prob": heads.log_prob.mean(1), "value": heads.value.square().mean(1), "entropy": heads.entropy}
    del parts[unused]
    gradient(sum(parts.values(), torch.zeros(2)), heads)
    policy = model.grad[:, : model.log_std_columns.stop]
    value = model.grad[:, model.policy_size : model.value_net.chain.stop]
    assert bool((value == 0).all()) == (unused == "value")
    assert bool((policy[:, : model.policy_net.chain.stop] == 0).all()) == (unused == "log_prob")
    expected = torch.zeros(2, 3, dtype=torch.float64)
    if unused == "log_prob":
        expected += 1  # of the entropy
        torch.testing.assert_close(policy[:, -3:], expected)


@pytest.mark.parametrize("task", ["paper", "paper_discrete"])
def test_run_k_of_a_population_is_run_k_alone(task: str) -> None:
    configs = [config(lr=3e-3), config(lr=1e-3), config(lr=1e-2)]
    together = built(Mixed, configs, [5, 6, 7], task=task)
    logs = [together.iterate(i) for i in range(together.n_iterations)]
    for k, seed in enumerate([5, 6, 7]):
        alone = built(Mixed, [configs[k]], [seed], task=task)
        for i in range(alone.n_iterations):
            log = alone.iterate(i)
        torch.testing.assert_close(together.model.theta[k], alone.model.theta[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(logs[-1]["loss"][k], log["loss"][0], rtol=1e-4, atol=1e-5)


def test_a_resumed_run_is_an_unbroken_one() -> None:
    whole, first, second = (built(Mixed, [config()] * 2, [1, 2]) for _ in range(3))
    for i in range(2):
        whole.iterate(i)
    first.iterate(0)
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    second.iterate(1)
    resumed = second.state()
    for name, tensor in whole.state().items():
        torch.testing.assert_close(tensor, resumed[name], rtol=0, atol=0, equal_nan=True, msg=name)


def test_the_norm_of_a_gradient_is_cut_where_the_config_has_a_limit() -> None:
    # Adam's first step is lr in each coordinate whatever the norm; its first moment holds a tenth of the gradient
    norms = []
    for limit in (1e9, 1e-3):
        learner = built(Mixed, [config(max_grad_norm=limit, minibatch=64, epochs=1)], [3])
        learner.iterate(0)
        adam = learner.stages[0].recipe.adam
        norms.append(10 * torch.cat([adam.policy.m, adam.value.m], 1).norm().item())
    assert norms[0] > 1e-2 and norms[1] == pytest.approx(1e-3, rel=1e-2)


class Halved(PPO):
    """PPO whose loss is half as large where it counts: another value coefficient."""

    def loss(self, heads, batch):
        loss, log = super().loss(heads, batch)
        return loss + 3.0 * heads.value.square().mean(1), log


class Same(PPO):
    """PPO whose step says what PPO's says."""

    def step(self, batch, active):
        return super().step(batch, active)


def test_a_subclass_that_replaces_the_loss_changes_the_training_and_says_how_it_runs() -> None:
    """Also where PPO itself would run an epoch in one native call."""
    kernels.configure("native", "float32")
    configs = [agent_config("ppo", **tiny("ppo"))]
    plain, halved, same = (built(recipe, configs, [3]) for recipe in (PPO, Halved, Same))
    assert [x.stages[0].executor for x in (plain, halved, same)] == ["native", "torch", "torch"]
    assert plain.stages[0].notes == ()
    assert halved.stages[0].notes == ("Halved replaces loss of PPO: its steps run one by one in torch",)
    assert "step" in same.stages[0].notes[0]
    for learner in (plain, halved, same):
        learner.iterate(0)
    moved = (plain.model.theta - built(PPO, configs, [3]).model.theta).norm()
    assert (plain.model.theta - same.model.theta).norm() < 0.01 * moved
    assert (plain.model.theta - halved.model.theta).norm() > 0.1 * moved


def test_a_target_kl_runs_step_by_step() -> None:
    kernels.configure("native", "float32")
    learner = built(PPO, [agent_config("ppo", **tiny("ppo", target_kl=0.01))], [3])
    assert learner.stages[0].executor == "torch" and learner.stages[0].notes == ()


def mlp(n_in: int, n_out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(n_in, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, n_out))


def modules(env: Any, streams: Streams) -> ModuleActorCritic:
    return ModuleActorCritic.for_env(mlp, mlp, env, streams)


@pytest.mark.parametrize("task", ["paper", "paper_discrete"])
def test_plain_torch_modules_give_what_the_networks_by_hand_give(task: str) -> None:
    """The same parameters in both: the same policy, value, gradient and Fisher product."""
    table, streams = cell_table(), Streams([1, 2])
    env = make_env(task, 2, 4, table, horizon=12)
    by_module = modules(env, streams)
    by_hand = PPO.make_model([policy_config(hidden=[6, 5])] * 2, env, table.slices, streams)
    for mapped, net in ((by_module.policy_net, by_hand.policy_net), (by_module.value_net, by_hand.value_net)):
        views = by_hand_views(net, by_hand.theta)
        for name, (place, shape) in mapped.places.items():
            weight, bias = views[int(name.split(".")[0]) // 2]
            source = weight.transpose(1, 2) if name.endswith("weight") else bias.squeeze(1)
            by_module.theta[:, place] = source.reshape(2, -1)
            assert source.shape[1:] == shape
    obs = torch.randn(2, 7, env.obs_dim, generator=torch.Generator().manual_seed(0))
    policy, other = by_hand.policy(obs)[0], by_module.policy(obs)[0]
    torch.testing.assert_close(policy.mode(), other.mode(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(by_hand.value(obs)[0], by_module.value(obs)[0], rtol=1e-4, atol=1e-5)
    action = policy.mode()
    for model in (by_hand, by_module):
        heads = model.heads(obs, action)
        gradient(heads.log_prob.mean(1) + heads.value.square().mean(1), heads)
    for mapped, net in ((by_module.policy_net, by_hand.policy_net), (by_module.value_net, by_hand.value_net)):
        views = by_hand_views(net, by_hand.grad)
        for name, (place, _) in mapped.places.items():
            weight, bias = views[int(name.split(".")[0]) // 2]
            source = weight.transpose(1, 2) if name.endswith("weight") else bias.squeeze(1)
            torch.testing.assert_close(by_module.grad[:, place], source.reshape(2, -1), rtol=1e-3, atol=1e-5)


def by_hand_views(net: Any, flat: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(net.chain.views(flat))


@pytest.mark.parametrize("recipe", [PPO, TRPO, Mixed])
def test_every_recipe_takes_plain_modules(recipe: type[Recipe[Any]]) -> None:
    name = {PPO: "ppo", TRPO: "trpo"}.get(recipe)
    one = config() if name is None else agent_config(name, **tiny(name))
    together = built(recipe, [one] * 2, [1, 2], modules)
    before = together.model.theta.clone()
    for i in range(2):
        log = together.iterate(i)
    assert torch.isfinite(together.model.theta).all()
    for net in (together.model.policy_net, together.model.value_net):
        assert (together.model.theta[:, net.columns] != before[:, net.columns]).any(1).all()
    alone = built(recipe, [one], [2], modules)
    for i in range(2):
        alone.iterate(i)
    torch.testing.assert_close(together.model.theta[1], alone.model.theta[0], rtol=1e-4, atol=1e-5)
    assert all(value.shape == (2,) for value in log.values())


def test_modules_with_buffers_are_refused() -> None:
    from perturbrl.errors import UserError

    table, streams = cell_table(), Streams([1])
    env = make_env("paper", 1, 4, table, horizon=12)
    with pytest.raises(UserError, match="has buffers"):
        ModuleActorCritic.for_env(lambda i, o: nn.Sequential(nn.BatchNorm1d(i), nn.Linear(i, o)), mlp, env, streams)


def test_a_setting_that_the_config_lacks_is_named() -> None:
    recipe = Mixed([config()], make_model("box", n_runs=1), Streams([0]))
    assert recipe.c.lr.shape == (1, 1) and recipe.c.gamma == 0.9
    with pytest.raises(AttributeError, match="clip_range"):
        recipe.c.clip_range  # noqa: B018
