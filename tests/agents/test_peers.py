"""PPO and TRPO against Stable-Baselines3 and sb3-contrib: the same task, the same settings, 100k steps.

Noise is that between seeds: the two means of the return over the last 20k steps agree when the 99 % Welch interval of
their difference holds 0 (six comparisons, so one of them fails by chance in about 5 of 100 runs), or when they differ
by less than TOLERANCE of what the peer has learned (its last return minus its first). Without CRISPR events learning
stands far out of the noise, and a wide interval must not pass for agreement: there the difference must be below LIMIT
of what was learned. With events the return of an episode has a standard deviation of more than 4, which hides what 100k
steps teach; how single updates agree is in ``test_peer_updates.py``.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from perturbrl import registry
from perturbrl.agents import kernels
from perturbrl.data.schema import CellTable
from perturbrl.envs import make
from perturbrl.rng import Streams

from .helpers import agent_config, cell_table, env_config, policy_config

pytestmark = [pytest.mark.slow, pytest.mark.peers]

SEEDS = range(int(os.environ.get("PERTURBRL_PARITY_SEEDS", "10")))
TOLERANCE, LIMIT = 0.05, 0.15
STEPS, ROLLOUT, ENVS, HORIZON = 100_000, 2048, 8, 128  # whole episodes in each rollout, so that means weigh them alike
LAST = 10  # rollouts: 20 480 steps
HIDDEN = [64, 64]
COMMON: dict[str, Any] = {"gamma": 0.99, "gae_lambda": 0.95}
LR = 3e-4
PPO: dict[str, Any] = {"minibatch": 64, "epochs": 10, "clip": 0.2, "max_grad_norm": 0.5}
TRPO: dict[str, Any] = {"minibatch": 128, "cg_iterations": 15, "damping": 0.1, "critic_epochs": 10}
SETTINGS = {"ppo": PPO, "trpo": TRPO}


@dataclasses.dataclass(frozen=True)
class Curve:
    """Mean return of the first rollout and of the last ``LAST``, each [seeds]."""

    first: NDArray[np.float64]
    last: NDArray[np.float64]


def curve(returns: NDArray[np.float64]) -> Curve:
    """``returns`` [rollouts, seeds]."""
    return Curve(returns[0], returns[-LAST:].mean(0))


def table() -> CellTable:
    return cell_table(n_cells=200, n_features=8, n_clusters=4, seed=3)


def own(name: str, task: dict[str, Any], precision: str = "float32", **settings: Any) -> Curve:
    kernels.configure("auto", precision)
    settings = {"total_steps": STEPS, "rollout_steps": ROLLOUT, "n_envs": ENVS, "lr": LR, **COMMON, **settings}
    seeds = list(SEEDS)
    config, cells = env_config("paper", **task), table()
    env = registry.envs["paper"].build([config] * len(seeds), cells, cells.train, ENVS, "cpu")
    configs, policies = [agent_config(name, **settings)] * len(seeds), [policy_config(hidden=HIDDEN)] * len(seeds)
    learner = registry.agents[name].build(configs, policies, env, cells.slices, Streams(seeds))
    returns = [learner.iterate(i)["return_mean"].double().numpy() for i in range(learner.n_iterations)]
    return curve(np.stack(returns))


def peer(build: Callable[..., Any], task: dict[str, Any]) -> Curve:
    from stable_baselines3.common.env_util import make_vec_env

    cells, runs = table(), []
    for seed in SEEDS:
        envs = make_vec_env(lambda: make("paper", cells, **task), n_envs=ENVS)
        net = {"net_arch": {"pi": HIDDEN, "vf": HIDDEN}}
        model = build(
            "MlpPolicy",
            envs,
            learning_rate=LR,
            n_steps=ROLLOUT // ENVS,
            policy_kwargs=net,
            seed=1000 * (seed + 1),  # environment k takes seed + k: those of two runs must not overlap
            device="cpu",
            **COMMON,
        )
        model.learn(STEPS)
        each = np.array(envs.env_method("get_episode_rewards"))  # [envs, episodes]
        runs.append(each.reshape(ENVS, -1, ROLLOUT // ENVS // HORIZON).mean((0, 2)))
    return curve(np.stack(runs, 1))


def welch(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
    """99 % interval of mean(a) - mean(b)."""
    from scipy.stats import ttest_ind

    interval = ttest_ind(a, b, equal_var=False).confidence_interval(0.99)
    return float(interval.low), float(interval.high)


def check_within_noise(ours: Curve, theirs: Curve, what: str, events: bool) -> None:
    learned = theirs.last.mean() - theirs.first.mean()
    difference = ours.last.mean() - theirs.last.mean()
    low, high = welch(ours.last, theirs.last)
    story = (
        f"{what}: ours {ours.first.mean():.3f} -> {ours.last.mean():.3f} (sd {ours.last.std(ddof=1):.3f}), "
        f"theirs {theirs.first.mean():.3f} -> {theirs.last.mean():.3f} (sd {theirs.last.std(ddof=1):.3f}), "
        f"difference {difference:.3f} [{low:.3f}, {high:.3f}], {difference / learned:.1%} of what was learned"
    )
    print(story)
    assert low <= 0 <= high or abs(difference) < TOLERANCE * learned, story
    if not events:
        assert learned > 4 * theirs.last.std(ddof=1), f"the peer learned too little for a comparison. {story}"
        assert abs(difference) < LIMIT * learned, story


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("perturb_prob", [0.8, 0.0])
def test_ppo_learns_as_stable_baselines3_does(perturb_prob: float) -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    task = {"horizon": HORIZON, "perturb_prob": perturb_prob}
    ours = own("ppo", task, **PPO)

    def build(*args: Any, **kwargs: Any) -> Any:
        return sb3.PPO(*args, batch_size=64, n_epochs=10, clip_range=0.2, max_grad_norm=0.5, **kwargs)

    check_within_noise(ours, peer(build, task), f"PPO, perturb_prob {perturb_prob}", perturb_prob > 0)


@pytest.mark.parametrize("perturb_prob", [0.8, 0.0])
@pytest.mark.parametrize("kl", ["per_dimension", "summed"])
def test_trpo_learns_as_sb3_contrib_does(kl: str, perturb_prob: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """sb3-contrib averages the KL over action dimensions; for the textbook's it is made to sum them."""
    contrib = pytest.importorskip("sb3_contrib")
    task = {"horizon": HORIZON, "perturb_prob": perturb_prob}
    if kl == "summed":
        from sb3_contrib.trpo import trpo as module

        each_dimension = module.kl_divergence
        monkeypatch.setattr(module, "kl_divergence", lambda *dists: each_dimension(*dists).sum(-1))
    ours = own("trpo", task, kl=kl, **TRPO)

    def build(*args: Any, **kwargs: Any) -> Any:
        return contrib.TRPO(*args, batch_size=128, cg_max_steps=15, cg_damping=0.1, n_critic_updates=10, **kwargs)

    check_within_noise(ours, peer(build, task), f"TRPO {kl}, perturb_prob {perturb_prob}", perturb_prob > 0)


@pytest.mark.parametrize("name", ["ppo", "trpo"])
def test_bfloat16_products_learn_as_float32_ones_do(name: str) -> None:
    task = {"horizon": HORIZON, "perturb_prob": 0.0}
    exact, rounded = (own(name, task, precision, **SETTINGS[name]) for precision in ("float32", "bf16"))
    check_within_noise(rounded, exact, f"{name}, bf16", False)
