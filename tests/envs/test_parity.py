from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from .helpers import TASKS, actions, build, cell_table, config, uniforms
from .reference import OneCell

RUNS = (
    {"max_perturb": 1, "perturb_prob": 1.0, "time_limit": "terminated"},
    {"max_perturb": 4, "perturb_prob": 0.5, "time_limit": "truncated", "step_size": 0.7},
    {"max_perturb": 20, "perturb_prob": 0.0, "clip": 1.5},
)
DISCRETE = ({"reward_gene": "episode"}, {"reward_gene": "step"}, {"reward_gene": "step", "reward_gene_weight": 3.0})


def runs(name, horizon):
    extra = DISCRETE if name == "paper_discrete" else ({}, {}, {})
    return [config(name, horizon=horizon, **a, **b) for a, b in zip(RUNS, extra, strict=True)]


def assert_equals_reference(configs, table, n_envs, n_steps, seed):
    env = build(configs, table, n_envs)
    u0, u, a = uniforms(env, seed), uniforms(env, seed + 1, n_steps), actions(env, seed + 2, n_steps)
    one = [[OneCell(c, table, table.train) for _ in range(n_envs)] for c in configs]
    at = [(k, b) for k in range(len(configs)) for b in range(n_envs)]
    obs = env.reset(u0)
    for k, b in at:
        np.testing.assert_array_equal(obs[k, b], one[k][b].reset(u0[k, b].numpy()))
    for t in range(n_steps):
        step = env.step(a[t], u[t])
        for k, b in at:
            action = a[t, k, b].item() if a.dim() == 3 else a[t, k, b].numpy()
            obs, reward, terminated, truncated, final = one[k][b].step(action, u[t, k, b].numpy())
            np.testing.assert_allclose(step.obs[k, b], obs, rtol=0, atol=2e-6)
            np.testing.assert_allclose(step.final_obs[k, b], final, rtol=0, atol=2e-6)
            assert step.reward[k, b].item() == pytest.approx(reward, rel=1e-5, abs=2e-5)
            assert (step.terminated[k, b].item(), step.truncated[k, b].item()) == (terminated, truncated)


@pytest.mark.parametrize("name", TASKS)
def test_every_step_equals_the_one_cell_reference(name):
    assert_equals_reference(runs(name, horizon=6), cell_table(), n_envs=9, n_steps=27, seed=3)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_adaptive_thresholds_equal_the_reference_over_episodes(name, rate):
    configs = [dataclasses.replace(c, threshold_rate=rate) for c in runs(name, horizon=6)]
    assert_equals_reference(configs, cell_table(), n_envs=4, n_steps=20, seed=3)


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(TASKS),
    n_cells=st.integers(1, 12),
    n_features=st.integers(1, 19),
    n_envs=st.integers(1, 5),
    horizon=st.integers(1, 4),
    seed=st.integers(0, 2**20),
)
def test_odd_sizes_equal_the_reference(name, n_cells, n_features, n_envs, horizon, seed):
    table = cell_table(n_cells, n_features, seed)
    assert_equals_reference(runs(name, horizon)[:2], table, n_envs, n_steps=6, seed=seed)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(("k", "rate"), [(0, 0.0), (1, 0.0), (2, 0.0), (1, 0.1)])
def test_run_k_of_a_population_equals_run_k_alone(name, k, rate):
    configs, table = [dataclasses.replace(c, threshold_rate=rate) for c in runs(name, horizon=5)], cell_table(50, 33)
    together, alone = build(configs, table, 6), build([configs[k]], table, 6)
    assert together.n_uniforms == alone.n_uniforms, "draws of a run must not depend on the other runs' settings"
    u, a = uniforms(together, 0, 13), actions(together, 1, 13)
    assert torch.equal(together.reset(u[0])[k], alone.reset(u[0, k : k + 1])[0])
    for t in range(1, 13):
        one, many = alone.step(a[t, k : k + 1], u[t, k : k + 1]), together.step(a[t], u[t])
        for field in ("obs", "reward", "terminated", "truncated", "final_obs"):
            assert torch.equal(getattr(one, field)[0], getattr(many, field)[k]), (t, field)
