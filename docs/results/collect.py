"""From finished run folders to the files of docs/results: values as CSV, and what else a page says of them as JSON."""

from __future__ import annotations

import csv
import io
import math
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from perturbrl import paths, registry
from perturbrl.cores import processor
from perturbrl.errors import UserError
from perturbrl.evaluate.actions import do_nothing
from perturbrl.files import read_json, write_json, write_text
from perturbrl.metrics_info import HELD_OUT
from perturbrl.records import FINISHED, RunDir, read_parquet
from perturbrl.report import build_report, paper
from perturbrl.report.table import Section
from perturbrl.report.text import NBSP
from perturbrl.run_dirs import find_runs
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.job import load_job
from perturbrl.screens.schema import PerturbationTable

HERE = Path(__file__).resolve().parent
ABOUT = HERE / "about.json"
TRIED = HERE / "held_out" / "tried.csv"
TRIED_METRICS = ("pds_cosine", "pearson_delta_pert", "mse", "return_share")
DIGITS = 6  # significant digits of a value
NOT_SHOWN = (
    "Of ",
    "No published ",
    "Evaluation: ",
    "Reproduction of ",
    "Code: ",
)  # counted or stamped by a page


def collect(kind: str, name: str, folder: Path, command: str, pictures: Mapping[str, Mapping[str, str]]) -> None:
    """Write the values of a study, and copy its pictures into docs/img.

    Parameters
    ----------
    kind
        ``paper`` or ``held_out``.
    name
        Name of the study, and of its CSV file.
    folder
        Folder of its runs, trained and evaluated.
    command
        The command that made them.
    pictures
        File in docs/img -> study (``paper/landscape``) and pattern of a figure of its report.

    Raises
    ------
    UserError
        There are no runs, or they cannot be reported.
    """
    wanted = {file: about["figure"] for file, about in pictures.items() if about["study"] == f"{kind}/{name}"}
    finished_runs(folder)
    report = build_report([folder], folder / "report", figures=bool(wanted))
    sections = [*report.held_out, *map(paper.section, report.tables)]
    lines = [{"table": section.title, **line} for section in sections for line in _values(section)]
    lines += [
        {"table": table.title, "row": row.label, "kind": "agent", "metric": "steps", "mean": max(row.steps, default=0)}
        for table in report.tables
        for row in table.agents
    ]
    write_csv(HERE / kind / f"{name}.csv", lines)
    about = read_json(ABOUT) if ABOUT.exists() else {}
    about[f"{kind}/{name}"] = {"command": command, **stamp(folder), "tables": [_about(section) for section in sections]}
    write_json(ABOUT, dict(sorted(about.items())))
    for file, pattern in wanted.items():
        drawn = list((folder / "report" / "figures").glob(pattern))
        if len(drawn) != 1:
            raise UserError(f"{folder / 'report' / 'figures'}: {len(drawn)} figures match {pattern}, one was expected")
        shutil.copyfile(drawn[0], HERE.parent / "img" / file)


def finished_runs(folder: Path) -> list[Path]:
    """Return the runs of a folder.

    Raises
    ------
    UserError
        There is none, or one is not finished: a table of the others would not say so.
    """
    runs = find_runs([folder])
    open_runs = [run for run in runs if RunDir(run).run.get("status") not in FINISHED]
    if open_runs or not runs:
        raise UserError(
            f"{folder}: {len(open_runs)} of {len(runs)} runs are not finished; the same command resumes them"
        )
    return runs


def stamp(folder: Path) -> dict[str, Any]:
    """Return commits, processor, date and seeds of the runs of a folder."""
    runs = [read_json(run / paths.RUN) for run in finished_runs(folder)]
    last = max((run / paths.RUN).stat().st_mtime for run in finished_runs(folder))
    return {
        "commit": ", ".join(sorted({str(run["git_commit"])[:10] for run in runs})),
        "processor": processor(),
        "date": time.strftime("%Y-%m-%d", time.gmtime(last)),
        "seeds": len({run["seed"] for run in runs}),
    }


def tried(dataset: str, variant: str, folder: Path) -> None:
    """Write the scores of a variant on validation conditions at the end of training, means over seeds."""
    logs = [read_parquet(run / paths.PROGRESS) for run in finished_runs(folder)]
    shared = [metric for metric in TRIED_METRICS if all(f"eval/{metric}" in log for log in logs)]
    means = {metric: _mean(log[f"eval/{metric}"].dropna().iloc[-1] for log in logs) for metric in shared}
    _replace(TRIED, [{"set": dataset, "variant": variant, "runs": len(logs), **means}], ("set", "variant"))


def start(dataset: str, folder: Path, residuals: Iterable[str]) -> None:
    """Write the scores, on the same validation conditions, of what episodes start from: baselines without a policy."""
    job = load_job(finished_runs(folder)[0])
    table, name, device = load_cells(job), job.config.env.name, torch.device("cpu")
    assert isinstance(table, PerturbationTable)
    scoring = registry.protocols[job.config.protocol.name].build(job.config.protocol)
    for residual in residuals:
        env = replace(job.config.env, residual=residual)
        space = registry.envs[name].build([env], table, table.split.control_validation, env.mates, device).action_space
        scores = scoring.curve([env], table, device).at(do_nothing(space))
        row = {
            "set": dataset,
            "variant": f"start_{residual}",
            "runs": 1,
            **{m: float(scores[m][0]) for m in TRIED_METRICS},
        }
        _replace(TRIED, [row], ("set", "variant"))


def write_csv(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV; the columns are those of all rows, in their order."""
    listed = list(rows)
    columns = list(dict.fromkeys(key for row in listed for key in row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_spelled(row.get(column)) for column in columns] for row in listed)
    write_text(file, out.getvalue())


def read_csv(file: Path) -> list[dict[str, str]]:
    """Read rows of a CSV file; none where there is no file."""
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _values(section: Section) -> list[dict[str, Any]]:
    head, *lines = section.values
    return [dict(zip(map(str, head), line, strict=True)) for line in lines]


def _about(section: Section) -> dict[str, Any]:
    names = {info.title: name for name, info in HELD_OUT.items()}
    heads = [column.rstrip(f"{NBSP} ↑↓") for column in section.grids[0].columns]
    return {
        "title": section.title,
        "columns": [names[head] for head in heads if head in names],
        "summary": section.summary,
        "claims": [{"agent": made.agent.label, "word": made.word, "text": made.text} for made in section.claims],
        "notes": [note for note in section.notes if not note.startswith(NOT_SHOWN)],
    }


def _replace(file: Path, rows: Sequence[Mapping[str, Any]], key: Sequence[str]) -> None:
    new = {tuple(str(row[k]) for k in key) for row in rows}
    kept = [row for row in read_csv(file) if tuple(row[k] for k in key) not in new]
    write_csv(file, sorted([*kept, *rows], key=lambda row: tuple(str(row[k]) for k in key)))


def _mean(values: Iterable[float]) -> float:
    listed = [float(value) for value in values]
    return math.fsum(listed) / len(listed)


def _spelled(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}" if math.isfinite(value) else ""
    return "" if value is None else str(value)
