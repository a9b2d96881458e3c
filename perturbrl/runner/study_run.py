"""``perturbrl reproduce --study NAME``: arms compared at equal steps, after an equal tuning budget for each.

Every candidate of an arm is trained with seeds of its own; the best one by a column of the training log is trained
again with the final seeds, evaluated and reported.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perturbrl import paths, records
from perturbrl.config import require
from perturbrl.errors import UserError
from perturbrl.files import write_json, write_text
from perturbrl.records import RunDir
from perturbrl.runner.hydra.compose import compose, refuse
from perturbrl.runner.judge import judge
from perturbrl.runner.objective import last_value
from perturbrl.runner.progress import Progress
from perturbrl.runner.study import Study
from perturbrl.runner.sweep import Composed, Sweep, sweep_all

CHOSEN, TUNING = "study.json", "tuning.csv"
SET_HERE = {
    "agent": "train another agent with perturbrl train agent=...",
    "seed": "give --seeds N for seeds 0 to N-1",
    "name": "give --out for another folder",
}


@dataclass(frozen=True)
class Tuned:
    """A candidate of an arm on a task, and its mean score over the tuning seeds (minus infinity if one diverged)."""

    task: str
    arm: str
    candidate: str
    score: float


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
    trials = list(_tuning_runs(study, out, overrides))
    sweep_all(trials, show, workers)
    tuned = scores(study, [trial.path for trial in trials])
    best = chosen(tuned)
    for (task, arm), one in best.items():
        show.say(f"{task}, {arm}: {one.candidate} ({study.tasks[task].column} {one.score:.4g})")
    final = sweep_all(list(_final_runs(study, best, out, overrides)), show, workers)
    show.say(f"evaluating {len(final.jobs)} runs and writing the report")
    page = judge(final.jobs, [job.path for job in final.jobs], out / "report")
    _write(page.parent, study, tuned, best, overrides)
    if unequal := _unequal_steps(study, final):
        show.say(unequal)
    return page


def _compose(
    study: Study, task: str, arm: str, candidate: str, seed: int, out: Path, overrides: Sequence[str], name: str
) -> Composed:
    words = [*study.arms[arm].overrides, *candidate.split(), f"seed={seed}"]
    implied = [*study.tasks[task].overrides, *study.plan.budget, *overrides]
    return compose(words, out, f"{name}/{task}", implied)


def _tuning_runs(study: Study, out: Path, overrides: Sequence[str]) -> Iterator[Composed]:
    for task in study.tasks:
        for arm, each in study.arms.items():
            for candidate in each.candidates:
                for seed in study.plan.tuning_seeds:
                    yield _compose(study, task, arm, candidate, seed, out, overrides, "tuning")


def _final_runs(
    study: Study, best: Mapping[tuple[str, str], Tuned], out: Path, overrides: Sequence[str]
) -> Iterator[Composed]:
    for (task, arm), one in best.items():
        for seed in range(study.plan.seeds):
            yield _compose(study, task, arm, one.candidate, seed, out, overrides, "final")


def scores(study: Study, folders: Sequence[Path]) -> list[Tuned]:
    """Return every candidate with its mean score over its finished tuning runs, which are in this order."""
    n = len(study.plan.tuning_seeds)
    places = [(task, arm, one) for task in study.tasks for arm, each in study.arms.items() for one in each.candidates]
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


def _unequal_steps(study: Study, final: Sweep) -> str:
    """Name the arms whose steps differ by more than a rollout; empty if none does."""
    steps = {job.path: int(RunDir(job.path).run["steps"]) for job in final.jobs}
    rollout = max(int(getattr(job.config.agent, "rollout_steps", 0)) for job in final.jobs)
    spread = max(steps.values()) - min(steps.values())
    return f"steps differ by {spread:,} between runs, more than a rollout" if spread > max(rollout, 2048) else ""


def _write(
    folder: Path,
    study: Study,
    tuned: Sequence[Tuned],
    best: Mapping[tuple[str, str], Tuned],
    overrides: Sequence[str],
) -> None:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("task", "arm", "candidate", "column", "mean", "n_seeds", "chosen"))
    for one in tuned:
        mine = best[one.task, one.arm] is one
        n = len(study.plan.tuning_seeds)
        rows.writerow((one.task, one.arm, one.candidate, study.tasks[one.task].column, one.score, n, int(mine)))
    write_text(folder / TUNING, text.getvalue())
    settings: dict[str, dict[str, str]] = {}
    for (task, arm), one in best.items():
        settings.setdefault(task, {})[arm] = one.candidate
    about = {
        "study": study.name,
        "title": study.title,
        "seeds": study.plan.seeds,
        "tuning_seeds": study.plan.tuning_seeds,
        "tuning_runs": len(tuned) * len(study.plan.tuning_seeds),
        "budget": study.plan.budget,
        "overrides": list(overrides),
        "chosen": settings,
    }
    write_json(folder / CHOSEN, about)
