"""Soft actor-critic against the paper's formulas, written naively; populations, checkpoints, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from perturbrl import registry
from perturbrl.agents import kernels
from perturbrl.agents.sac.learner import ReplayLearner
from perturbrl.agents.sac.replay import Transitions
from perturbrl.agents.sac.sac import SAC
from perturbrl.envs.base import ActionSpace
from perturbrl.errors import UserError
from perturbrl.rng import Streams

from ..helpers import FakeEnv, agent_config, cell_table, make_env, naive, policy_config

SEEDS = (3, 1, 4)
SMALL = {"rollout_steps": 32, "n_envs": 4, "minibatch": 16, "learning_starts": 8, "total_steps": 96, "lr": 1e-2}


def learner(
    seeds: Sequence[int],
    agent: Any = None,
    env: str = "paper",
    policy: dict[str, Any] | None = None,
    **env_overrides: Any,
) -> ReplayLearner:
    each = agent if isinstance(agent, list) else [agent or {}] * len(seeds)
    configs = [agent_config("sac", **(SMALL | overrides)) for overrides in each]
    table = cell_table()
    batched = make_env(env, len(seeds), configs[0].n_envs, table, **({"horizon": 6} | env_overrides))
    policies = [policy_config(**({"activation": "relu"} | (policy or {})))] * len(seeds)
    built: ReplayLearner = registry.agents["sac"].build(configs, policies, batched, table.slices, Streams(seeds))
    return built


def trained(**agent: Any) -> tuple[SAC, Transitions, Tensor]:
    """An algorithm some steps from its start, a batch from its buffer, and noise for a step."""
    made = learner([1, 2], agent)
    made.iterate(0)
    made.iterate(1)
    algorithm = made.algorithm
    assert isinstance(algorithm, SAC)
    generator = torch.Generator().manual_seed(0)
    batch = made.replay.sample(torch.rand(2, 2, 16, generator=generator))
    assert batch.terminated.any() and not batch.terminated.all()
    return algorithm, batch, torch.randn(2, 2, 16, 8, generator=generator)


def squashed(algorithm: SAC, theta: Tensor, obs: Tensor) -> TransformedDistribution:
    """pi(.|s) of one run as torch's own distribution."""
    mean, log_std = naive(algorithm.model.policy_net, theta, obs).chunk(2, -1)
    return TransformedDistribution(Normal(mean, log_std.clamp(-20, 2).exp()), [TanhTransform(cache_size=1)])


def drawn(distribution: TransformedDistribution, noise: Tensor) -> tuple[Tensor, Tensor]:
    action = (distribution.base_dist.mean + distribution.base_dist.stddev * noise).tanh()
    u = distribution.base_dist.mean + distribution.base_dist.stddev * noise
    base = Independent(distribution.base_dist, 1).log_prob(u)
    return action, base - torch.log1p(-action.square()).sum(-1)


def q(algorithm: SAC, parameters: Tensor, obs: Tensor, action: Tensor) -> Tensor:
    return naive(algorithm.model.critic_net, parameters, torch.cat([obs, action], -1)).squeeze(-1)


def test_the_target_of_the_critics_is_that_of_a_loop_over_transitions() -> None:
    algorithm, batch, noise = trained()
    model, alpha = algorithm.model, algorithm.log_alpha.exp()
    found = algorithm.target(batch, noise[:, 1], alpha)
    for k in range(2):
        for m in range(16):
            s = batch.next_obs[k, m]
            action, log_prob = drawn(squashed(algorithm, model.theta[k], s), noise[k, 1, m])
            least = min(q(algorithm, model.targets[2 * k + i], s, action).item() for i in range(2))
            value = least - alpha[k].item() * log_prob.item()
            expected = batch.reward[k, m].item() + (0.0 if batch.terminated[k, m] else 0.99 * value)
            assert found[k, m].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_terminated_transition_ignores_what_follows_even_if_it_is_not_finite() -> None:
    algorithm, batch, noise = trained()
    batch.next_obs[batch.terminated] = torch.inf
    target = algorithm.target(batch, noise[:, 1], algorithm.log_alpha.exp())
    assert torch.equal(target[batch.terminated], batch.reward[batch.terminated])


def test_the_gradient_of_the_critics_is_that_of_equation_5(twin: str) -> None:
    algorithm, batch, _ = trained()
    model, target = algorithm.model, torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    parameters = model.critics.clone().requires_grad_()
    losses = []
    for k in range(2):
        values = [q(algorithm, parameters[2 * k + i], batch.obs[k], batch.action[k]) for i in range(2)]
        losses.append(sum(0.5 * (value - target[k]).square().mean() for value in values))
    torch.stack(losses).sum().backward()
    found, _ = algorithm.critic_step(batch, target)
    torch.testing.assert_close(found, torch.stack(losses).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.critics_grad, parameters.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("policy", [{}, {"net": "branches"}, {"hidden": [7], "activation": "tanh"}])
def test_the_gradient_of_the_policy_is_that_of_equation_9(twin: str, policy: dict[str, Any]) -> None:
    made = learner([1, 2], policy=policy)
    for i in range(2):
        made.iterate(i)
    algorithm = made.algorithm
    assert isinstance(algorithm, SAC)
    batch = made.replay.sample(torch.rand(2, 2, 16, generator=torch.Generator().manual_seed(0)))
    noise = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(1))
    model, alpha = algorithm.model, algorithm.log_alpha.exp()
    theta = model.theta.clone().requires_grad_()
    losses = []
    for k in range(2):
        action, log_prob = drawn(squashed(algorithm, theta[k], batch.obs[k]), noise[k])
        both = [q(algorithm, model.critics[2 * k + i], batch.obs[k], action) for i in range(2)]
        losses.append((alpha[k] * log_prob - torch.minimum(*both)).mean())
    torch.stack(losses).sum().backward()
    outputs, cache = model.policy(batch.obs)
    found = algorithm.policy_step(batch, cache, outputs.sample(noise), alpha)
    torch.testing.assert_close(found, torch.stack(losses).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.grad, theta.grad, rtol=1e-3, atol=1e-5)


def test_the_temperature_follows_equation_18_by_adam() -> None:
    algorithm, batch, noise = trained(target_entropy=-0.5)
    log_alpha, reference = algorithm.log_alpha, algorithm.log_alpha.clone().requires_grad_()
    adam = torch.optim.Adam([reference], lr=1e-2)
    for tensor in algorithm.optimisers["alpha"].state().values():
        tensor.zero_()
    for _ in range(3):
        entropy = algorithm.step(batch, noise)["entropy"]
        loss = (reference.squeeze(1) * (entropy - -0.5 * 8)).sum()  # - log alpha (log pi + H)
        adam.zero_grad()
        loss.backward()
        adam.step()
        torch.testing.assert_close(log_alpha, reference.detach())


def test_a_fixed_temperature_stays(twin: str) -> None:
    algorithm, batch, noise = trained(tune_ent_coef=False, ent_coef=0.2)
    log = algorithm.step(batch, noise)
    torch.testing.assert_close(log["ent_coef"], torch.full((2,), 0.2))
    torch.testing.assert_close(algorithm.log_alpha.exp(), torch.full((2, 1), 0.2))


def test_targets_follow_the_critics_by_tau() -> None:
    algorithm, batch, noise = trained(tau=0.25)
    before = algorithm.model.targets.clone()
    algorithm.step(batch, noise)
    torch.testing.assert_close(algorithm.model.targets, 0.75 * before + 0.25 * algorithm.model.critics)


@pytest.mark.parametrize(("train_freq", "gradient_steps"), [(1, 1), (2, 3), (3, 1)])
def test_gradient_steps_for_each_environment_step(train_freq: int, gradient_steps: int) -> None:
    made = learner([0], {"train_freq": train_freq, "gradient_steps": gradient_steps, "learning_starts": 8})
    logs = [made.iterate(i) for i in range(3)]
    taken = made.algorithm.state()["policy/t"]  # type: ignore[attr-defined]
    times = [n for n in range(1, 25) if 4 * n > 8 and n % train_freq == 0]
    assert taken.tolist() == [len(times) * gradient_steps]
    assert all(set(log) >= {"value_loss", "entropy", "return_mean"} for log in logs)


def test_actions_are_uniform_before_learning_starts_and_scaled_to_the_box() -> None:
    env = FakeEnv(1, 2, 5, "terminated", ActionSpace("box", 2, low=-3.0, high=5.0))
    config = agent_config("sac", **(SMALL | {"n_envs": 2, "rollout_steps": 512, "learning_starts": 512}))
    made = registry.agents["sac"].build([config], [policy_config()], env, {}, Streams([0]))
    made.iterate(0)
    taken, stored = torch.stack(env.actions, 1), made.replay.action[:, :256]
    torch.testing.assert_close(taken, stored * 4 + 1)
    assert -3 <= taken.min() < -2.9 and 4.9 < taken.max() <= 5
    assert taken.mean() == pytest.approx(1, abs=0.3)
    acted = made.model.act(1e6 * torch.randn(1, 50, 3))
    assert acted.min() >= -3 and acted.max() <= 5 and acted.max() > acted.min()


def check_alone(together: ReplayLearner, alone: ReplayLearner, k: int) -> None:
    for i in range(3):
        log, own = together.iterate(i), alone.iterate(i)
        assert log.keys() == own.keys()
    state, own_state = together.state(), alone.state()
    for name in state:
        if name != "collector/env/t":  # the one clock of all cells
            assert torch.equal(state[name][k].nan_to_num(), own_state[name][0].nan_to_num()), name


@pytest.mark.parametrize("policy", [{}, {"net": "branches", "hidden": [16, 16]}])
def test_run_k_of_a_population_is_run_k_alone(twin: str, one_thread: None, policy: dict[str, Any]) -> None:
    agents = [
        {"lr": 1e-2, "gamma": 0.9, "tau": 0.1, "ent_coef": 0.3, "target_entropy": -0.5},
        {"lr": 1e-3, "gamma": 0.5, "tau": 1.0, "ent_coef": 1.0, "target_entropy": -1.0},
        {"lr": 3e-3, "gamma": 0.99, "tau": 0.01, "ent_coef": 2.0, "target_entropy": 0.0},
    ]
    for k in (0, 2):
        check_alone(
            learner(SEEDS, agents, policy=policy), learner(SEEDS[k : k + 1], agents[k : k + 1], policy=policy), k
        )


@pytest.mark.parametrize("overrides", [{}, {"time_limit": "truncated"}])
def test_a_run_that_goes_on_from_a_checkpoint_is_the_unbroken_run(twin: str, overrides: dict[str, str]) -> None:
    agent = {"buffer": 40, "train_freq": 2}  # wraps around at the second iteration
    whole = learner(SEEDS[:2], agent, **overrides)
    states = []
    for i in range(3):
        states.append({name: tensor.clone() for name, tensor in whole.state().items()})
        whole.iterate(i)
    for start in (1, 2):
        broken = learner(SEEDS[:2], agent, **overrides)
        broken.load_state(states[start])
        for i in range(start, 3):
            broken.iterate(i)
        for name, tensor in whole.state().items():
            assert torch.equal(tensor.nan_to_num(), broken.state()[name].nan_to_num()), name


def test_both_twins_train_alike() -> None:
    states = []
    for name in ("torch", "native"):
        kernels.configure(name, "float32")
        made = learner([5])
        made.iterate(0)
        states.append(made.state())
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], rtol=1e-2, atol=1e-3, equal_nan=True, msg=name)


def test_discrete_actions_are_refused_in_one_line() -> None:
    with pytest.raises(
        UserError, match=r"^agent: sac needs continuous actions, and this task has 24 discrete"
    ) as error:
        learner([0], env="paper_discrete")
    assert "\n" not in str(error.value) and "env=paper" in str(error.value) and "agent=ppo" in str(error.value)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match=r"agent\.rollout_steps: 30 is not a multiple of n_envs = 4"):
        agent_config("sac", **(SMALL | {"rollout_steps": 30}))
    with pytest.raises(UserError, match=r"agent\.buffer: 3 transitions hold no step of all n_envs = 4 cells"):
        agent_config("sac", **(SMALL | {"buffer": 3}))


def test_no_more_is_allocated_than_a_run_takes() -> None:
    assert learner([0]).replay.rows == 96 // 4 + 1
    assert learner([0], {"buffer": 40}).replay.rows == 11
