"""Runs as small as can be, and what two runs must share to be the same."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from omegaconf import OmegaConf
from torch import Tensor

from perturbrl import cli, paths, records
from perturbrl.runner import lockstep
from perturbrl.runner.hydra.compose import compose_job
from perturbrl.runner.job import Job, make_job
from perturbrl.runner.outcome import Outcome
from perturbrl.runner.progress import Progress
from perturbrl.runner.train import train_jobs

QUIET = Progress("quiet")
BUILT_IN = ("ppo", "trpo", "trpo_ppo")
PARTS = {  # of agents whose settings are those of their stages
    "ppo_kl": ("trpo.", "ppo_penalty."),
    "staged": ("trpo.", "ppo."),
    "trpo_from_ppo": ("ppo.", "trpo."),
    "trpo_ppo": ("trpo.", "ppo."),
}
# 4 rollouts of 256 steps; TRPO -> PPO: 2 and 3
SMALL = (
    *("source.n_cells=300", "source.n_target_genes=40", "source.n_peaks=60", "source.n_proteins=10"),
    *("encoder=pca", "encoder.components=8", "env.horizon=20", "policy.hidden=[16,16]"),
    *("schedule.total=1024", "schedule.trpo=512", "schedule.ppo=768"),
    *("protocol.return_episodes=8", "protocol.search_episodes=8"),
    *("curve_points=3", "checkpoint_seconds=0", "device=cpu", "progress=quiet"),
)
ROLLOUT = 256


def small(agent: str = "ppo", *more: str) -> list[str]:
    """Overrides for a run of four rollouts; ``more`` comes last, so that it may replace any."""
    parts = PARTS.get(agent, ("",))
    rollout = [f"agent.{p}{key}" for p in parts for key in (f"rollout_steps={ROLLOUT}", "n_envs=8")]
    wanted = {o.partition("=")[0]: o for o in (f"agent={agent}", *SMALL, *rollout, *more)}
    if wanted["encoder"] not in ("encoder=pca", "encoder=gat"):
        wanted.pop("encoder.components")
    return list(wanted.values())


def job(out: Path, agent: str = "ppo", *more: str, name: str = "tiny") -> Job:
    made = _job(agent, more, name)
    return dataclasses.replace(made, path=out / made.path)


@functools.cache  # composing takes a fifth of a second
def _job(agent: str, more: tuple[str, ...], name: str) -> Job:
    return compose_job(small(agent, *more), Path(), name)


def variant(base: Job, out: Path, *overrides: str) -> Job:
    """Change keys of a composed job, which is quicker than to compose another; ``out`` is the new run directory."""
    raw = OmegaConf.create(base.raw)
    for override in overrides:
        key, _, value = override.partition("=")
        OmegaConf.update(raw, key, OmegaConf.create(f"value: {value}").value)
    return make_job(raw, out)


def train(*jobs: Job) -> list[Outcome]:
    return train_jobs(jobs, QUIET)


def train_until(job: Job, iteration: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until an iteration, which is not logged."""
    log = lockstep.Population._log

    def stop(self: lockstep.Population, at: int, metrics: Any) -> None:
        if at == iteration:
            raise KeyboardInterrupt
        log(self, at, metrics)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lockstep.Population, "_log", stop)
        train(job)


def checkpoint(run: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return records.read_tensors(run / paths.CHECKPOINT)


def status(run: Path) -> str:
    return str(records.read_json(run / paths.RUN)["status"])


def progress(run: Path) -> pd.DataFrame:
    return pd.read_parquet(run / paths.PROGRESS)


def assert_same_run(one: Path, two: Path) -> None:
    """Bit for bit, but for the time that it took."""
    (tensors, about), (others, about_other) = checkpoint(one), checkpoint(two)
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert tensor.numpy().tobytes() == others[name].numpy().tobytes(), name
    del about["seconds"], about_other["seconds"]
    assert about == about_other
    pd.testing.assert_frame_equal(
        progress(one).drop(columns="seconds"), progress(two).drop(columns="seconds"), check_exact=True
    )


def cli_run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process: exit code, stdout, stderr."""

    def call(*args: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.app(list(args), prog_name="perturbrl")
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call
