"""``check_agent``: what every agent must do, tried on a small landscape; for the tests of a plugin."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from perturbrl.agents import kernels
from perturbrl.agents.common.learner import Learner
from perturbrl.config import require
from perturbrl.envs.factory import Table
from perturbrl.runner import resuming
from perturbrl.runner.build import build_learner
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.hydra.compose import compose_job
from perturbrl.runner.job import Job

SMALL = (
    *("source.n_cells=300", "source.n_target_genes=40", "source.n_peaks=60", "source.n_proteins=10"),
    *("encoder=pca", "encoder.components=8", "env.horizon=20", "policy.hidden=[16,16]"),
    *("device=cpu", "threads=1", "curve_points=0", "progress=quiet"),
)
IN_A_POPULATION = {"rtol": 1e-3, "atol": 1e-4}  # products of other sizes are rounded differently


def check_agent(name: str, *overrides: str) -> None:
    """Train a few rollouts on simulated cells, and check what every agent must do.

    Parameters are finite and change; a run that goes on from a checkpoint equals an unbroken one, in every stage; a run
    trained together with another one equals the same run alone.

    Parameters
    ----------
    name
        The choice ``agent=<name>``.
    overrides
        Overrides of ``perturbrl train``, such as ``"agent.rollout_steps=256"``. They replace those of the small task.

    Raises
    ------
    UserError
        The agent does one of them wrong, or an override is.
    """
    given = {word.partition("=")[0] for word in overrides}
    words = [word for word in SMALL if word.partition("=")[0] not in given]
    if "encoder" in given:
        words.remove("encoder.components=8")
    words = [f"agent={name}", *words, *overrides]
    job = _job(words)
    kernels.configure(job.config.kernels, job.config.precision)
    table = load_cells(job)
    steps = _learner([job], table).steps_per_iteration
    budgets = {"total": 3 * steps, "trpo": 2 * steps, "ppo": 2 * steps}
    words = [*(f"schedule.{key}={n}" for key, n in budgets.items() if f"schedule.{key}" not in given), *words]
    job, other = _job([*words, "seed=0"]), _job([*words, "seed=1"])
    build = partial(_learner, [job], table)
    states = resuming.unbroken(build, build().n_iterations)
    last = states[-1]["theta"]
    require(bool(torch.isfinite(last).all()), f"agent={name}", "a parameter is not finite after a few rollouts")
    require(
        not torch.equal(last, states[0]["theta"]),
        f"agent={name}",
        "update changes no parameter: it must change self.model.theta in place",
    )
    resuming.require_same(build, states, {"agent": name}, range(1, len(states) - 1))
    together = resuming.unbroken(partial(_learner, [job, other], table), 1)
    alone, beside = ({"theta": part[1]["theta"]} for part in (states, together))
    found = resuming.first_difference(alone, beside, last.device, **IN_A_POPULATION)
    message = f"a run trained together with another one differs from the same run alone ({found}); average over M only"
    require(not found, f"agent={name}", message)


def _job(words: list[str]) -> Job:
    return compose_job(words, Path(), "check_agent")


def _learner(jobs: list[Job], table: Table) -> Learner:
    return build_learner(jobs, table, torch.device("cpu"))
