"""Names of runs in a table: what they differ in, and their scores by these names."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from perturbrl import paths, records, run_dirs
from perturbrl.config import fingerprint
from perturbrl.errors import UserError
from perturbrl.records import RunDir
from perturbrl.run_dirs import NOT_IN_HASH, Label, Labels
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


@dataclass(frozen=True)
class Place:
    """Names in a table: of the row of an agent, and what stands before the simple rows of its task."""

    agent: str
    task: str


def places(jobs: Sequence[Job]) -> dict[Place, list[Job]]:
    """Group runs that differ in the seed only, and name the groups by what differs in their labels."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(_but_the_seed(job), []).append(job)
    labels = {key: _labels(members[0]) for key, members in groups.items()}
    parts = ("name", "cells", "task", "agent")
    spelled = {part: _differing({key: getattr(each, part) for key, each in labels.items()}) for part in parts}
    named: dict[Place, list[Job]] = {}
    for key, members in groups.items():
        task = "".join(f"{spelled[part][key]} " for part in parts[:3] if spelled[part][key])
        place = Place(f"{task}{spelled['agent'][key] or 'policy'}", task)
        if place in named:  # configs that no label tells apart
            place = Place(f"{place.agent} ({key[:6]})", f"{place.task}({key[:6]}) ")
        named[place] = members
    return named


def _differing(labels: dict[str, str | Label]) -> dict[str, str]:
    """Spell labels without the overrides that all have; all empty if they are the same."""
    if len(set(labels.values())) == 1:
        return dict.fromkeys(labels, "")
    overrides = [set(label.overrides) if isinstance(label, Label) else set() for label in labels.values()]
    keys = [override.partition("=")[0] for override in set.intersection(*overrides)]
    return {key: str(label.without(*keys) if isinstance(label, Label) else label) for key, label in labels.items()}


def _but_the_seed(job: Job) -> str:
    raw = {key: value for key, value in job.raw.items() if key != "seed"}
    split = raw.get("split")
    if isinstance(split, dict) and split.get("seed") == job.config.seed:  # the split follows the seed
        raw["split"] = {key: value for key, value in split.items() if key != "seed"}
    return fingerprint(raw, NOT_IN_HASH)


def _labels(job: Job) -> Labels:
    return job.labels or run_dirs.labels(RunDir(job.path).run, job.path)


def _scores(jobs: Sequence[Job]) -> dict[str, dict[int, dict[str, Any]]]:
    """Return the scores of each row by seed: those of agents first. A simple row of a task has each seed once."""
    agents: dict[str, dict[int, dict[str, Any]]] = {}
    simple: dict[str, dict[int, dict[str, Any]]] = {}
    first: dict[tuple[str, int], Path] = {}
    for place, members in places(jobs).items():
        for job in members:
            seed, summary = job.config.seed, records.read_json(job.path / paths.EVALUATION / paths.SUMMARY)
            other = first.setdefault((place.agent, seed), job.path)
            if other != job.path:
                raise UserError(f"table: {other} and {job.path} differ in nothing, not even the seed; leave one out")
            for row, scores in summary["rows"].items():
                if row == "policy":
                    agents.setdefault(place.agent, {})[seed] = scores
                else:
                    simple.setdefault(f"{place.task}{row}", {}).setdefault(seed, scores)
    return agents | simple


def _numbers(scores: Sequence[dict[str, Any]], metric: str) -> list[float]:
    return [math.nan if score.get(metric) is None else float(score[metric]) for score in scores]


def folder_of(jobs: Sequence[Job]) -> Path:
    """Return the folder ``out/name`` of some runs; of runs in places of their own the folder above them."""
    folders = []
    for job in jobs:
        above = job.path.absolute().parents
        folders.append(above[3] if len(above) > 4 and above[3].name == _labels(job).name else above[0])
    return Path(os.path.commonpath(folders))
