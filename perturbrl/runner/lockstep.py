"""The training loop of a population: S runs in lockstep, a run directory each.

Nothing computed is lost: each run checkpoints on its own, and since every random number is keyed by (seed, stream,
iteration), a resumed run ends exactly where an uninterrupted one does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from perturbrl import paths, records
from perturbrl.agents import kernels
from perturbrl.agents.common.rollout import Log
from perturbrl.envs.factory import Table
from perturbrl.errors import UserError
from perturbrl.records import RunDir
from perturbrl.runner import interrupt, pretrained
from perturbrl.runner.build import build_learner
from perturbrl.runner.dataset import DatasetInfo
from perturbrl.runner.job import Job, save_config
from perturbrl.runner.learning_curve import LearningCurve
from perturbrl.runner.machine import pick_device
from perturbrl.runner.outcome import Outcome
from perturbrl.runner.progress import Progress
from perturbrl.runner.run_record import Conditions, write_run


class Population:
    """S runs in lockstep, from their common checkpoint to the end."""

    def __init__(self, jobs: Sequence[Job], table: Table, progress: Progress) -> None:
        self.jobs, self.dataset, self.progress = list(jobs), DatasetInfo.of(table), progress
        self.config = jobs[0].config
        torch.set_num_threads(self.config.threads)
        self.device = pick_device(self.config.device)
        auto_on_gpu = self.config.precision == "auto" and self.device.type != "cpu"
        self.arithmetic = kernels.configure(self.config.kernels, "float32" if auto_on_gpu else self.config.precision)
        self.precision = kernels.current().precision
        if self.device.type == "cpu" and kernels.emulates_bf16():
            progress.say(f"precision=bf16: {kernels.BF16_EMULATED}; precision=float32 is faster here")
        self.starts = [pretrained.find(job) for job in jobs]
        self.learner = build_learner(jobs, table, self.device)
        self.interface = pretrained.interface(self.learner.env, table)
        pretrained.begin(self.learner.model, self.starts, jobs, self.interface)
        self.rows: list[list[dict[str, Any]]] = [[] for _ in jobs]
        self.seconds = 0.0
        self.start = 0
        self.diverged: dict[int, str] = {}
        self._curve = LearningCurve(self.jobs, table, self.learner, self.device)

    def train(self) -> list[Outcome]:
        """Run all remaining iterations; return the outcome of each job."""
        self._resume()
        for job in self.jobs:
            job.path.mkdir(parents=True, exist_ok=True)
            save_config(job)
            self._record(job, "running")
        self._announce()
        steps = self.learner.steps_per_iteration
        for job in self.jobs:
            since = f", going on from {self.start * steps:,}" if self.start else ""
            self.progress.say(f"{job.path}: training, {self.learner.n_iterations * steps:,} steps{since}")
        began, saved = time.monotonic() - self.seconds, time.monotonic()
        label = f"{self.config.agent.name} on {self.dataset.source} ({self.config.data.name})"
        total = self.learner.n_iterations
        with (
            interrupt.deferred(quiet=self.progress.mode == "quiet"),
            self.progress.task(label, len(self.jobs), total, steps, self.start) as tick,
        ):
            for iteration in range(self.start, total):
                before = {name: tensor.clone() for name, tensor in _lasting(self.learner.state()).items()}
                metrics = self.learner.iterate(iteration)
                metrics |= self._curve.at(iteration + 1)
                self.seconds = time.monotonic() - began
                self._log(iteration, metrics)
                self._look_for_divergence(iteration, metrics, before)
                tick(iteration + 1, metrics)
                if len(self.diverged) == len(self.jobs):
                    break
                stopping = interrupt.stop_requested() and iteration + 1 < total
                if stopping or time.monotonic() - saved >= self.config.checkpoint_seconds:
                    self._save(iteration + 1, self.learner.state())
                    saved = time.monotonic()
                if stopping:
                    at = f"saved at step {(iteration + 1) * steps:,} of {total * steps:,}"
                    raise interrupt.stop(f"{at}; the same command goes on from there")
            self._save(total, _lasting(self.learner.state()))
            return [self._finish(k, job) for k, job in enumerate(self.jobs)]

    def _announce(self) -> None:
        executors = ", ".join(f"{stage.name} {stage.executor}" for stage in self.learner.stages)
        self.progress.notice(f"executors: {executors}; kernels {self.arithmetic}, precision {self.precision}")
        for stage in self.learner.stages:
            for note in stage.notes:
                self.progress.notice(f"agent={self.config.agent.name}: {note}")

    def _resume(self) -> None:
        states: list[dict[str, Tensor]] = []
        for k, job in enumerate(self.jobs):
            file = job.path / paths.CHECKPOINT
            if not file.exists():
                continue
            tensors, about = RunDir(job.path).checkpoint()
            if about.get("config_hash") != job.hash:
                continue
            if about["data_checksum"] != self.dataset.checksum:
                raise UserError(f"{job.path}: the data have changed since; use force=true to train again")
            if pretrained.changed(RunDir(job.path).run, job):
                raise UserError(f"{job.path}: its {pretrained.KEY} has been trained again since; {records.TRAIN_AGAIN}")
            self.start, self.seconds = int(about["iteration"]), max(self.seconds, float(about["seconds"]))
            frame = records.read_parquet(job.path / paths.PROGRESS)
            self.rows[k] = frame[frame["iteration"] < self.start].to_dict("records")
            states.append(tensors)
        if states:
            self.learner.load_state({name: _join([state[name] for state in states]) for name in states[0]})

    def _log(self, iteration: int, metrics: Log) -> None:
        table = {name: tensor.tolist() for name, tensor in metrics.items()}
        for k, rows in enumerate(self.rows):
            if k not in self.diverged:
                step = (iteration + 1) * self.learner.steps_per_iteration
                stage = self.learner.stage_of(iteration).name
                row = {"iteration": iteration, "step": step, "stage": stage, "seconds": self.seconds}
                rows.append(row | {name: values[k] for name, values in table.items()})

    def _look_for_divergence(self, iteration: int, metrics: Log, before: dict[str, Tensor]) -> None:
        finite = torch.isfinite(self.learner.model.theta).all(1)
        for key in ("value_loss", "entropy"):
            if key in metrics:
                finite = finite & torch.isfinite(metrics[key])
        for k in (~finite).nonzero().flatten().tolist():
            if k not in self.diverged:
                name = self.learner.model.first_not_finite(k) or next(
                    n for n in ("value_loss", "entropy") if n in metrics and not math.isfinite(metrics[n][k].item())
                )
                step = (iteration + 1) * self.learner.steps_per_iteration
                self.diverged[k] = f"diverged at step {step}: {name} is not finite"
                self._save_run(k, iteration, before)

    def _save(self, iteration: int, state: dict[str, Tensor]) -> None:
        for k in range(len(self.jobs)):
            if k not in self.diverged:
                self._save_run(k, iteration, state)

    def _save_run(self, k: int, iteration: int, state: dict[str, Tensor]) -> None:
        job = self.jobs[k]
        # progress first: rows after the checkpoint are dropped on resuming, missing ones before it are lost
        records.write_parquet(job.path / paths.PROGRESS, pd.DataFrame(self.rows[k]))
        about = {
            "config_hash": job.hash,
            "data_checksum": self.dataset.checksum,
            **{"iteration": iteration, "step": iteration * self.learner.steps_per_iteration, "seconds": self.seconds},
        }
        mine = {name: (t[k : k + 1] if t.dim() else t) for name, t in state.items()}
        records.write_tensors(job.path / paths.CHECKPOINT, mine, about)

    def _finish(self, k: int, job: Job) -> Outcome:
        status = "diverged" if k in self.diverged else "complete"
        message = self.diverged.get(k, "")
        self._record(job, status, message)
        return Outcome(job.path, status, message)

    def _record(self, job: Job, status: str, message: str = "") -> None:
        steps = self.learner.n_iterations * self.learner.steps_per_iteration
        executors = {stage.name: stage.executor for stage in self.learner.stages}
        start = self.starts[self.jobs.index(job)]
        of_start = None if start is None else start.to_json()
        how = len(self.jobs), str(self.device), self.arithmetic, self.precision, executors
        where = Conditions(*how, self.interface, of_start)
        write_run(job, self.dataset, where, status, message, steps, self.seconds)


def _lasting(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the replay buffer: only a run that is to go on needs it, and it may be most of a checkpoint."""
    return {name: tensor for name, tensor in state.items() if not name.startswith("replay/")}


def _join(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if parts[0].dim() and len(parts) > 1 else parts[0]
