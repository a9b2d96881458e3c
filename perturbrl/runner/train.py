"""Train a population: jobs that differ only by seed (and numbers without a shape) in one loop, a run directory each.

Nothing computed is lost: each run checkpoints on its own, and since every random number is keyed by (seed, stream,
iteration), a resumed run ends exactly where an uninterrupted one does.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from torch import Tensor

from perturbrl import files, paths, records, registry, status
from perturbrl.agents import kernels
from perturbrl.agents.learner import Learner
from perturbrl.envs.factory import Table, observed_slices, training_cells
from perturbrl.errors import UserError
from perturbrl.records import RunDir
from perturbrl.rng import Streams
from perturbrl.runner import interrupt
from perturbrl.runner.dataset import facts, load_cells
from perturbrl.runner.job import Job, holds_config, save_config
from perturbrl.runner.learning_curve import LearningCurve
from perturbrl.runner.machine import Shape, require_machine, require_training_memory
from perturbrl.runner.progress import Progress

Metrics = dict[str, Tensor]


@dataclass(frozen=True)
class Outcome:
    """What became of one job: ``complete``, ``diverged``, ``skipped`` (was finished), ``interrupted``, ``failed``."""

    path: Path
    status: str
    message: str = ""

    def __str__(self) -> str:
        words = {"complete": "done", "skipped": f"skipped: {self.message or 'already complete'}"}
        return f"{self.path}: {words.get(self.status, self.message)}"


def pick_device(asked: str) -> torch.device:
    """Resolve ``device=auto|cpu|cuda``.

    Raises
    ------
    UserError
        ``cuda`` on a machine without one.
    """
    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda was asked for, but torch sees no GPU here; use device=auto or device=cpu")
    return torch.device("cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu")


def train_jobs(jobs: Sequence[Job], progress: Progress) -> list[Outcome]:
    """Train jobs of one signature together and write their run directories.

    Jobs that are complete are skipped; jobs that were interrupted go on from their checkpoints.

    Raises
    ------
    UserError
        A folder is in use, cannot be written, holds another config or a damaged file; the data do not fit the config,
        or this machine cannot do it.
    Interrupted
        A signal asked to stop; what was computed is saved.
    """
    for job in jobs:
        require_machine(job, pick_device(job.config.device))
    with contextlib.ExitStack() as locks:
        todo: list[Job] = []
        outcomes: list[Outcome] = []
        for job in jobs:
            folder = RunDir(job.path)
            locks.enter_context(folder.locked())
            if job.config.force and _must_go(folder, job):
                folder.clear()
            if folder.finished(job.hash):
                if not holds_config(job.path, job.hash):
                    save_config(job)
                    progress.say(f"{job.path / paths.CONFIG}: was missing or damaged, written anew")
                outcomes.append(Outcome(job.path, "skipped", str(folder.run.get("message") or "")))
            else:
                todo.append(job)
        if todo:
            kernels.begin(todo[0].config.kernels)
            table = load_cells(todo[0])
            for said in facts(table).told:
                progress.notice(said)
            for group in _by_checkpoint(todo):
                if interrupt.asked():
                    raise interrupt.stop(interrupt.GO_ON)
                try:
                    with status.step("preparing task and agent"):
                        population = Population(group, table, progress)
                    outcomes += population.train()
                except (OSError, SafetensorError) as error:  # a disk that has filled up, or gone
                    again = "what was saved is kept, the same command goes on from it"
                    raise UserError(f"{group[0].path}: cannot be written ({error}); {again}") from error
    order = {job.path: i for i, job in enumerate(jobs)}
    return sorted(outcomes, key=lambda o: order[o.path])


def _must_go(folder: RunDir, job: Job) -> bool:
    """Whether a folder's run is damaged, was made with another config, or from data that have changed since."""
    try:
        run = folder.run
        folder.check()
    except UserError:
        return True
    if not run:
        return False
    return run.get("config_hash") != job.hash or run.get("data_checksum") != facts(load_cells(job)).checksum


def _by_checkpoint(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Group jobs by the iteration from which they go on, -1 if anew: those in one group can be stepped together."""
    found: dict[int, list[Job]] = {}
    for job in jobs:
        about = RunDir(job.path).checkpoint()[1] if (job.path / paths.CHECKPOINT).exists() else {}
        start = int(about["iteration"]) if about.get("config_hash") == job.hash else -1
        found.setdefault(start, []).append(job)
    yield from found.values()


def build_learner(jobs: Sequence[Job], table: Table, device: torch.device) -> Learner:
    """Build environment and agent for S jobs of one signature."""
    configs = [job.config for job in jobs]
    first = configs[0]
    env_entry, agent_entry = registry.envs[first.env.name], registry.agents[first.agent.name]
    env = env_entry.build([c.env for c in configs], table, training_cells(table), first.agent.n_envs, device)
    require_training_memory(jobs[0], Shape(env.n_runs, env.obs_dim, env.action_space.size), device)
    streams = Streams([c.seed for c in configs], device)
    learner: Learner = agent_entry.build(
        [c.agent for c in configs], [c.policy for c in configs], env, observed_slices(env, table), streams
    )
    return learner


class Population:
    """S runs in lockstep, from their common checkpoint to the end."""

    def __init__(self, jobs: Sequence[Job], table: Table, progress: Progress) -> None:
        self.jobs, self.about, self.progress = list(jobs), facts(table), progress
        self.config = jobs[0].config
        torch.set_num_threads(self.config.threads)
        self.arithmetic = kernels.configure(self.config.kernels, self.config.precision)
        self.device = pick_device(self.config.device)
        if self.device.type == "cpu" and kernels.emulates_bf16():
            progress.say(f"precision=bf16: {kernels.BF16_EMULATED}; precision=float32 is faster here")
        self.learner = build_learner(jobs, table, self.device)
        self.rows: list[list[dict[str, Any]]] = [[] for _ in jobs]
        self.seconds = 0.0
        self.start = 0
        self.diverged: dict[int, str] = {}
        self._curve = LearningCurve(self.jobs, table, self.learner, self.device)

    def train(self) -> list[Outcome]:
        """Run every iteration that is left; return what became of each job."""
        self._resume()
        for job in self.jobs:
            job.path.mkdir(parents=True, exist_ok=True)
            save_config(job)
            self._write_run(job, "running", "")
        steps = self.learner.steps_per_iteration
        for job in self.jobs:
            since = f", going on from {self.start * steps:,}" if self.start else ""
            self.progress.say(f"{job.path}: training, {self.learner.n_iterations * steps:,} steps{since}")
        began, saved = time.monotonic() - self.seconds, time.monotonic()
        label = f"{self.config.agent.name} on {self.about.source} ({self.config.data.name})"
        total = self.learner.n_iterations
        with (
            interrupt.deferred(quiet=self.progress.mode == "quiet"),
            self.progress.task(label, len(self.jobs), total, steps, self.start) as tick,
        ):
            for iteration in range(self.start, total):
                before = {name: tensor.clone() for name, tensor in self.learner.state().items()}
                metrics = self.learner.iterate(iteration)
                metrics |= self._curve.at(iteration + 1)
                self.seconds = time.monotonic() - began
                self._log(iteration, metrics)
                self._look_for_divergence(iteration, metrics, before)
                tick(iteration + 1, metrics)
                if len(self.diverged) == len(self.jobs):
                    break
                stopping = interrupt.asked() and iteration + 1 < total
                if stopping or time.monotonic() - saved >= self.config.checkpoint_seconds:
                    self._save(iteration + 1, self.learner.state())
                    saved = time.monotonic()
                if stopping:
                    at = f"saved at step {(iteration + 1) * steps:,} of {total * steps:,}"
                    raise interrupt.stop(f"{at}; the same command goes on from there")
            self._save(total, self.learner.state())
            return [self._finish(k, job) for k, job in enumerate(self.jobs)]

    def _resume(self) -> None:
        kept: list[dict[str, Tensor]] = []
        for k, job in enumerate(self.jobs):
            file = job.path / paths.CHECKPOINT
            if not file.exists():
                continue
            tensors, about = RunDir(job.path).checkpoint()
            if about.get("config_hash") != job.hash:
                continue
            if about["data_checksum"] != self.about.checksum:
                raise UserError(f"{job.path}: the data have changed since; use force=true to train again")
            self.start, self.seconds = int(about["iteration"]), max(self.seconds, float(about["seconds"]))
            frame = records.read_parquet(job.path / paths.PROGRESS)
            self.rows[k] = frame[frame["iteration"] < self.start].to_dict("records")
            kept.append(tensors)
        if kept:
            self.learner.load_state({name: _join([t[name] for t in kept]) for name in kept[0]})

    def _log(self, iteration: int, metrics: Metrics) -> None:
        table = {name: tensor.tolist() for name, tensor in metrics.items()}
        for k, rows in enumerate(self.rows):
            if k not in self.diverged:
                step = (iteration + 1) * self.learner.steps_per_iteration
                stage = self.learner.stage_of(iteration).name
                row = {"iteration": iteration, "step": step, "stage": stage, "seconds": self.seconds}
                rows.append(row | {name: values[k] for name, values in table.items()})

    def _look_for_divergence(self, iteration: int, metrics: Metrics, before: dict[str, Tensor]) -> None:
        fine = torch.isfinite(self.learner.model.theta).all(1)
        for name in ("value_loss", "entropy"):
            if name in metrics:
                fine = fine & torch.isfinite(metrics[name])
        for k in (~fine).nonzero().flatten().tolist():
            if k not in self.diverged:
                named = self.learner.model.first_not_finite(k) or next(
                    n for n in ("value_loss", "entropy") if n in metrics and not math.isfinite(metrics[n][k].item())
                )
                step = (iteration + 1) * self.learner.steps_per_iteration
                self.diverged[k] = f"diverged at step {step}: {named} is not finite"
                self._save_run(k, iteration, before)

    def _save(self, iteration: int, state: dict[str, Tensor]) -> None:
        for k in range(len(self.jobs)):
            if k not in self.diverged:
                self._save_run(k, iteration, state)

    def _save_run(self, k: int, iteration: int, state: dict[str, Tensor]) -> None:
        job = self.jobs[k]
        # progress first: rows beyond the checkpoint are dropped on resuming, rows short of it could not be had again
        records.write_parquet(job.path / paths.PROGRESS, pd.DataFrame(self.rows[k]))
        about = {
            "config_hash": job.hash,
            "data_checksum": self.about.checksum,
            **{"iteration": iteration, "step": iteration * self.learner.steps_per_iteration, "seconds": self.seconds},
        }
        mine = {name: (t[k : k + 1] if t.dim() else t) for name, t in state.items()}
        records.write_tensors(job.path / paths.CHECKPOINT, mine, about)

    def _finish(self, k: int, job: Job) -> Outcome:
        status = "diverged" if k in self.diverged else "complete"
        message = self.diverged.get(k, "")
        self._write_run(job, status, message)
        return Outcome(job.path, status, message)

    def _write_run(self, job: Job, status: str, message: str) -> None:
        config = job.config
        steps = self.learner.n_iterations * self.learner.steps_per_iteration
        content = {
            "status": status,
            "message": message,
            "config_hash": job.hash,
            "name": config.name,
            "source": self.about.source,
            "data": config.data.name,
            "env": config.env.name,
            "agent": config.agent.name,
            "variant": job.path.parent.name,
            "policy": config.policy.net,
            "schedule": config.schedule.name,
            "preset": config.data.preset,
            "encoder": config.encoder.name,
            "split": config.split.kind,
            "conditions": None if config.conditions is None else config.conditions.name,
            "description": None if config.description is None else config.description.name,
            "seed": config.seed,
            "steps": steps,
            "wall_seconds": round(self.seconds, 3),
            "population": len(self.jobs),
            "device": str(self.device),
            "kernels": self.arithmetic,
            "precision": config.precision,
            "n_cells": self.about.n_cells,
            "n_features": self.about.n_features,
            "data_checksum": self.about.checksum,
            "leaks": list(self.about.leaks),
            "versions": records.versions(),
            "git_commit": records.git_commit(),
        }
        if status in records.FINISHED:
            content["digests"] = files.digests(job.path, (paths.CHECKPOINT, paths.PROGRESS))
        records.write_json(job.path / paths.RUN, content)


def _join(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if parts[0].dim() else parts[0]
