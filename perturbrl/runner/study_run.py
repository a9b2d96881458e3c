"""``perturbrl reproduce --study NAME``: arms compared at equal steps, after an equal tuning budget for each.

Every candidate of an arm is trained with seeds of its own; the best one by a column of the training log is trained
again with the final seeds, evaluated and reported. A study that names networks chooses on validation networks, and
compares on others.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from perturbrl import paths, records
from perturbrl.config import require
from perturbrl.errors import UserError
from perturbrl.records import RunDir
from perturbrl.runner.grouping import default_workers
from perturbrl.runner.hydra.compose import refuse
from perturbrl.runner.job import Job, load_job
from perturbrl.runner.judge import judge
from perturbrl.runner.objective import last_value
from perturbrl.runner.progress import Progress
from perturbrl.runner.study import Study
from perturbrl.runner.study_claims import declare
from perturbrl.runner.study_jobs import Trained, Tuned, final_runs, parts, tuning_runs
from perturbrl.runner.study_judge import conclude, evaluate
from perturbrl.runner.study_record import CHOSEN, TUNING, about, described, write
from perturbrl.runner.study_sharpness import examine
from perturbrl.runner.sweep import sweep_all

__all__ = ["CHOSEN", "TUNING", "Tuned", "chosen", "last", "run", "scores"]

SET_HERE = {
    "agent": "train another agent with perturbrl train agent=...",
    "seed": "give --seeds N for seeds 0 to N-1",
    "name": "give --out for another folder",
}


def run(
    study: Study,
    out: Path,
    overrides: Sequence[str] = (),
    progress: str = "auto",
    workers: int | None = None,
) -> Path:
    """Tune, train, evaluate and report a study; what is complete is skipped.

    Parameters
    ----------
    study
        From ``load``.
    out
        Folder of the runs and of the report.
    overrides
        Overrides for all runs.
    progress
        ``auto``, ``rich``, ``plain`` or ``quiet``.
    workers
        Number of processes. Default: one for each core.

    Returns
    -------
    Path
        The page of the report; ``study.json`` and ``tuning.csv`` beside it.

    Raises
    ------
    UserError
        An override is wrong, or a run failed. The others are saved; the same command resumes.
    """
    refuse(overrides, SET_HERE, "a study")
    show = Progress(progress)
    show.say(f"study {study.name}: {study.title}")
    declared = None if study.claims is None else declare(study.claims, out)
    tuned = list(_tuned(study, out, overrides, show, workers))
    best = chosen(tuned)
    for (task, arm), one in best.items():
        show.say(f"{task}, {arm}: {one.candidate} ({study.tasks[task].column} {one.score:.4g})")
    trained, jobs = _trained(study, best, out, overrides, show, workers)
    record = about(study, tuned, best, overrides)
    if study.claims is None or declared is None:
        show.say(f"evaluating {len(jobs)} runs and writing the report")
        page = judge(jobs, [job.path for job in jobs], out / "report")
        write(page.parent, study, record, tuned, best)
    else:
        examine(study, trained, out / "report")
        write(out / "report", study, record | described(study, study.claims, declared, trained, out), tuned, best)
        page = conclude(out / "report")
    if unequal := _unequal_steps(study, trained):
        show.say(unequal)
    return page


def _trained(
    study: Study,
    best: Mapping[tuple[str, str], Tuned],
    out: Path,
    overrides: Sequence[str],
    show: Progress,
    workers: int | None,
) -> tuple[list[Trained], list[Job]]:
    """Train the final runs part by part, and evaluate those of a study of networks; of others return the jobs too."""
    together = study.plan.seeds if study.networks.given else None  # small networks are quick in large populations
    trained: list[Trained] = []
    jobs: list[Job] = []
    for part in parts(study):
        finals = list(final_runs(study, best, part, out, overrides))
        done = sweep_all([each.composed for each in finals], show, workers, together)
        trained += map(Trained.of, finals)
        if study.claims is None:
            jobs += done.jobs
        else:
            evaluate([job.path for job in done.jobs], show, workers or default_workers(done.jobs[0].config.device))
    return trained, jobs


def _tuned(study: Study, out: Path, overrides: Sequence[str], show: Progress, workers: int | None) -> Iterator[Tuned]:
    """Train every candidate and yield its score, task by task where there are many networks."""
    groups = [[task] for task in study.tasks] if study.networks.given else [list(study.tasks)]
    for tasks in groups:
        trials = list(tuning_runs(study, tasks, out, overrides))
        sweep_all([trial.composed for trial in trials], show, workers)
        yield from scores(study, tasks, [trial.composed.path for trial in trials])


def scores(study: Study, tasks: Sequence[str], folders: Sequence[Path]) -> list[Tuned]:
    """Return every candidate with its mean score over its finished tuning runs, which are in this order."""
    n = len(study.plan.tuning_seeds) * len(study.networks.tuning)
    places = [(task, arm, one) for task in tasks for arm, each in study.arms.items() for one in each.spelled]
    tuned = []
    for k, (task, arm, candidate) in enumerate(places):
        values = [last(folder, study.tasks[task].column) for folder in folders[k * n : (k + 1) * n]]
        tuned.append(Tuned(task, arm, candidate, sum(values) / n))
    return tuned


def last(folder: Path, column: str) -> float:
    """Return the last value of a column in the log of a run; minus infinity if the run diverged.

    Raises
    ------
    UserError
        The log has no such column, or no value in it.
    """
    if RunDir(folder).run.get("status") != "complete":
        return -math.inf
    log = records.read_parquet(folder / paths.PROGRESS)
    if column not in log:
        raise UserError(f"{folder / paths.PROGRESS}: no column {column}; it has {', '.join(map(str, log.columns))}")
    value = last_value(log, column)
    require(not math.isnan(value), f"{folder / paths.PROGRESS}", f"column {column} has no value; train longer")
    return value


def chosen(tuned: Sequence[Tuned]) -> dict[tuple[str, str], Tuned]:
    """Return the best candidate of each arm on each task; of equals, the first."""
    best: dict[tuple[str, str], Tuned] = {}
    for one in tuned:
        key = one.task, one.arm
        if key not in best or one.score > best[key].score:
            best[key] = one
    return best


def _unequal_steps(study: Study, trained: Sequence[Trained]) -> str:
    """Say how far apart the steps of runs are, each divided by its arm's share; empty up to a rollout."""
    steps = [int(RunDir(each.path).run["steps"]) / study.arms[each.arm].share for each in trained]
    firsts = {(each.task, each.arm): each.path for each in trained}
    rollout = max(_rollout_steps(load_job(path).config.agent) for path in firsts.values())
    spread = round(max(steps) - min(steps))
    return f"steps differ by {spread:,} between runs, more than a rollout" if spread > rollout else ""


def _rollout_steps(settings: Any) -> int:
    """Return the steps between two updates of an agent, or of the stage of an agent that has the most; 0 if none."""
    below = [getattr(settings, field.name) for field in dataclasses.fields(settings)]
    stages = [_rollout_steps(each) for each in below if dataclasses.is_dataclass(each)]
    return max([int(getattr(settings, "rollout_steps", 0)), *stages])
