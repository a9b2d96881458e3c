"""A2C: its gradient, its step, a run in a population and resumed, and whether it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from perturbrl import registry
from perturbrl.agents.a2c import A2C
from perturbrl.agents.common.losses import normalise
from perturbrl.agents.common.rollout import Rollout
from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.errors import UserError
from perturbrl.rng import Streams

from .helpers import agent_config, make_batch, make_learner, make_model, naive, policy_config, tiny, torch_distribution
from .test_learning import SEEDS, Quadratic
from .test_peer_updates import build, check_same, parameters
from .test_population import check_alone, train

KINDS = ["box", "discrete"]
SETTINGS = ({"vf_coef": 0.5, "ent_coef": 0.0, "lr": 1e-2}, {"vf_coef": 1.3, "ent_coef": 0.1, "lr": 3e-2})
AGENTS = [{**settings, "max_grad_norm": 0.1 + k, "gamma": 0.9 - k / 3} for k, settings in enumerate(SETTINGS)]


def recipe(model: ActorCritic, **more: object) -> A2C:
    update = A2C([agent_config("a2c", **tiny("a2c", **s, **more)) for s in SETTINGS], model, Streams([0, 1]))
    for name in ("vf_coef", "ent_coef", "max_grad_norm"):
        setattr(update.c, name, getattr(update.c, name).double())
    return update


def algorithm_s3(model: ActorCritic, theta: Tensor, batch: Rollout, k: int, advantage: Tensor) -> Tensor:
    """-E[log pi (R - V)] + c_v E[(R - V)^2] - c_e E[H] of run k, written out for autograd."""
    dist = torch_distribution(model, theta, batch.obs[k])
    value = naive(model.value_net, theta, batch.obs[k]).squeeze(-1)
    policy = -(dist.log_prob(batch.action[k]) * advantage).mean()
    c = SETTINGS[k]
    return policy + c["vf_coef"] * (batch.ret[k] - value).square().mean() - c["ent_coef"] * dist.entropy().mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalised", [False, True])
def test_an_update_is_rmsprop_on_the_gradient_of_the_printed_loss(kind: str, normalised: bool) -> None:
    model = make_model(kind)
    update = recipe(model, max_grad_norm=0.7, normalise_advantage=normalised)
    thetas = [row.clone().requires_grad_() for row in model.theta]
    peers = [torch.optim.RMSprop([t], c["lr"], alpha=0.99, eps=1e-5) for t, c in zip(thetas, SETTINGS, strict=True)]
    norms = []
    for seed in range(3):
        batch = make_batch(model, 30, seed=seed)
        for k, (theta, peer) in enumerate(zip(thetas, peers, strict=True)):
            advantage = normalise(batch.advantage)[k] if normalised else batch.advantage[k]
            peer.zero_grad()
            algorithm_s3(model, theta, batch, k, advantage).backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_([theta], 0.7)))
            peer.step()
        update.update(batch, seed)
        torch.testing.assert_close(model.theta, torch.stack(thetas).detach(), rtol=1e-5, atol=1e-7)
    assert min(norms) < 0.7 < max(norms)  # or the limit was not tested, or nothing but the limit


@pytest.mark.parametrize("env", ["paper", "paper_discrete"])
@pytest.mark.parametrize("k", [0, 1])
def test_run_k_of_a_population_is_run_k_alone(env: str, k: int, twin: str) -> None:
    torch.set_num_threads(1)
    together = make_learner("a2c", [3, 1], env=env, agent=AGENTS)
    check_alone(together, make_learner("a2c", [3, 1][k : k + 1], env=env, agent=AGENTS[k : k + 1]), k)


def test_it_goes_on_bit_for_bit_from_its_state() -> None:
    whole, first, resumed = (make_learner("a2c", [3, 1], agent=AGENTS) for _ in range(3))
    logs = train(whole, stop=6)
    train(first, stop=4)
    resumed.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    again = train(resumed, start=4, stop=6)
    assert torch.equal(whole.model.theta, resumed.model.theta)
    assert all(torch.equal(a[key], b[key]) for a, b in zip(logs[4:], again, strict=True) for key in a)
    assert (whole.state()["a2c/policy/v"] > 0).any()


def test_a_rollout_of_one_transition_is_refused() -> None:
    with pytest.raises(UserError, match=r"^agent\.rollout_steps"):
        agent_config("a2c", **tiny("a2c", rollout_steps=1, n_envs=1))


@pytest.mark.peers
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"ent_coef": 0.02, "normalize_advantage": True}])
def test_an_update_is_that_of_stable_baselines3(kind: str, settings: dict) -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    own = {key.replace("normalize", "normalise"): value for key, value in settings.items()}
    learner, peer, batch = build(kind, sb3.A2C, "a2c", own, settings)
    before = parameters(peer.policy)
    learner.stages[0].recipe.update(batch, 0)
    peer.train()
    check_same(learner, peer, before)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_return_rises_to_near_the_best(kind: str) -> None:
    """Doing nothing costs 43; the best policy about 4 (box, without exploration)."""
    sizes = {"rollout_steps": 80, "n_envs": 16, "total_steps": 80 * 600, "gamma": 0.9, "lr": 2e-3}
    config = agent_config("a2c", **sizes)
    env = Quadratic(len(SEEDS), 16, kind)
    networks = [policy_config(hidden=[32, 32])] * len(SEEDS)
    agent = registry.agents["a2c"].build([config] * len(SEEDS), networks, env, {}, Streams(SEEDS))
    returns = torch.stack([agent.iterate(i)["return_mean"] for i in range(agent.n_iterations)])
    first, last = returns[4:8].mean(0), returns[-30:].mean(0)
    assert (first < -35).all() and (last > -20).all(), (first, last)
