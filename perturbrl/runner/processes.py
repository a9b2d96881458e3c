"""Train groups of jobs in this process, or spread over others."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from perturbrl.errors import UserError
from perturbrl.run_dirs import Labels
from perturbrl.runner import interrupt
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.job import Job, make_job
from perturbrl.runner.machine import pick_device, require_machine
from perturbrl.runner.outcome import Outcome, failed
from perturbrl.runner.progress import SECONDS_AMONG_MANY, SECONDS_BETWEEN_LINES, Progress, display
from perturbrl.runner.train import train_jobs

Groups = Sequence[Sequence[Job]]
Runner = Callable[[Groups, str], Iterator[list[Outcome]]]
"""Trains groups of jobs, shown in a mode of ``Progress``; yields the outcomes of each group as it ends."""


@dataclass(frozen=True)
class JobSpec:
    """A job as plain data, for another process, which binds its config anew."""

    raw: Mapping[str, Any]
    path: Path
    labels: Labels | None

    @staticmethod
    def of(job: Job) -> JobSpec:
        """Return the plain data of a job."""
        return JobSpec(job.raw, job.path, job.labels)

    def job(self) -> Job:
        """Bind the config again."""
        return make_job(OmegaConf.create(dict(self.raw)), self.path, self.labels)


def specs(groups: Groups) -> list[list[JobSpec]]:
    """Turn groups of jobs into plain data."""
    return [[JobSpec.of(job) for job in jobs] for jobs in groups]


def train_group(group: Sequence[JobSpec], mode: str, relay: Any = None, request: Path | None = None) -> list[Outcome]:
    """Train one group in a process of its own; never raises. Training stops, and is saved, when ``request`` appears."""
    interrupt.follow(request)
    jobs: list[Job] = []
    outcomes: list[Outcome] = []
    for spec in group:
        try:
            jobs.append(spec.job())
        except Exception as error:
            outcomes.append(failed(spec.path, error))
    try:
        outcomes += train_here(jobs, Progress(mode, relay))
    except interrupt.Interrupted as stopped:
        interrupt.leave_worker()
        outcomes += [Outcome(job.path, "interrupted", stopped.message) for job in jobs]
    return [dataclasses.replace(outcome, error=None) for outcome in outcomes]  # not every exception can be sent


def train_here(jobs: Sequence[Job], progress: Progress) -> list[Outcome]:
    """Train one group. If it cannot be trained as a whole, its jobs are tried one by one; a failure is an outcome.

    Raises
    ------
    Interrupted
        A signal asked to stop; what was computed is saved.
    """
    if interrupt.stop_requested() or not jobs:
        return []
    try:
        return train_jobs(jobs, progress)
    except Exception as error:
        if len(jobs) == 1:
            return [failed(jobs[0].path, error)]
    return [outcome for job in jobs for outcome in train_here([job], progress)]


def in_processes(workers: int, progress: Progress | None = None) -> Runner:
    """Return a runner that trains groups in this many processes of this machine.

    It raises ``Interrupted`` where a signal asked to stop, once every process has saved what it computed.
    """

    def run(groups: Groups, mode: str) -> Iterator[list[Outcome]]:
        processes = min(workers, len(groups))
        shown = progress or Progress(mode)
        shown.every = SECONDS_AMONG_MANY if len(groups) > 1 else SECONDS_BETWEEN_LINES
        if processes > 1:
            yield from _in_pool(groups, shown, processes)
        else:
            yield from (train_here(group, shown) for group in groups)

    return run


def _in_pool(groups: Groups, progress: Progress, processes: int) -> Iterator[list[Outcome]]:
    for job in {str(group[0].raw): group[0] for group in groups}.values():
        with contextlib.suppress(UserError):  # the job itself reports it
            require_machine(job, pick_device(job.config.device))
            load_cells(job)  # prepared once, then read from the cache by every process
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        request = stack.enter_context(interrupt.request_file())
        stack.enter_context(interrupt.deferred(progress.mode == "quiet", request))
        with interrupt.shielded():  # by itself, as it changes the mask of signals when it begins
            resource_tracker.ensure_running()
        with interrupt.shielded():
            relay = None
            if progress.mode != "quiet":
                relay = stack.enter_context(context.Manager()).Queue()
                stack.enter_context(display(relay, progress))
            pool = ProcessPoolExecutor(processes, mp_context=context, initializer=interrupt.begin_worker)
            stack.enter_context(pool)
            futures = {pool.submit(train_group, group, progress.mode, relay, request): group for group in specs(groups)}
        for future in as_completed(futures):
            error = future.exception()
            if error is None:
                yield future.result()
            elif not interrupt.stop_requested():
                yield [failed(spec.path, error) for spec in futures[future]]
