"""The one path from composed configs to run directories: bind, group, train, collect failures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from perturbrl.errors import UserError
from perturbrl.run_dirs import Labels
from perturbrl.runner.grouping import default_limit, default_workers, group
from perturbrl.runner.job import Job, make_job
from perturbrl.runner.outcome import Outcome, failed
from perturbrl.runner.processes import Runner, in_processes
from perturbrl.runner.progress import Progress


@dataclass(frozen=True)
class Composed:
    """A config as Hydra composed it (without the node ``hydra``), the directory of its run, and the run's labels."""

    config: DictConfig
    path: Path
    labels: Labels

    def job(self) -> Job:
        """Bind the config.

        Raises
        ------
        UserError
            See ``schema.bind_run``.
        """
        return make_job(self.config, self.path, self.labels)


@dataclass(frozen=True)
class Sweep:
    """The jobs that could be bound, and the outcome of each config, in the order of the configs."""

    jobs: tuple[Job, ...]
    outcomes: tuple[Outcome, ...]

    @property
    def failed(self) -> list[Outcome]:
        """The outcomes of runs that could not be bound or trained."""
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]


def sweep(
    composed: Sequence[Composed],
    progress: Progress,
    *,
    workers: int | None = None,
    runs_together: int | None = None,
    runner: Runner | None = None,
    on_end: Callable[[Outcome], None] = lambda outcome: None,
) -> Sweep:
    """Train every run; a run that fails does not stop the others.

    Parameters
    ----------
    composed
        Composed configs; each has another directory.
    progress
        Prints progress. One object for all runs of a command, so that shared notices are printed once.
    workers
        Processes, or tasks of ``runner``, at a time. Default: one for each core; one on a GPU.
    runs_together
        Largest number of runs in a population. Default: a limit for the device.
    runner
        Trains the groups. Default: processes of this machine.
    on_end
        Called with each outcome when it is there.

    Returns
    -------
    Sweep
        Bound jobs and outcomes; failures are outcomes, not exceptions.

    Raises
    ------
    Interrupted
        A signal stopped the sweep; finished iterations are saved.
    """
    jobs: list[Job] = []
    outcomes: list[Outcome] = []
    for one in composed:
        try:
            jobs.append(one.job())
        except Exception as error:
            outcomes.append(failed(one.path, error))
            on_end(outcomes[-1])
    if jobs:
        device = jobs[0].config.device
        workers = workers or default_workers(device)
        groups = group(jobs, workers, runs_together or default_limit(device))
        if len(jobs) > 1:
            progress.say(f"{len(jobs)} runs in {len(groups)} populations, {workers} at a time")
        train = runner or in_processes(workers, progress)
        for group_outcomes in train(groups, progress.mode):
            for outcome in group_outcomes:
                outcomes.append(outcome)
                count = f" ({len(outcomes)} of {len(composed)})" if len(composed) > 1 else ""
                if outcome.error is None or len(composed) > 1:  # else the caller raises it
                    progress.say(f"{outcome}{count}")
                on_end(outcome)
    order = {one.path: k for k, one in enumerate(composed)}
    return Sweep(tuple(jobs), tuple(sorted(outcomes, key=lambda outcome: order[outcome.path])))


def sweep_all(
    composed: Sequence[Composed],
    progress: Progress,
    workers: int | None = None,
    runs_together: int | None = None,
) -> Sweep:
    """Train every run, as ``sweep`` does, for a command that needs all of them.

    Raises
    ------
    UserError
        A run failed; the others are saved.
    """
    trained = sweep(composed, progress, workers=workers, runs_together=runs_together)
    if trained.failed:
        raise UserError(f"{len(trained.failed)} of {len(composed)} runs failed; first: {trained.failed[0]}")
    return trained
