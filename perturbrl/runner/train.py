"""Train jobs of one signature: skip complete runs, resume interrupted ones, and write every run directory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from safetensors import SafetensorError

from perturbrl import paths, status
from perturbrl.agents import kernels
from perturbrl.errors import UserError
from perturbrl.records import RunDir
from perturbrl.runner import interrupt, pretrained
from perturbrl.runner.dataset import DatasetInfo, load_cells, notices
from perturbrl.runner.job import Job, holds_config, save_config
from perturbrl.runner.lockstep import Population
from perturbrl.runner.machine import pick_device, require_machine
from perturbrl.runner.outcome import Outcome
from perturbrl.runner.progress import Progress
from perturbrl.runner.resuming import require_resumable


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
        for job in todo:
            pretrained.find(job)  # before cells are read
        if todo:
            kernels.begin(todo[0].config.kernels)
            table = load_cells(todo[0])
            for message in notices(todo[0], table):
                progress.notice(message)
            for group in _by_checkpoint(todo):
                if interrupt.stop_requested():
                    raise interrupt.stop(interrupt.GO_ON)
                try:
                    with status.step("preparing task and agent"):
                        population = Population(group, table, progress)
                    require_resumable(group, table, population.device)
                    outcomes += population.train()
                except (OSError, SafetensorError) as error:  # a disk that has filled up, or gone
                    again = "what was saved is kept, the same command goes on from it"
                    raise UserError(f"{group[0].path}: cannot be written ({error}); {again}") from error
    order = {job.path: i for i, job in enumerate(jobs)}
    return sorted(outcomes, key=lambda o: order[o.path])


def _must_go(folder: RunDir, job: Job) -> bool:
    """Whether a folder's run is damaged, has another config, or its data or pretrained networks have changed since."""
    try:
        run = folder.run
        folder.check()
    except UserError:
        return True
    if not run:
        return False
    if run.get("config_hash") != job.hash or pretrained.changed(run, job):
        return True
    return run.get("data_checksum") != DatasetInfo.of(load_cells(job)).checksum


def _by_checkpoint(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Group jobs by the iteration from which they go on, -1 if anew: those in one group can be stepped together."""
    groups: dict[int, list[Job]] = {}
    for job in jobs:
        about = RunDir(job.path).checkpoint()[1] if (job.path / paths.CHECKPOINT).exists() else {}
        start = int(about["iteration"]) if about.get("config_hash") == job.hash else -1
        groups.setdefault(start, []).append(job)
    yield from groups.values()
