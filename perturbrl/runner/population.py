"""Many jobs at once: group those that can be trained together, and spread the groups over processes or machines."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Annotated, Any

from omegaconf import OmegaConf

from perturbrl.bounds import OneOf, PositiveInt
from perturbrl.cores import cores
from perturbrl.errors import UserError
from perturbrl.runner import interrupt
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.job import Job, make_job
from perturbrl.runner.machine import require_machine
from perturbrl.runner.progress import SECONDS_AMONG_MANY, SECONDS_BETWEEN_LINES, Progress, display
from perturbrl.runner.train import Outcome, pick_device, train_jobs

CPU_RUNS = 5  # on a CPU more runs a process fall out of its cache
Spec = tuple[dict[str, Any], Path]  # a job as plain data, for another process

VIA = ("processes", "joblib", "submitit_local", "submitit_slurm", "ray")


@dataclass(frozen=True)
class LauncherConfig:
    """How populations are started; meanings stand in ``conf/hydra/launcher/population.yaml``."""

    workers: PositiveInt | None
    runs_together: PositiveInt | None
    via: Annotated[str, OneOf(*VIA)]
    options: Any


Runner = Callable[[Sequence[list[Spec]], str], Iterator[list[Outcome]]]


def group(jobs: Sequence[Job], workers: int, limit: int) -> list[list[Job]]:
    """Group jobs of one signature, at most ``limit`` together, into ``workers`` groups or more where possible.

    The groups with the most environment steps come first.
    """
    alike: dict[str, list[Job]] = {}
    for job in jobs:
        alike.setdefault(job.signature, []).append(job)
    spread = -(-workers // len(alike)) if alike else 1
    groups = []
    for members in alike.values():
        size = min(limit, -(-len(members) // spread))
        groups += [members[i : i + size] for i in range(0, len(members), size)]
    return sorted(groups, key=lambda g: sum(_steps(job.raw["agent"]) for job in g), reverse=True)


def _steps(agent: dict[str, Any]) -> int:
    nested = sum(_steps(v) for v in agent.values() if isinstance(v, dict))
    return int(agent.get("total_steps", 0)) + nested


def specs(groups: Sequence[Sequence[Job]]) -> list[list[Spec]]:
    """Turn groups of jobs into plain data."""
    return [[(job.raw, job.path) for job in jobs] for jobs in groups]


def train_group(group: Sequence[Spec], mode: str, relay: Any = None, request: Path | None = None) -> list[Outcome]:
    """Train one group in a process of its own; never raises. Training stops, and is saved, when ``request`` appears."""
    interrupt.follow(request)
    return _train(group, Progress(mode, relay))


def _train(group: Sequence[Spec], progress: Progress) -> list[Outcome]:
    """Train one group. If it cannot be trained as a whole, its jobs are tried one by one."""
    if interrupt.asked():
        return []
    try:
        return train_jobs([make_job(OmegaConf.create(raw), path) for raw, path in group], progress)
    except interrupt.Interrupted as stopped:
        interrupt.leave_worker()
        return [Outcome(path, "interrupted", stopped.message) for _, path in group]
    except Exception as error:
        if len(group) == 1:
            return [failure(group[0][1], error)]
    return [outcome for spec in group for outcome in _train([spec], progress)]


def failure(path: Path, error: BaseException) -> Outcome:
    """Say what befell a job that raised."""
    if isinstance(error, UserError):
        return Outcome(path, "failed", str(error))
    at = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(at[-1].filename).name}:{at[-1].lineno})" if at else ""
    return Outcome(path, "failed", f"internal error: {type(error).__name__}: {error}{where}")


def in_processes(workers: int) -> Runner:
    """Return a runner that trains groups in this many processes of this machine.

    It raises ``Interrupted`` where a signal asked to stop, once every process has saved what it computed.
    """

    def run(groups: Sequence[list[Spec]], mode: str) -> Iterator[list[Outcome]]:
        processes = min(workers, len(groups))
        progress = Progress(mode, every=SECONDS_AMONG_MANY if len(groups) > 1 else SECONDS_BETWEEN_LINES)
        yield from _one_by_one(groups, progress) if processes <= 1 else _in_pool(groups, progress, processes)

    return run


def _one_by_one(groups: Sequence[list[Spec]], progress: Progress) -> Iterator[list[Outcome]]:
    for each in groups:
        outcomes = _train(each, progress)
        yield outcomes
        if any(outcome.status == "interrupted" for outcome in outcomes):
            raise interrupt.stop(interrupt.GO_ON)


def _in_pool(groups: Sequence[list[Spec]], progress: Progress, processes: int) -> Iterator[list[Outcome]]:
    for raw, path in {str(g[0][0]): g[0] for g in groups}.values():
        with contextlib.suppress(UserError):  # the job itself reports it
            job = make_job(OmegaConf.create(raw), path)
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
            futures = {pool.submit(train_group, each, progress.mode, relay, request): each for each in groups}
        for future in as_completed(futures):
            error = future.exception()
            if error is None:
                yield future.result()
            elif not interrupt.asked():
                yield [failure(path, error) for _, path in futures[future]]


def default_workers(device: str) -> int:
    """One process a core on a CPU; one in all on a GPU, which holds every run at once."""
    return 1 if pick_device(device).type == "cuda" else len(cores())


def default_limit(device: str) -> int:
    """How many runs to step together."""
    return sys.maxsize if pick_device(device).type == "cuda" else CPU_RUNS
