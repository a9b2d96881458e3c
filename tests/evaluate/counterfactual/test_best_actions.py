"""The row of the best allowed actions against its definition: the true change, as near as the box of actions leads."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from envs.helpers import build, config
from fakes.screens import additive

from perturbrl.envs.counterfactual.residual import residual_changes
from perturbrl.envs.counterfactual.rewards import REWARDS
from perturbrl.evaluate.counterfactual.best_actions import best_changes
from perturbrl.evaluate.counterfactual.returns import best_returns, policy_returns, share
from perturbrl.evaluate.returns import uniforms
from perturbrl.rng import Streams
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.hydra.compose import compose_job

TABLE = additive()
SMALL, HUGE = 0.4, 1000.0
BATCH = 32


def made(part="test", n_runs=1, **changes):
    asked = {"state_size": 5, "action": "genes", "action_size": 3, "mates": 4, **changes}
    cells = getattr(TABLE.split, f"control_{part}")
    return build([config("counterfactual", **asked)] * n_runs, TABLE, BATCH, cells)


def nearest(env, residual, step_size):
    """The true changes [n, G] of the part, clipped along each direction to what the steps of an episode reach."""
    begin = residual_changes(TABLE, residual)[env.part.conditions]
    geometry, most = env.dynamics.geometry, step_size * env.dynamics.horizon * env.dynamics.geometry.reach
    along = (env.part.effect - begin) @ geometry.change
    return begin + np.clip(along, -most, most) @ geometry.change.T


def test_with_all_genes_and_a_wide_box_the_best_actions_earn_the_perfect_return():
    env = made(step_size=HUGE)
    best = best_returns(env, 0)
    torch.testing.assert_close(best.returns, best.best, rtol=1e-3, atol=1e-4)
    assert best.numbers(1 - 1e-3)["success_rate"] == 1
    np.testing.assert_allclose(best_changes(env, env.part.conditions).change[0], env.part.effect, atol=1e-4)


@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("step_size", [SMALL, HUGE])
@pytest.mark.parametrize(
    ("action", "residual", "horizon"), [("genes", "none", 1), ("pca", "train_mean", 3), ("de", "bilinear", 2)]
)
def test_they_predict_the_true_change_as_near_as_the_box_leads(reward, step_size, action, residual, horizon):
    env = made(reward=reward, action=action, residual=residual, horizon=horizon, step_size=step_size)
    asked = env.part.conditions[::-1]
    predicted = best_changes(env, asked)
    np.testing.assert_allclose(predicted.change[0], nearest(env, residual, step_size)[::-1], atol=1e-4)
    assert 0 < predicted.mean_abs_action[0] <= 1
    assert torch.isfinite(best_returns(env, 0).returns).all()


@pytest.mark.parametrize("horizon", [1, 3])
def test_with_a_small_box_they_earn_what_the_clipped_change_earns(horizon):
    env = made(step_size=SMALL / horizon, residual="train_mean", horizon=horizon)
    best = best_returns(env, 0)
    reached = nearest(env, "train_mean", SMALL / horizon)
    whole, left = ((env.part.effect - change) ** 2 for change in (0, reached))
    earns = (whole - left).sum(1) / env.dynamics.geometry.norm
    env.reset(uniforms(Streams([0], "cpu"), env, "evaluate/reset", 0, "cpu"))
    drawn = env.condition[0].numpy()
    np.testing.assert_allclose(best.returns[0], earns[drawn], rtol=1e-4, atol=1e-5)
    assert (best.returns < best.best - 0.01).all()


@pytest.mark.parametrize("step_size", [SMALL, HUGE])
@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_no_policy_earns_more(part, step_size):
    """Policies near the best, of any size and random ones; with and without a box that clips."""
    env = made(part, action="pca", action_size=4, step_size=step_size, n_runs=6)
    best = best_returns(env, 3).returns
    clips = best_changes(env, env.part.conditions).mean_abs_action[0] > 0.5
    assert clips == (step_size == SMALL)
    generator = torch.Generator().manual_seed(0)
    for scale in (1e-3, 0.03, 0.3, 3.0):

        def near(obs, scale=scale):
            action = env.demonstration()
            return action + scale * action.abs().max() * torch.randn(action.shape, generator=generator)

        def linear(obs, scale=scale):
            return scale * obs @ torch.randn(obs.shape[-1], env.action_space.size, generator=generator)

        for act in (near, linear):
            returns = policy_returns(act, env, 3).returns
            assert (returns <= best + 1e-4).all()
            assert (share(returns, best) <= 1 + 1e-5).all()


def test_a_share_of_nothing_is_none():
    returns = torch.tensor([[1.0, 3.0], [1.0, 3.0], [1.0, 3.0]])
    allowed = torch.tensor([[4.0, 4.0], [-2.0, 1.0], [0.0, 0.0]])
    torch.testing.assert_close(share(returns, allowed), torch.tensor([0.5, torch.nan, torch.nan]), equal_nan=True)


def test_the_box_of_the_experiment_does_not_bind(tmp_path):
    """Every training effect is in reach: a wider box adds nothing to what the best actions earn, a narrow one loses."""
    cells = ("source=landscape", "source.perturbations=single", "source.n_cells=1200", "conditions=landscape")
    job = compose_job(
        ["experiment=counterfactual", "agent=ppo", "seed=0", *cells, "conditions.min_cells=5"], tmp_path, "x"
    )
    table = load_cells(job)

    def earned(step_size):
        env = dataclasses.replace(job.config.env, step_size=step_size)
        return best_returns(build([env], table, BATCH, table.split.control_train), 0).returns.mean().item()

    assert earned(job.config.env.step_size) == pytest.approx(earned(HUGE), rel=1e-3)
    assert earned(job.config.env.step_size / 4) < 0.95 * earned(HUGE)
