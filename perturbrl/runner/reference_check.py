"""``perturbrl reproduce --check``: choose the reference before anything is trained, compare with it afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perturbrl.data.readers.cells import sha256_of
from perturbrl.files import write_json
from perturbrl.report import drift, reference
from perturbrl.report.reference import Scores
from perturbrl.runner import guard
from perturbrl.runner.job import Job
from perturbrl.runner.progress import Progress
from perturbrl.runner.sweep import Composed, Sweep

FILE = "check.json"


def candidates(composed: Sequence[Composed], file: Path | bool) -> list[Scores]:
    """Return the references to choose from: that of ``file``, those of the package (true), or none (false).

    Raises
    ------
    UserError
        None of them is of these cells and this schedule, or ``file`` is no reference.
    """
    if file is False:
        return []
    among = [reference.read(file)] if isinstance(file, Path) else reference.shipped()
    tables = {one.config.data.name: one for one in reversed(composed)}
    jobs = {table: one.job() for table, one in tables.items()}
    first = next(iter(jobs.values()))
    data = {table: _data_settings(job) for table, job in jobs.items()}
    reference.find(first.raw["source"], data, first.config.schedule.name, among)
    return among


def check(trained: Sweep, among: Sequence[Scores], out: Path, progress: Progress) -> None:
    """Compare evaluated runs with the reference of their cells, if there are references to choose from.

    What drifted is printed, and written to ``out`` as JSON.

    Raises
    ------
    UserError
        The cells are not those of any reference.
    SystemExit
        With code 1 if a value drifted.
    """
    if not among:
        return
    scores = reference.scores_of([job.path for job in trained.jobs])
    result = drift.compare(scores, reference.find(scores.source, scores.data, scores.schedule, among))
    write_json(out, result.to_json())
    print(*result.lines(), sep="\n")
    old = sum(outcome.status == "skipped" for outcome in trained.outcomes)
    if old:
        progress.say(f"{old} of {len(trained.jobs)} runs are from before; to check this code, give --out NEW_FOLDER")
    if not result.agrees:
        raise guard.fail(f"error: the tables have drifted from the reference; all values: {out}", guard.FAILED)


def _data_settings(job: Job) -> Mapping[str, Any]:
    """Return ``data.*`` of a job, with the sha256 of its file, if it reads one that is there."""
    settings: dict[str, Any] = dict(job.raw["data"])
    place = job.raw["source"].get("path")
    if job.config.source.name == "file" and place and Path(place).exists():
        settings["sha256"] = sha256_of(Path(place))
    return settings
