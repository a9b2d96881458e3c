"""What agents learn against Stable-Baselines3 and sb3-contrib: the same task, settings and steps, ten seeds each.

Measured is the gain of a trained policy: the mean return of its deterministic actions over ``EPISODES`` episodes minus
that of doing nothing, on the same draws for every policy of both sides. So the noise left is that between training
runs. Both sides are equivalent if the 90 % Welch interval of the difference of their means lies within ``MARGIN`` of
the peer's gain: two one-sided t tests at 5 % (TOST, Schuirmann 1987), with the limits of +-20 % that are customary for
bioequivalence. A wide interval thus fails. All streams are disjoint: each run of a peer has its own seed for networks
and actions and its own generator of episodes, and ours derive theirs by name.

Tasks are so small, and learning rates so high, that a policy is near its best in the end; CRISPR events hit one gene.
How single updates agree is in ``test_peer_updates.py``.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from perturbrl import registry
from perturbrl.agents import kernels
from perturbrl.data.schema import CellTable
from perturbrl.envs import make_vec
from perturbrl.evaluate.returns import return_gain
from perturbrl.rng import Streams

from .helpers import agent_config, cell_table, make_env, policy_config

pytestmark = [pytest.mark.slow, pytest.mark.peers]

SEEDS = range(int(os.environ.get("PERTURBRL_PARITY_SEEDS", "10")))
MARGIN, EPISODES, EPISODE_SEED = 0.2, 512, 1
TASK = {"horizon": 32, "max_perturb": 1}
HIDDEN = [32, 32]
PROBABILITIES = [0.8, 0.0]  # of a CRISPR event
Gains = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One agent and its peer: settings of both, and environment steps without and with events."""

    agent: str
    peer: str
    ours: dict[str, Any]
    theirs: dict[str, Any]
    steps: tuple[int, int] = (20_480, 40_960)
    n_envs: int = 32
    rollout: int = 1024


CRITIC = {"gamma": 0.99, "gae_lambda": 0.95}
CASES = {
    "ppo": Case(
        "ppo",
        "stable_baselines3.PPO",
        {"lr": 1e-3, "minibatch": 128, "epochs": 5, "clip": 0.2, "max_grad_norm": 0.5, **CRITIC},
        {"learning_rate": 1e-3, "batch_size": 128, "n_epochs": 5, "clip_range": 0.2, "max_grad_norm": 0.5, **CRITIC},
    ),
    "trpo": Case(
        "trpo",
        "sb3_contrib.TRPO",
        {"lr": 1e-3, "minibatch": 128, "cg_iterations": 10, "damping": 0.1, "critic_epochs": 5, **CRITIC},
        {"learning_rate": 1e-3, "batch_size": 128, "cg_max_steps": 10, "cg_damping": 0.1, "n_critic_updates": 5}
        | CRITIC,
    ),
    "a2c": Case(
        "a2c",
        "stable_baselines3.A2C",
        {"lr": 7e-4, "gamma": 0.99, "gae_lambda": 1.0, "vf_coef": 0.5, "max_grad_norm": 0.5},
        {"learning_rate": 7e-4, "gamma": 0.99, "gae_lambda": 1.0, "vf_coef": 0.5, "max_grad_norm": 0.5},
        n_envs=16,
        rollout=80,
    ),
}


def table() -> CellTable:
    return cell_table(n_cells=200, n_features=8, n_clusters=4, seed=3)


def gains(act: Callable[[torch.Tensor], torch.Tensor], task: dict[str, Any]) -> Gains:
    """What each of the policies ``act`` earns beyond doing nothing, [seeds]."""
    env = make_env("paper", len(SEEDS), EPISODES, table(), **task)
    found: Gains = return_gain(act, env, EPISODE_SEED, max_steps=100).numpy()
    return found


def ours(case: Case, task: dict[str, Any], steps: int, precision: str = "float32", **more: Any) -> Gains:
    kernels.configure("auto", precision)
    sizes = {"total_steps": steps, "rollout_steps": case.rollout, "n_envs": case.n_envs}
    configs = [agent_config(case.agent, **sizes, **case.ours, **more)] * len(SEEDS)
    policies = [policy_config(hidden=HIDDEN)] * len(SEEDS)
    cells = table()
    env = make_env("paper", len(SEEDS), case.n_envs, cells, **task)
    learner = registry.agents[case.agent].build(configs, policies, env, cells.slices, Streams(list(SEEDS)))
    for iteration in range(learner.n_iterations):
        learner.iterate(iteration)
    return gains(learner.model.act, task)


def theirs(case: Case, task: dict[str, Any], steps: int) -> Gains:
    batched = importlib.import_module("peers.sb3").BatchedCells
    library, _, name = case.peer.partition(".")
    build = getattr(importlib.import_module(library), name)
    models = []
    for k in SEEDS:
        seed = 1000 * (k + 1)
        cells = make_vec("paper", table(), case.n_envs, **task)
        cells.reset(seed=seed)
        common = {"n_steps": case.rollout // case.n_envs, "seed": seed, "device": "cpu"}
        arch = {"net_arch": {"pi": HIDDEN, "vf": HIDDEN}}
        model = build("MlpPolicy", batched(cells), policy_kwargs=arch, **common, **case.theirs)
        models.append(model.learn(steps))

    def act(obs: torch.Tensor) -> torch.Tensor:
        each = [model.predict(rows.numpy(), deterministic=True)[0] for model, rows in zip(models, obs, strict=True)]
        return torch.as_tensor(np.stack(each))

    return gains(act, task)


def check_equivalent(one: Gains, other: Gains, what: str) -> None:
    """TOST: the 90 % interval of mean(one) - mean(other) lies within MARGIN of mean(other)."""
    from scipy.stats import ttest_ind

    interval = ttest_ind(one, other, equal_var=False).confidence_interval(0.90)
    difference, margin = one.mean() - other.mean(), MARGIN * other.mean()
    story = (
        f"{what}: ours {one.mean():.3f} (sd {one.std(ddof=1):.3f}), theirs {other.mean():.3f} "
        f"(sd {other.std(ddof=1):.3f}), difference {difference:+.3f}, 90 % interval "
        f"[{interval.low:+.3f}, {interval.high:+.3f}], margin +-{margin:.3f}"
    )
    print(story)
    assert other.mean() > 4 * other.std(ddof=1) / len(other) ** 0.5, f"the peer has learned nothing. {story}"
    assert -margin < interval.low and interval.high < margin, story


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("probability", PROBABILITIES)
@pytest.mark.parametrize("name", CASES)
def test_an_agent_learns_what_its_peer_does(name: str, probability: float) -> None:
    case = CASES[name]
    pytest.importorskip(case.peer.partition(".")[0])
    if case.agent not in registry.agents:
        pytest.skip(f"there is no agent={case.agent}")
    task, steps = TASK | {"perturb_prob": probability}, case.steps[probability > 0]
    check_equivalent(ours(case, task, steps), theirs(case, task, steps), f"{name}, perturb_prob {probability}")


def test_trpo_with_the_textbooks_kl_learns_what_sb3_contrib_does_when_made_to_sum(monkeypatch) -> None:
    """sb3-contrib averages the KL over action dimensions."""
    pytest.importorskip("sb3_contrib")
    module = importlib.import_module("sb3_contrib.trpo.trpo")
    each_dimension = module.kl_divergence
    monkeypatch.setattr(module, "kl_divergence", lambda *dists: each_dimension(*dists).sum(-1))
    case, task = CASES["trpo"], TASK | {"perturb_prob": 0.0}
    check_equivalent(ours(case, task, 20_480, kl="summed"), theirs(case, task, 20_480), "trpo summed, perturb_prob 0.0")


@pytest.mark.parametrize("name", ["ppo", "trpo"])
def test_bfloat16_products_learn_as_float32_ones_do(name: str) -> None:
    task, case = TASK | {"perturb_prob": 0.0}, CASES[name]
    exact, rounded = (ours(case, task, case.steps[0], precision) for precision in ("float32", "bf16"))
    check_equivalent(rounded, exact, f"{name}, bf16")
