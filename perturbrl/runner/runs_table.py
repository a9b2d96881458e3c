"""Names of runs in a table: what they differ in, and their scores by these names."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from perturbrl import paths, records, run_dirs
from perturbrl.errors import UserError
from perturbrl.records import RunDir
from perturbrl.report import recorded
from perturbrl.report.differences import label_runs
from perturbrl.report.run_files import COUNTERFACTUAL
from perturbrl.run_dirs import Labels
from perturbrl.runner.job import Job
from perturbrl.stats import mean_interval


def score_table(jobs: Sequence[Job], level: float) -> pd.DataFrame:
    """Return the scores of evaluated runs; see ``Runs.table``."""
    rows = {name: list(by_seed.values()) for name, by_seed in _scores(jobs).items()}
    intervals = {
        name: {metric: mean_interval(_numbers(scores, metric), level) for metric in scores[0]}
        for name, scores in rows.items()
    }
    ends = {"": "mean", "_low": "low", "_high": "high"}
    frames = [
        pd.DataFrame({name: {m + end: getattr(i, key) for m, i in part.items()} for name, part in intervals.items()}).T
        for end, key in ends.items()
    ]
    n = {name: max(interval.n for interval in part.values()) for name, part in intervals.items()}
    counts = pd.DataFrame({"n": n, "diverged": {name: len(rows[name]) - n[name] for name in rows}})
    return pd.concat([*frames, counts], axis=1)


Unit = tuple[int, int | None]


@dataclass(frozen=True)
class Place:
    """Names in a table: of the row of an agent, and what stands before the simple rows of its task."""

    agent: str
    task: str


def places(jobs: Sequence[Job]) -> dict[Place, list[Job]]:
    """Group runs that differ in the seed only, as a report does, and name the groups by what differs between them."""
    groups: dict[Labels, list[Job]] = {}
    for job, spelled in zip(jobs, _differing(jobs), strict=True):
        groups.setdefault(spelled, []).append(job)
    parts = ("name", "cells", "task", "agent")
    shown = [part for part in parts if len({getattr(spelled, part) for spelled in groups}) > 1]
    named: dict[Place, list[Job]] = {}
    for spelled, members in groups.items():
        task = "".join(f"{getattr(spelled, part)} " for part in parts[:3] if part in shown)
        named[Place(f"{task}{spelled.agent if 'agent' in shown else 'policy'}", task)] = members
    return named


def _differing(jobs: Sequence[Job]) -> list[Labels]:
    """Return the labels that the runs have in a report; with the schedule, by which a report makes tables."""
    made = [_labels(job) for job in jobs]
    for held_out in (False, True):
        some = [k for k, job in enumerate(jobs) if (job.config.env.name == COUNTERFACTUAL) == held_out]
        spelled = [made[k] for k in some]
        settings = [recorded.read(jobs[k].path, RunDir(jobs[k].path).run, {}, made[k]) for k in some]
        asked = recorded.without_seeds(settings, [jobs[k].config.seed for k in some], held_out)
        overridden = {key for one in spelled for part in recorded.overrides(one).values() for key in part}
        for k, one in zip(some, label_runs(spelled, asked, overridden)[0], strict=True):
            made[k] = one
    schedules = [job.config.schedule.name for job in jobs]
    if len(set(schedules)) == 1:
        return made
    agents = [
        replace(one.agent, overrides=(*one.agent.overrides, f"schedule={schedule}"))
        for one, schedule in zip(made, schedules, strict=True)
    ]
    return [replace(one, agent=agent) for one, agent in zip(made, agents, strict=True)]


def _labels(job: Job) -> Labels:
    return job.labels or run_dirs.labels(RunDir(job.path).run, job.path)


def _scores(jobs: Sequence[Job]) -> dict[str, dict[Unit, dict[str, Any]]]:
    """Return the scores of each row by seed: those of agents first. A simple row of a task has each seed once."""
    agents: dict[str, dict[Unit, dict[str, Any]]] = {}
    simple: dict[str, dict[Unit, dict[str, Any]]] = {}
    first: dict[tuple[str, Unit], Path] = {}
    for place, members in places(jobs).items():
        for job in members:
            unit, summary = _unit(job), records.read_json(job.path / paths.EVALUATION / paths.SUMMARY)
            other = first.setdefault((place.agent, unit), job.path)
            if other != job.path:
                raise UserError(f"table: {other} and {job.path} differ in nothing, not even the seed; leave one out")
            for row, scores in summary["rows"].items():
                if row == "policy":
                    agents.setdefault(place.agent, {})[unit] = scores
                else:
                    simple.setdefault(f"{place.task}{row}", {}).setdefault(unit, scores)
    return agents | simple


def _unit(job: Job) -> Unit:
    """Return the seeds of a run and of its split, by which the runs of a row differ."""
    return job.config.seed, job.raw["split"].get("seed")


def _numbers(scores: Sequence[dict[str, Any]], metric: str) -> list[float]:
    return [math.nan if score.get(metric) is None else float(score[metric]) for score in scores]


def folder_of(jobs: Sequence[Job]) -> Path:
    """Return the folder ``out/name`` of some runs; of runs in places of their own the folder above them."""
    folders = []
    for job in jobs:
        above = job.path.absolute().parents
        folders.append(above[3] if len(above) > 4 and above[3].name == _labels(job).name else above[0])
    return Path(os.path.commonpath(folders))
