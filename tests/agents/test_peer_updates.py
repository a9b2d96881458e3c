"""A whole update against Stable-Baselines3 and sb3-contrib: the same networks, batch and minibatches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from perturbrl.agents.common.learner import Learner
from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.agents.model.networks import Mlp
from perturbrl.envs import make

from .helpers import cell_table, make_learner

pytestmark = pytest.mark.peers

HIDDEN, ENVS, STEPS, HORIZON, LR = [16, 12], 4, 16, 12, 3e-3  # episodes end within the rollout
ENV = {"box": "paper", "discrete": "paper_discrete"}


@torch.no_grad()
def copy_parameters(model: ActorCritic, policy: Any) -> None:
    """Write run 0 into an ``ActorCriticPolicy`` of the same shape."""
    nets = [
        (model.policy_net, [*policy.mlp_extractor.policy_net, policy.action_net]),
        (model.value_net, [*policy.mlp_extractor.value_net, policy.value_net]),
    ]
    for ours, theirs in nets:
        linear = [layer for layer in theirs if isinstance(layer, nn.Linear)]
        assert isinstance(ours, Mlp)
        for (weight, bias), layer in zip(ours.chain.views(model.theta), linear, strict=True):
            layer.weight.copy_(weight[0].T)
            layer.bias.copy_(bias[0, 0])
    if model.actions.kind == "box":
        start = model.policy_net.place(0)
        policy.log_std.copy_(model.theta[0, start : start + model.actions.size])


def fill_buffer(peer: Any, learner: Learner, kind: str) -> Any:
    """Collect one rollout with our policy, put it into the peer's buffer; return our batch."""
    collector = learner.collector
    env, recorded = collector.env, []
    step = env.step

    def recording(action: Tensor, u: Tensor) -> Any:
        found = step(action, u)
        recorded.append(found)
        return found

    env.step = recording  # type: ignore[method-assign]
    collector.reset(0)
    stage = learner.stages[0]
    batch = collector.collect(0, stage.gamma, stage.gae_lambda)
    over = np.stack([(f.terminated | f.truncated)[0].numpy() for f in recorded])
    assert over.any() and not over.all()
    starts = np.concatenate([np.ones((1, ENVS)), over[:-1]])
    buffer = peer.rollout_buffer
    buffer.reset()

    def rows(x: Tensor, t: int) -> Tensor:
        return x[0].unflatten(0, (STEPS, ENVS))[t]

    for t, found in enumerate(recorded):
        action = rows(batch.action, t).numpy()
        action = action if kind == "box" else action[:, None]
        obs, value, log_prob = (rows(x, t) for x in (batch.obs, batch.value, batch.log_prob))
        buffer.add(obs.numpy(), action, found.reward[0].numpy(), starts[t], value, log_prob)
    with torch.no_grad():
        last = peer.policy.predict_values(collector.obs[0])
    buffer.compute_returns_and_advantage(last_values=last, dones=over[-1])
    return batch


def build(kind: str, algorithm: Callable[..., Any], name: str, own: dict[str, Any], theirs: dict[str, Any]) -> Any:
    table = cell_table()
    settings = {"rollout_steps": STEPS * ENVS, "n_envs": ENVS, "lr": LR, **own}
    learner = make_learner(name, [3], env=ENV[kind], agent=settings, policy={"hidden": HIDDEN}, horizon=HORIZON)
    from stable_baselines3.common.vec_env import DummyVecEnv

    envs = DummyVecEnv([lambda: make(ENV[kind], table, horizon=HORIZON)] * ENVS)
    net = {"net_arch": {"pi": HIDDEN, "vf": HIDDEN}}
    peer = algorithm(
        "MlpPolicy", envs, n_steps=STEPS, learning_rate=LR, policy_kwargs=net, device="cpu", seed=0, **theirs
    )
    from stable_baselines3.common.logger import Logger

    peer.set_logger(Logger(None, []))
    # a policy that leans somewhere, so that the gradient of every layer counts
    generator = torch.Generator().manual_seed(0)
    learner.model.theta += 0.1 * torch.randn(learner.model.theta.shape, generator=generator)
    copy_parameters(learner.model, peer.policy)
    return learner, peer, fill_buffer(peer, learner, kind)


def give_orders(monkeypatch: pytest.MonkeyPatch, orders: list[Tensor]) -> None:
    """Make the peer's buffer, which stores cell by cell, shuffle as we do, step by step."""
    queue = iter(orders)

    def permutation(n: int) -> Any:
        mine = next(queue).numpy()
        return mine % ENVS * STEPS + mine // ENVS

    monkeypatch.setattr(np.random, "permutation", permutation)


def parameters(policy: Any) -> Tensor:
    return torch.cat([p.detach().flatten() for p in policy.parameters()])


def check_same(learner: Learner, peer: Any, before: Tensor) -> None:
    after = parameters(peer.policy)
    assert (after - before).abs().max() > 1e-3
    copy_parameters(learner.model, peer.policy)  # our parameters in the peer's order
    torch.testing.assert_close(parameters(peer.policy), after, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("kind", ENV)
def test_advantages_are_those_of_stable_baselines3(kind: str) -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    _, peer, batch = build(kind, sb3.PPO, "ppo", {}, {"batch_size": 16})
    torch.testing.assert_close(
        batch.advantage.view(STEPS, ENVS), torch.from_numpy(peer.rollout_buffer.advantages), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        batch.ret.view(STEPS, ENVS), torch.from_numpy(peer.rollout_buffer.returns), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", ENV)
@pytest.mark.parametrize("extra", [{}, {"ent_coef": 0.02}, {"target_kl": 0.001}])
def test_a_ppo_update_is_that_of_stable_baselines3(kind, extra, monkeypatch) -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    own = {"minibatch": 16, "epochs": 3, "clip": 0.05, "max_grad_norm": 0.3, **extra}
    theirs = {"batch_size": 16, "n_epochs": 3, "clip_range": 0.05, "max_grad_norm": 0.3, **extra}
    learner, peer, batch = build(kind, sb3.PPO, "ppo", own, theirs)
    before = parameters(peer.policy)
    orders = learner.collector.streams.permutations("minibatch", 0, STEPS * ENVS, 3)
    give_orders(monkeypatch, list(orders[0]))
    with torch.no_grad():
        logged = learner.stages[0].recipe.update(batch, 0)
    peer.train()
    check_same(learner, peer, before)
    if "target_kl" not in extra:
        assert logged["clip_fraction"].item() > 0.05
        ours = logged["explained_variance"].item()
        assert abs(ours - peer.logger.name_to_value["train/explained_variance"]) < 0.03  # they divide by n, not n - 1
    else:
        assert 0 < learner.stages[0].recipe.adam.policy.t.item() < 3 * STEPS * ENVS / 16  # it did stop


@pytest.mark.parametrize("kind", ENV)
def test_a_trpo_update_is_that_of_sb3_contrib(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    contrib = pytest.importorskip("sb3_contrib")
    own = {"minibatch": 16, "critic_epochs": 3, "cg_iterations": 10, "damping": 0.1, "kl": "per_dimension"}
    theirs = {"batch_size": 16, "n_critic_updates": 3, "cg_max_steps": 10, "cg_damping": 0.1}
    learner, peer, batch = build(kind, contrib.TRPO, "trpo", own, theirs)
    before = parameters(peer.policy)
    orders = learner.collector.streams.permutations("minibatch", 0, STEPS * ENVS, 3)
    give_orders(monkeypatch, [torch.arange(STEPS * ENVS), *orders[0]])  # the policy step reads the whole batch once
    # their conjugate gradient starts from noise of 1e-4, ours from the textbook's zero
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    with torch.no_grad():
        logged = learner.stages[0].recipe.update(batch, 0)
    peer.train()
    assert logged["accepted"].item() == peer.logger.name_to_value["train/is_line_search_success"] == 1
    kl = peer.logger.name_to_value["train/kl_divergence_loss"]
    assert abs(logged["kl"].item() - kl) < 0.02 * kl
    check_same(learner, peer, before)
