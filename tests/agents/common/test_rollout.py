from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from perturbrl.agents.common.rollout import Collector, EpisodeTracker, gae
from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.envs.base import ActionSpace
from perturbrl.rng import Streams

from ..helpers import FakeEnv, policy_config

FLOAT64 = torch.float64


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=FLOAT64).unsqueeze(1)


def naive_gae(r: list, v: list, after: list, term: list, trunc: list, gamma: float, lam: float) -> list:
    """Sum (gamma lambda)^l delta_(t+l) up to the end of the episode, written forward, for one cell."""
    steps, out = len(r), []
    for t in range(steps):
        total, weight = 0.0, 1.0
        for i in range(t, steps):
            total += weight * (r[i] + (0.0 if term[i] else gamma * after[i]) - v[i])
            if term[i] or trunc[i]:
                break
            weight *= gamma * lam
        out.append(total)
    return out


@given(st.integers(0, 1000))
@settings(max_examples=30)
def test_gae_against_a_naive_loop(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 9, 3)
    r, v, after = (torch.randn(shape, generator=generator, dtype=FLOAT64) for _ in range(3))
    u = torch.rand(shape, generator=generator)
    term, trunc = u < 0.15, (u > 0.8) & (u < 0.95)
    gamma, lam = row(0.9, 1.0), row(0.7, 0.95)
    found = gae(r, v, after, term, trunc, gamma, lam)
    for k in range(2):
        for b in range(3):
            one = [x[k, :, b].tolist() for x in (r, v, after, term, trunc)]
            expected = naive_gae(*one, gamma[k].item(), lam[k].item())
            torch.testing.assert_close(found[k, :, b], torch.tensor(expected, dtype=FLOAT64))


def never(steps: int) -> Tensor:
    return torch.zeros(1, steps, 1, dtype=torch.bool)


def test_constant_reward_without_a_critic_sums_the_geometric_series() -> None:
    steps, decay = 12, 0.9 * 0.8
    zero, one = torch.zeros(1, steps, 1, dtype=FLOAT64), torch.ones(1, steps, 1, dtype=FLOAT64)
    found = gae(one, zero, zero, never(steps), never(steps), row(0.9), row(0.8))
    expected = (1 - decay ** torch.arange(steps, 0, -1, dtype=FLOAT64)) / (1 - decay)
    torch.testing.assert_close(found[0, :, 0], expected)


def test_a_perfect_critic_leaves_no_advantage() -> None:
    value = torch.full((1, 8, 1), 1 / (1 - 0.9), dtype=FLOAT64)
    found = gae(torch.ones_like(value), value, value, never(8), never(8), row(0.9), row(0.95))
    torch.testing.assert_close(found, torch.zeros_like(found))


def test_lambda_0_is_the_one_step_error_and_lambda_1_the_discounted_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    r, v = (torch.randn(1, 6, 1, generator=generator, dtype=FLOAT64) for _ in range(2))
    last = torch.tensor([[[0.7]]], dtype=FLOAT64)
    after = torch.cat([v[:, 1:], last], 1)
    td = gae(r, v, after, never(6), never(6), row(0.9), row(0.0))
    torch.testing.assert_close(td, r + 0.9 * after - v)
    sums = gae(r, v, after, never(6), never(6), row(0.9), row(1.0))
    for t in range(6):
        ahead = sum(0.9 ** (i - t) * r[0, i, 0] for i in range(t, 6)) + 0.9 ** (6 - t) * 0.7
        torch.testing.assert_close(sums[0, t, 0], ahead - v[0, t, 0])
    blind = gae(r, v, after, never(6), never(6), row(0.0), row(1.0))
    torch.testing.assert_close(blind, r - v)


def test_termination_cuts_the_future_and_truncation_bootstraps_from_it() -> None:
    r = torch.zeros(1, 4, 1, dtype=FLOAT64)
    v, after = torch.zeros_like(r), torch.full_like(r, 10.0)
    end = never(4)
    end[0, 1] = True
    terminated = gae(r, v, after, end, never(4), row(0.5), row(1.0))[0, :, 0].tolist()
    truncated = gae(r, v, after, never(4), end, row(0.5), row(1.0))[0, :, 0].tolist()
    # after = 10 gives each step a delta of 5; step 1 ends the episode
    assert terminated == [5.0, 0.0, 7.5, 5.0]
    assert truncated == [7.5, 5.0, 7.5, 5.0]


def collector(env: FakeEnv, steps: int, seeds: tuple[int, ...] = (3, 4)) -> Collector:
    streams = Streams(seeds)
    model = ActorCritic.for_env([policy_config()] * len(seeds), env, {}, streams)
    return Collector(model, env, streams, steps)


@torch.no_grad()
def test_the_collector_bootstraps_from_the_last_observation_of_a_truncated_episode() -> None:
    env = FakeEnv(2, 3, horizon=4, limit="truncated")
    c = collector(env, 6)
    c.reset(0)
    gamma, lam = torch.tensor([[0.9], [0.8]]), torch.tensor([[0.95], [0.5]])
    batch = c.collect(0, gamma, lam)
    clock = [0, 1, 2, 3, 0, 1]

    def value(t: int) -> Tensor:
        return c.model.value(env._obs(t))[0]

    after = [value(t + 1) for t in clock]  # at t = 3 this is V of step 4, never seen as an observation
    flags = [t == 3 for t in clock]
    v = batch.value.view(2, 6, 3)
    for i, t in enumerate(clock):
        assert torch.equal(batch.obs.view(2, 6, 3, 3)[:, i], env._obs(t))
        torch.testing.assert_close(v[:, i], value(t))
    for k in range(2):
        for b in range(3):
            values = [x[k, b].item() for x in after]
            rewards = [t + 1.0 for t in clock]
            args = (rewards, v[k, :, b].tolist(), values, [False] * 6, flags, gamma[k].item(), lam[k].item())
            expected = torch.tensor(naive_gae(*args))
            torch.testing.assert_close(batch.advantage.view(2, 6, 3)[k, :, b], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(batch.ret, batch.advantage + batch.value)
    assert torch.equal(c.obs, env._obs(2))


@torch.no_grad()
def test_the_collector_does_not_bootstrap_where_an_episode_terminates() -> None:
    env = FakeEnv(1, 2, horizon=3, limit="terminated")
    c = collector(env, 3, (3,))
    c.reset(0)
    batch = c.collect(0, torch.ones(1, 1), torch.ones(1, 1))
    torch.testing.assert_close(batch.ret.view(1, 3, 2), torch.tensor([6.0, 5.0, 3.0]).view(1, 3, 1).expand(1, 3, 2))


@torch.no_grad()
@pytest.mark.parametrize("actions", [ActionSpace("box", 2), ActionSpace("discrete", 5)])
def test_the_batch_holds_the_actions_taken_and_their_log_probabilities(actions: ActionSpace) -> None:
    env = FakeEnv(2, 3, horizon=4, limit="terminated", actions=actions)
    c = collector(env, 5)
    c.reset(0)
    batch = c.collect(0, torch.full((2, 1), 0.9), torch.full((2, 1), 0.9))
    assert torch.equal(batch.action.unflatten(1, (5, 3)), torch.stack(env.actions, 1))
    dist, _ = c.model.policy(batch.obs)
    torch.testing.assert_close(batch.log_prob, dist.log_prob(batch.action)[0])
    assert batch.action.dtype == (torch.int64 if actions.kind == "discrete" else torch.float32)
    assert len(batch.action.unique()) > 2  # noise differs from step to step and cell to cell


@torch.no_grad()
def test_the_collector_reports_the_return_of_whole_episodes_across_rollouts() -> None:
    env = FakeEnv(2, 3, horizon=4, limit="terminated")
    c = collector(env, 3)
    c.reset(0)
    gamma = torch.full((2, 1), 0.9)
    c.collect(0, gamma, gamma)
    assert torch.isnan(c.episodes.last).all()  # no episode has ended
    c.collect(1, gamma, gamma)
    assert c.episodes.last.tolist() == [10.0, 10.0]  # 1 + 2 + 3 + 4


def test_the_tracker_keeps_the_last_mean_and_each_cells_own_running_return() -> None:
    tracker = EpisodeTracker(1, 2, torch.device("cpu"))
    done = torch.tensor([[[False, True], [True, False]]])
    tracker.update(torch.tensor([[[1.0, 10.0], [2.0, 20.0]]]), done)
    assert tracker.last.tolist() == [(3.0 + 10.0) / 2]
    assert tracker.running.tolist() == [[0.0, 20.0]]
    tracker.update(torch.ones(1, 1, 2), torch.zeros(1, 1, 2, dtype=torch.bool))
    assert tracker.last.tolist() == [6.5]
    assert tracker.running.tolist() == [[1.0, 21.0]]


@torch.no_grad()
def test_a_collector_goes_on_from_its_state() -> None:
    gamma = torch.full((2, 1), 0.9)
    a, b = (collector(FakeEnv(2, 3, horizon=4, limit="truncated"), 3) for _ in range(2))
    a.reset(0)
    a.collect(0, gamma, gamma)
    b.load_state({k: v.clone() for k, v in a.state().items()})
    one, other = a.collect(1, gamma, gamma), b.collect(1, gamma, gamma)
    for name in ("obs", "action", "advantage", "ret"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert torch.equal(a.episodes.last, b.episodes.last)
