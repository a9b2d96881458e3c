"""Groups of episodes that start alike: returns, advantages and weights against plain loops over cells and steps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from perturbrl.agents.common.groups import Groups
from perturbrl.agents.common.losses import group_relative, leave_one_out, reference_kl
from perturbrl.errors import UserError

from ..helpers import cell_table, make_env, make_learner

FLOAT64 = torch.float64


def episodes(reward: list, over: list, gamma: float) -> list[tuple[int, int, float, bool]]:
    """First step, length, return and whether it ended, of each episode of one cell."""
    found, begin, total = [], 0, 0.0
    for t, (r, end) in enumerate(zip(reward, over, strict=True)):
        total += gamma ** (t - begin) * r
        if end or t + 1 == len(reward):
            found.append((begin, t + 1 - begin, total, bool(end)))
            begin, total = t + 1, 0.0
    return found


def naive(reward: Tensor, over: Tensor, gamma: float, size: int, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Advantage, return and weight of each step of one run, [T, B], one episode after another."""
    steps, cells = reward.shape
    each = [episodes(reward[:, b].tolist(), over[:, b].tolist(), gamma) for b in range(cells)]
    advantage, ret, weight = (torch.zeros(steps, cells, dtype=FLOAT64) for _ in range(3))
    for b in range(cells):
        mates = [m for m in range(cells) if m % (cells // size) == b % (cells // size)]
        for e, (begin, length, total, _) in enumerate(each[b]):
            rows = slice(begin, begin + length)
            ret[rows, b] = total
            group = [each[m][e] if e < len(each[m]) else None for m in mates]
            if any(g is None or g[0] != begin or not g[3] for g in group):
                continue
            returns = torch.tensor([g[2] for g in group], dtype=FLOAT64)
            others = torch.tensor([each[m][e][2] for m in mates if m != b], dtype=FLOAT64)
            relative = (total - returns.mean()) / (returns.std() + 1e-8)
            advantage[rows, b] = relative if kind == "relative" else total - others.mean()
            weight[rows, b] = 1 / length if kind == "relative" else 1.0
    return advantage, ret, weight * steps * cells / weight.sum()


@given(st.integers(0, 1000), st.sampled_from([2, 3, 6]), st.sampled_from(["relative", "left_out"]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_against_a_loop_over_episodes(seed: int, size: int, kind: str, in_step: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 11, 6)
    reward = torch.randn(shape, generator=generator, dtype=FLOAT64)
    over = torch.rand(shape, generator=generator) < 0.3
    over[:, 7] = True  # so that some episode of every cell ends
    over[:, :7, : 6 // size * (size - 1)] &= in_step
    if in_step:
        over = over[..., :1].expand(shape)
    gamma = torch.tensor([[1.0], [0.7]], dtype=FLOAT64)
    obs, zero = torch.zeros(*shape, 1, dtype=FLOAT64), torch.zeros(shape, dtype=FLOAT64)
    groups = Groups(size, group_relative if kind == "relative" else leave_one_out, by_length=kind == "relative")
    if not any(int(over[s].sum()) for s in range(2)):
        return
    try:
        batch = groups.rollout(obs, obs, zero, reward, over, gamma)
    except UserError:
        assert not in_step  # no group of any run ended together
        return
    for k in range(2):
        expected = naive(reward[k], over[k], gamma[k].item(), size, kind)
        if torch.isnan(expected[2]).any():  # no group of this run: nothing counts
            assert (batch.weight[k] == 0).all()
            continue
        for found, wanted in zip((batch.advantage, batch.ret, batch.weight), expected, strict=True):
            torch.testing.assert_close(found[k].view(11, 6), wanted)


def test_a_longer_episode_of_a_group_counts_whole() -> None:
    reward = torch.ones(1, 5, 2)
    over = torch.tensor([[[0, 0], [1, 0], [0, 0], [0, 1], [0, 0]]], dtype=torch.bool)  # 2 and 4 steps
    groups = Groups(2, leave_one_out, by_length=True)
    batch = groups.rollout(torch.zeros(1, 5, 2, 1), reward, reward, reward, over, torch.ones(1, 1))
    # ten steps in all, of which two episodes of 2 and 4 count: half the weight to each
    assert batch.weight[0].view(5, 2).T.tolist() == [[2.5, 2.5, 0, 0, 0], [1.25, 1.25, 1.25, 1.25, 0]]
    assert batch.advantage[0].view(5, 2).T.tolist() == [[-2.0, -2.0, 0, 0, 0], [2.0, 2.0, 2.0, 2.0, 0]]


def test_advantages_of_a_group_sum_to_zero_and_equal_returns_give_none() -> None:
    returns = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=FLOAT64)
    for estimate in (group_relative, leave_one_out):
        assert estimate(returns).sum(-1).abs().max() < 1e-12
        assert torch.equal(estimate(torch.full((1, 2, 4), 3.0)), torch.zeros(1, 2, 4))
    torch.testing.assert_close(group_relative(returns).std(-1), torch.ones(2, 3, 4, dtype=FLOAT64))
    torch.testing.assert_close(leave_one_out(returns), (returns - returns.mean(-1, keepdim=True)) * 5 / 4)


@pytest.mark.parametrize("size", [2, 3])
def test_leaving_one_out_is_unbiased_also_where_a_group_shares_its_noise(size: int) -> None:
    """Every outcome of a bandit of three actions and four kinds of noise is listed, so that means are exact."""
    generator = torch.Generator().manual_seed(0)
    reward = torch.randn(3, 4, generator=generator, dtype=FLOAT64)  # of an action under a noise
    logits = torch.randn(3, generator=generator, dtype=FLOAT64).requires_grad_()
    log_pi = torch.log_softmax(logits, 0)
    (wanted,) = torch.autograd.grad((log_pi.exp() * reward.mean(1)).sum(), logits, retain_graph=True)
    actions = torch.cartesian_prod(*[torch.arange(3)] * size)  # those of a group, [3^K, K]
    chance = log_pi.detach().exp()[actions].prod(1)
    estimates = [(leave_one_out(reward[actions, noise]) * log_pi[actions]).mean(1) for noise in range(4)]
    (found,) = torch.autograd.grad((chance * torch.stack(estimates).mean(0)).sum(), logits)
    torch.testing.assert_close(found, wanted)


def test_the_estimate_of_the_reference_kl_is_unbiased_and_not_negative() -> None:
    p, q = (torch.tensor(x, dtype=FLOAT64) for x in ([0.1, 0.2, 0.7], [0.3, 0.5, 0.2]))
    each = reference_kl(p.log(), q.log())
    assert (each >= 0).all()
    torch.testing.assert_close((p * each).sum(), (p * (p / q).log()).sum())


@pytest.mark.parametrize("env", ["paper", "paper_discrete"])
@pytest.mark.parametrize("name", ["grpo", "rloo"])
def test_cells_of_a_group_start_alike_in_every_episode_and_act_apart(env: str, name: str) -> None:
    settings = {"n_envs": 6, "group": 3, "rollout_steps": 6 * 8, "minibatch": 16}
    learner = make_learner(name, [1, 2], env=env, agent=settings, horizon=4)
    firsts = []
    for i in range(2):
        stage = learner.stages[0]
        batch = learner.collector.collect(i, stage.gamma, stage.gae_lambda, None, stage.groups)
        obs, action = batch.obs.view(2, 8, 3, 2, -1), batch.action.view(2, 8, 3, 2, -1)
        for t in (0, 4):
            assert (obs[:, t] == obs[:, t, :1]).all()
            assert (obs[:, t, 0, 0] != obs[:, t, 0, 1]).any(-1).all()  # two groups, two starts
            firsts.append(obs[:, t, 0])
        assert (action[:, :, 0] != action[:, :, 1]).any()
        assert (obs[:, 3, 0] != obs[:, 3, 1]).any(-1).all()
        assert (batch.weight == 1).all() and (batch.value == 0).all()
    assert len({tuple(x.flatten().tolist()) for x in firsts}) == 4  # a new start in each episode


def test_rollouts_shorter_than_an_episode_are_refused() -> None:
    with pytest.raises(UserError, match=r"^agent\.rollout_steps: no episode of this task ends within 16 steps"):
        make_learner("rloo", [1], horizon=17).iterate(0)


def test_a_task_whose_cells_do_not_start_alike_is_refused() -> None:
    env = make_env("paper", 1, 4, cell_table(), horizon=4)
    reset = env.reset
    env.reset = lambda u: reset(torch.rand_like(u))  # type: ignore[method-assign]
    learner = make_learner("rloo", [1], horizon=4)
    learner.collector.env = env
    with pytest.raises(UserError, match=r"^agent\.group: this task starts cells .* in different states"):
        learner.iterate(0)


@pytest.mark.parametrize(("mates", "refused"), [(1, False), (2, False), (4, True)])
def test_cells_that_a_task_compares_must_be_of_different_groups(mates: int, refused: bool) -> None:
    learner = make_learner("rloo", [1], horizon=4)  # two groups of two cells
    learner.collector.env.mates = mates
    if refused:
        with pytest.raises(UserError, match=r"^agent\.group: env\.mates = 4 must divide n_envs / group = 2"):
            learner.iterate(0)
    else:
        learner.iterate(0)
