"""``perturbrl reproduce --study NAME``: arms compared at equal steps, after an equal tuning budget for each.

A study is a file of ``conf/study``. Every candidate of an arm is trained with seeds of its own; the best one by a
column of the training log is trained again with the final seeds, evaluated and reported.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import yaml

from perturbrl import paths, records
from perturbrl.bounds import NotEmpty, PositiveInt
from perturbrl.config import bind, choice, require
from perturbrl.errors import UserError
from perturbrl.files import write_json, write_text
from perturbrl.records import RunDir
from perturbrl.runner.hydra.compose import compose
from perturbrl.runner.judge import judge
from perturbrl.runner.progress import Progress
from perturbrl.runner.sweep import Composed, Sweep, sweep

CHOSEN, TUNING = "study.json", "tuning.csv"
PLAN = ("seeds", "tuning_seeds", "budget")
KEYS = ("title", *PLAN, "tasks", "arms", "quick")
SET_HERE = {
    "agent": "train another agent with perturbrl train agent=...",
    "seed": "give --seeds N for seeds 0 to N-1",
    "name": "give --out for another folder",
}


@dataclass(frozen=True)
class Task:
    """What is learned, and the column of ``progress.parquet`` by which candidates are compared; larger is better."""

    overrides: list[str]
    column: Annotated[str, NotEmpty("a column of progress.parquet")]


@dataclass(frozen=True)
class Arm:
    """What is compared: its overrides, and the settings that are tried for it."""

    overrides: list[str]
    candidates: Annotated[list[str], NotEmpty("[agent.lr=1e-4]")]


@dataclass(frozen=True)
class Plan:
    """How much is run: final seeds, tuning seeds, and the overrides that set the steps."""

    seeds: PositiveInt
    tuning_seeds: Annotated[list[int], NotEmpty("[100, 101]")]
    budget: list[str]


@dataclass(frozen=True)
class Study:
    """A file of ``conf/study``."""

    name: str
    title: str
    plan: Plan
    tasks: Mapping[str, Task]
    arms: Mapping[str, Arm]


@dataclass(frozen=True)
class Tuned:
    """A candidate of an arm on a task, and its mean score over the tuning seeds (minus infinity if one diverged)."""

    task: str
    arm: str
    candidate: str
    score: float


def load(name: str, quick: bool = False, seeds: int | None = None) -> Study:
    """Read ``conf/study/NAME.yaml``, or a file of the user's.

    Parameters
    ----------
    name
        The study, or the path of a YAML file of the same form.
    quick
        Take the file's key ``quick`` for seeds and steps.
    seeds
        Number of final seeds instead of the file's.

    Raises
    ------
    UserError
        No such study, a wrong key, arms with different numbers of candidates, or seeds that serve both purposes.
    """
    values = _read(name)
    name = Path(name).stem
    usual, final = {key: values[key] for key in PLAN}, {"seeds": seeds} if seeds else {}
    plan = bind(Plan, usual | final, name)
    if quick:  # its budget comes after the study's, so that it changes single keys
        less = bind(Plan, usual | {"budget": []} | values["quick"] | final, f"{name}.quick")
        plan = replace(less, budget=[*plan.budget, *less.budget])
    study = Study(
        name,
        str(values["title"]),
        plan,
        {key: bind(Task, task, f"{name}.tasks.{key}") for key, task in values["tasks"].items()},
        {key: bind(Arm, arm, f"{name}.arms.{key}") for key, arm in values["arms"].items()},
    )
    counts = {arm: len(each.candidates) for arm, each in study.arms.items()}
    require(len(set(counts.values())) == 1, f"{name}.arms", f"tuning budgets differ: {counts}; give each as many")
    shared = sorted(set(plan.tuning_seeds) & set(range(plan.seeds)))
    require(not shared, f"{name}.tuning_seeds", f"{shared} are final seeds too; choose others")
    return study


def _read(name: str) -> dict[str, Any]:
    file, folder = Path(name), paths.conf_dir() / "study"
    if file.suffix not in (".yaml", ".yml"):
        choice(name, sorted(each.stem for each in folder.glob("*.yaml")), "--study")
        file = folder / f"{name}.yaml"
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"--study {file}: {str(error).splitlines()[0]}") from None
    require(isinstance(values, dict), f"--study {file}", "is no mapping of keys; docs/use.md shows a study")
    missing = [key for key in KEYS if key not in values]
    require(not missing, f"{file}", f"lacks {', '.join(missing)}; docs/use.md shows a study")
    unknown = sorted(set(values) - set(KEYS))
    require(not unknown, f"{file}", f"unknown key {', '.join(unknown)}; there are {', '.join(KEYS)}")
    for key, each in ((key, values[key]) for key in ("tasks", "arms", "quick")):
        require(isinstance(each, dict) and len(each) > 0, f"{file.stem}.{key}", f"must be a mapping, got {each!r}")
    return dict(values)


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
    for key in (override.lstrip("+~").partition("=")[0] for override in overrides):
        require(key not in SET_HERE, key, f"a study sets it itself; {SET_HERE.get(key)}")
    show = Progress(progress)
    show.say(f"study {study.name}: {study.title}")
    trials = list(_tuning_runs(study, out, overrides))
    _train(trials, show, workers)
    tuned = scores(study, [trial.path for trial in trials])
    best = chosen(tuned)
    for (task, arm), one in best.items():
        show.say(f"{task}, {arm}: {one.candidate} ({study.tasks[task].column} {one.score:.4g})")
    final = _train(list(_final_runs(study, best, out, overrides)), show, workers)
    show.say(f"evaluating {len(final.jobs)} runs and writing the report")
    page = judge(final.jobs, [job.path for job in final.jobs], out / "report")
    _write(page.parent, study, tuned, best, overrides)
    if unequal := _unequal_steps(study, final):
        show.say(unequal)
    return page


def _train(composed: Sequence[Composed], show: Progress, workers: int | None) -> Sweep:
    trained = sweep(composed, show, workers=workers)
    if trained.failed:
        raise UserError(f"{len(trained.failed)} of {len(composed)} runs failed; first: {trained.failed[0]}")
    return trained


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
    values = log[column].dropna()
    require(len(values) > 0, f"{folder / paths.PROGRESS}", f"column {column} has no value; train longer")
    return float(values.iloc[-1])


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
