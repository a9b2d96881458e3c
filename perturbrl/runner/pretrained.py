"""Start from the networks of a finished run: ``agent.pretrained``, for every agent whose settings have the key.

The run must have the same networks, observe as many features (under the same names, where it observes features
themselves) and act in the same way. Its cells, task and agent may be others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perturbrl import files, paths, registry
from perturbrl.agents.model.actor_critic import PolicyConfig
from perturbrl.agents.model.heads import Model
from perturbrl.config import require
from perturbrl.data.schema import CellTable
from perturbrl.envs.base import BatchedEnv
from perturbrl.envs.factory import Table, observed_slices
from perturbrl.errors import UserError
from perturbrl.records import RunDir
from perturbrl.runner.job import Job, load_job

KEY = "agent.pretrained"
EXAMPLE = f"'{KEY}=\"outputs/runs/landscape-rna/paper/ppo/seed{{seed}}\"'"
SEED = "{seed}"  # in the key: the seed of the run that starts
Interface = dict[str, Any]
"""What a policy observes and how it acts, as ``run.json`` records it."""


@dataclass(frozen=True)
class Pretrained:
    """The networks of a finished run: parameters ``theta`` [1, n], the sha256 of the checkpoint, the interface."""

    path: Path
    theta: Tensor
    sha256: str
    interface: Interface | None

    def to_json(self) -> dict[str, str]:
        """Return the entry ``pretrained`` of ``run.json``."""
        return {"path": str(self.path), "sha256": self.sha256}


def interface(env: BatchedEnv, table: Table) -> Interface:
    """Return what policies observe and how they act in a task; ``parts`` are the widths of its modalities."""
    names = json.dumps([str(name) for name in table.features]) if isinstance(table, CellTable) else None
    return {
        "observed": env.obs_dim,
        "parts": [part.stop - part.start for part in observed_slices(env, table).values()],
        "features_sha256": None if names is None else hashlib.sha256(names.encode()).hexdigest(),
        "action": env.action_space.kind,
        "action_size": env.action_space.size,
    }


def find(job: Job) -> Pretrained | None:
    """Read the run that a job starts from; None if it starts anew.

    Raises
    ------
    UserError
        The agent needs one and none is named; there is no such run; it is not finished, has diverged or is damaged; or
        its networks are others than those of the job.
    """
    agent, folder = job.config.agent, _place(job)
    if folder is None:
        needed = bool(getattr(type(agent), "needs_pretrained", False))
        require(not needed, KEY, f"agent={agent.name} starts from a trained policy; name its run, such as {EXAMPLE}")
        return None
    try:
        run = RunDir(folder).run
        message = f"{folder} is no run directory (it has no {paths.RUN}); name a finished run, such as {EXAMPLE}"
        require(bool(run), KEY, message)
        require(run.get("status") != "diverged", KEY, f"{folder}: this run has diverged; name another one")
        again = "give the command that started it again, it goes on"
        require(run.get("status") == "complete", KEY, f"{folder}: this run is not finished; {again}")
        tensors, _ = RunDir(folder).checkpoint()
        other = load_job(folder, run.get("config_hash"))
    except UserError as error:
        raise UserError(str(error) if str(error).startswith(KEY) else f"{KEY}: {error}") from None
    _require_networks(folder, other, job)
    return Pretrained(folder, tensors["theta"], files.sha256(folder / paths.CHECKPOINT), run.get("interface"))


def changed(run: Mapping[str, Any], job: Job) -> bool:
    """Return whether the networks that a run started from, recorded in its ``run.json``, are there and now others."""
    recorded, folder = run.get("pretrained"), _place(job)
    file = None if folder is None else folder / paths.CHECKPOINT
    if not recorded or file is None or not file.exists():
        return False
    return bool(recorded["sha256"] != files.sha256(file))


def begin(model: Model, starts: Sequence[Pretrained | None], jobs: Sequence[Job], here: Interface) -> None:
    """Copy the networks that S jobs start from into the S rows of ``model.theta``.

    Raises
    ------
    UserError
        A pretrained policy observes or acts otherwise than in the task with the interface ``here``.
    """
    for k, (start, job) in enumerate(zip(starts, jobs, strict=True)):
        if start is None:
            continue
        _require_interface(start, here, job.config.policy)
        n, m = start.theta.shape[1], model.theta.shape[1]
        message = f"{start.path}: its networks have {n} parameters and those of this run {m}; the tasks do not fit"
        require(n == m, KEY, message)
        with torch.no_grad():
            model.theta[k].copy_(start.theta[0])


def _place(job: Job) -> Path | None:
    named = getattr(job.config.agent, "pretrained", None)
    return Path(named.replace(SEED, str(job.config.seed))) if named else None


def _require_networks(folder: Path, other: Job, job: Job) -> None:
    for key in ("net", "hidden", "activation"):
        theirs, ours = getattr(other.config.policy, key), getattr(job.config.policy, key)
        require(theirs == ours, KEY, f"{folder}: has policy.{key}={theirs}, this run {ours}; both need the same")
    made = [_make_model(one.config.agent.name) for one in (other, job)]
    theirs, ours = other.config.agent.name, job.config.agent.name
    require(made[0] is made[1], KEY, f"{folder}: agent={theirs} has networks of another kind than agent={ours}")


def _make_model(agent: str) -> Any:
    """Return the function that makes the networks of an agent: the same one for agents with the same networks."""
    build = registry.agents[agent].build
    make = getattr(build, "make_model", build)
    return getattr(make, "__func__", make)


def _require_interface(start: Pretrained, here: Interface, policy: PolicyConfig) -> None:
    there = start.interface
    if there is None:  # a run of an older version: the number of parameters has to do
        return
    acts = [f"{one['action_size']} {one['action']} actions" for one in (there, here)]
    require(acts[0] == acts[1], KEY, f"{start.path}: has {acts[0]}, this task {acts[1]}")
    seen = [one["parts"] if policy.net == "branches" else one["observed"] for one in (there, here)]
    require(seen[0] == seen[1], KEY, f"{start.path}: observes {seen[0]} features, this task {seen[1]}")
    named = there["features_sha256"] == here["features_sha256"]
    message = "has other features, or in another order, than these cells; an encoder such as pca gives the same ones"
    require(named, KEY, f"{start.path}: {message}")
