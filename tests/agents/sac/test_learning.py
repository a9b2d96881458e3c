"""Does SAC learn? On a task whose best policy is known, and as much as Stable-Baselines3 does on ``env=paper``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl import registry
from perturbrl.agents import kernels
from perturbrl.envs.base import BatchedEnv
from perturbrl.rng import Streams

from ..helpers import agent_config, cell_table, make_env, policy_config
from ..test_learning import Quadratic

Act = Callable[[Tensor], Tensor]


def mean_return(act: Act, env: BatchedEnv, horizon: int) -> Tensor:
    """Return of one episode of every cell, [S]."""
    streams = Streams([99] * env.n_runs)
    obs = env.reset(streams.uniform("reset", 0, (env.n_envs, env.n_uniforms)))
    total = torch.zeros(env.n_runs, env.n_envs)
    for t in range(horizon):
        step = env.step(act(obs), streams.uniform("env", t, (env.n_envs, env.n_uniforms)))
        obs, total = step.obs, total + step.reward
    return total.mean(1)


@pytest.mark.slow
def test_it_comes_near_the_best_policy_of_a_known_task() -> None:
    kernels.configure("auto", "float32")
    seeds = (0, 1, 2)
    settings = {"rollout_steps": 256, "n_envs": 4, "total_steps": 4096, "minibatch": 64, "lr": 3e-3, "gamma": 0.9}
    configs = [agent_config("sac", **settings)] * len(seeds)
    policies = [policy_config(hidden=[32, 32], activation="relu")] * len(seeds)
    made = registry.agents["sac"].build(configs, policies, Quadratic(3, 4, "box"), {}, Streams(seeds))
    task = Quadratic(3, 500, "box")
    before = mean_return(made.model.act, task, task.horizon)
    for i in range(made.n_iterations):
        made.iterate(i)
    best = mean_return(lambda x: (-x / task.step_size).clamp(-1, 1), task, task.horizon)
    after = mean_return(made.model.act, task, task.horizon)
    # doing nothing costs 16 x 2 x 4/3 = 43, the best policy about 4
    assert (before < -20).all() and (best > -5).all()
    assert (after > best - 1).all(), (before, after, best)


STEPS, HORIZON, HIDDEN, SEEDS = 3000, 20, [64, 64], (0, 1, 2)
TASK: dict[str, Any] = {"perturb_prob": 0.0, "horizon": HORIZON}


def ours() -> NDArray[np.float64]:
    """Mean return of the episodes of each third of training, [3, seeds]."""
    kernels.configure("auto", "float32")
    cells, settings = paper_cells(), {"rollout_steps": HORIZON, "total_steps": STEPS}
    env = make_env("paper", len(SEEDS), 1, cells, **TASK)
    policies = [policy_config(hidden=HIDDEN, activation="relu")] * len(SEEDS)
    configs = [agent_config("sac", **settings)] * len(SEEDS)
    made = registry.agents["sac"].build(configs, policies, env, cells.slices, Streams(SEEDS))
    return thirds(np.stack([made.iterate(i)["return_mean"].double().numpy() for i in range(made.n_iterations)]))


def theirs() -> NDArray[np.float64]:
    from stable_baselines3 import SAC
    from stable_baselines3.common.monitor import Monitor

    from perturbrl.envs import make

    runs = []
    for seed in SEEDS:
        env = Monitor(make("paper", paper_cells(), **TASK))
        model = SAC("MlpPolicy", env, policy_kwargs={"net_arch": HIDDEN}, seed=1000 * (seed + 1), device="cpu")
        model.learn(STEPS)
        runs.append(env.get_episode_rewards())
    return thirds(np.array(runs).T)


def paper_cells() -> Any:
    return cell_table(n_cells=200, n_features=8, n_clusters=4, seed=3)


def thirds(returns: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([part.mean(0) for part in np.array_split(returns, 3)])


@pytest.mark.slow
@pytest.mark.peers
def test_returns_along_training_are_those_of_the_peer() -> None:
    """Three seeds: the means of each third of training differ by less than 4 standard errors of their difference."""
    mine, peer = ours(), theirs()
    error = np.sqrt((mine.var(1, ddof=1) + peer.var(1, ddof=1)) / len(SEEDS))
    story = f"ours {mine.mean(1)}, theirs {peer.mean(1)}, standard error of the difference {error}"
    print(story)
    assert (np.abs(mine.mean(1) - peer.mean(1)) < 4 * error).all(), story
