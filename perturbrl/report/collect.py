"""Read the JSON files of run directories into one tidy frame; curves are read when they are drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from perturbrl import paths
from perturbrl.errors import UserError
from perturbrl.metrics_info import FATES, PAPER_COLUMNS
from perturbrl.report import published, recorded, run_files
from perturbrl.report.differences import label_runs, part_repeats
from perturbrl.report.recorded import Recorded, Settings, spelled
from perturbrl.report.run_files import COUNTERFACTUAL, FATE, FATE_ENVS, LeftOut
from perturbrl.run_dirs import HOW_TO_RUN, find_runs, labels

TEXTS, NUMBERS = ("agent", "env", "source", "data"), ("seed", "steps")  # that every run.json has
FRAME_COLUMNS = (
    *("run", "name", "source", "data", "env", "agent", "seed", "schedule", "steps", "preset", "status"),
    *("row", "metric", "value"),
)
# of which two runs must differ in one, or they are the same run twice
UNIT = ("seed", "split", "schedule", "preset", "policy", "settings")


@dataclass(frozen=True)
class Incomplete:
    """A run directory that the report leaves out, or of which it lacks something, and why."""

    run: Path
    reason: str


@dataclass(frozen=True)
class Collection:
    """What the run directories hold.

    ``runs``: one row a run; ``cells``, ``task`` and ``label`` are source-data, env and agent together with the settings
    in which they differ between these runs (``labels`` has the parts), so that runs with the same three were asked to
    do the same; ``settings`` are those of the evaluation (``n_cells=30,return_episodes=256``), empty where there was
    none; ``released``: whether the task is that of Tables I-III. ``frame``: one row a (run, row, metric), columns
    ``FRAME_COLUMNS``; a diverged run that was never evaluated has its ``policy`` rows with the value NaN.
    ``summaries`` maps each run that predicts held-out perturbations to the summary of its evaluation.
    ``differing`` maps a run to the settings, by full key, in which it differs from others, and ``shared`` has the
    overrides of commands in which none do.
    ``damaged``: runs with a file that is not as it was written; the report has what can still be read of them.
    """

    runs: pd.DataFrame
    frame: pd.DataFrame
    incomplete: tuple[Incomplete, ...]
    summaries: Mapping[str, Mapping[str, Any]]
    damaged: tuple[Incomplete, ...] = ()
    differing: Mapping[str, Settings] = field(default_factory=dict)
    shared: tuple[str, ...] = ()

    @property
    def paper(self) -> pd.DataFrame:
        """The runs that belong in Tables I-III."""
        return self.runs[~self._counterfactual & ~self._fates]

    @property
    def fates(self) -> pd.DataFrame:
        """The runs that steer cells to fates."""
        return self.runs[self._fates]

    @property
    def counterfactual(self) -> pd.DataFrame:
        """The runs that predict held-out perturbations."""
        return self.runs[self._counterfactual]

    @property
    def _counterfactual(self) -> pd.Series[bool]:
        return self.runs["run"].isin(list(self.summaries))

    @property
    def _fates(self) -> pd.Series[bool]:
        # a run that diverged may have no evaluation
        return (self.runs["protocol"] == FATE) | self.runs["env"].isin(FATE_ENVS)


def collect(where: Sequence[str | Path]) -> Collection:
    """Read every run under the paths ``where``: run directories, folders above them, or globs.

    Raises
    ------
    UserError
        A path does not exist, or no finished run lies under any of them.
    """
    runs: list[dict[str, Any]] = []
    settings: list[Recorded] = []
    values: list[tuple[int, str, str, float]] = []
    summaries: dict[str, dict[str, Any]] = {}
    incomplete: list[Incomplete] = []
    damaged: list[Incomplete] = []
    for folder in find_runs(where):
        try:
            run, summary, lacking = _read_run(folder)
            rows = _rows(summary, run)
        except LeftOut as error:
            incomplete.append(Incomplete(folder, str(error)))
            damaged += incomplete[-1:] if error.damaged else []
            continue
        damaged += [Incomplete(folder, lacking)] if lacking else []
        values += [(len(runs), row, metric, value) for row, cells in rows.items() for metric, value in cells.items()]
        if (summary.get("protocol") or run["env"]) == COUNTERFACTUAL:
            summaries[str(folder)] = summary
        runs.append(_record(folder, run, summary))
        settings.append(recorded.read(folder, run, summary, runs[-1]["labels"]))
    if not runs:
        places = ", ".join(str(w) for w in where)
        if incomplete:
            first = incomplete[0]
            raise UserError(
                f"{places}: none of the {len(incomplete)} runs can be reported (first: {first.run}: {first.reason}); "
                "evaluate them, or give the command that started them again: it resumes"
            )
        raise UserError(f"{places}: no runs found; make some with: {HOW_TO_RUN}")
    differing = label_all(runs, settings, [run["run"] in summaries for run in runs])
    table = pd.DataFrame(runs)
    frame = _tidy(table, values)
    return Collection(table, frame, tuple(incomplete), summaries, tuple(damaged), differing, _shared(runs))


def _read_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Return ``run.json``, the summary of the evaluation, and what the run lacks though it can be reported."""
    if not (folder / paths.RUN).exists():
        raise LeftOut(f"no {paths.RUN}: interrupted, or still running")
    run = run_files.run_json(folder)
    status = str(run.get("status"))
    if status not in ("complete", "diverged"):
        message = run.get("message")
        raise LeftOut(f"status {status}" + (f": {message}" if message else ""))
    for key in (*TEXTS, *NUMBERS):
        if not isinstance(run.get(key), int if key in NUMBERS else str):
            raise LeftOut(f"{paths.RUN}: {key} is missing or of the wrong type", damaged=True)
    summary_file = folder / paths.EVALUATION / paths.SUMMARY
    summary: dict[str, Any] = {}
    if summary_file.exists():
        summary = run_files.summary(folder)
    elif status == "complete":
        raise LeftOut(f"not evaluated; run: perturbrl evaluate {folder}")
    return run, summary, run_files.log_damage(folder, run)


def _rows(summary: dict[str, Any], run: dict[str, Any]) -> dict[str, dict[str, float]]:
    rows = summary.get("rows", {})
    if not isinstance(rows, dict) or not all(isinstance(cells, dict) for cells in rows.values()):
        raise LeftOut(f"{paths.EVALUATION}/{paths.SUMMARY}: rows must map names to metrics", damaged=True)
    out: dict[str, dict[str, float]] = {}
    for row, cells in rows.items():
        for metric, value in cells.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                where = f"{paths.EVALUATION}/{paths.SUMMARY}: rows.{row}.{metric}"
                raise LeftOut(f"{where} is not a number: {value!r}", damaged=True)
        out[row] = {metric: math.nan if value is None else float(value) for metric, value in cells.items()}
    if run["status"] == "diverged":
        out.setdefault("policy", dict.fromkeys(FATES if run["env"] in FATE_ENVS else PAPER_COLUMNS, math.nan))
    if "policy" not in out:
        raise LeftOut(f"{paths.EVALUATION}/{paths.SUMMARY}: rows.policy is missing", damaged=True)
    return out


def _record(folder: Path, run: dict[str, Any], summary: dict[str, Any]) -> dict[str, Any]:
    versions, leaks = run.get("versions"), run.get("leaks") or ()
    split = summary.get("split")
    spelled = labels(run, folder)
    parts = (*Path(spelled.name).parts, *map(str, (spelled.cells, spelled.task, spelled.agent)), f"seed{run['seed']}")
    usual = folder.parts[-len(parts) :] == parts
    return {
        "run": str(folder),
        "outputs": str(folder.parents[len(parts) - 1] if usual else folder.parent),
        "labels": spelled,
        "overrides": {k: v for part in recorded.overrides(spelled).values() for k, v in part.items()},
        **{key: run[key] for key in (*TEXTS, *NUMBERS, "status")},
        **{key: _text(run.get(key)) for key in ("policy", "schedule", "preset", "message", "git_commit")},
        **{key: _text(run.get(key)) for key in ("encoder", "config_hash")},
        "beside_published": published.asked_for(run),
        "version": _text(versions.get("perturbrl")) if isinstance(versions, dict) else "",
        "n_features": run.get("n_features"),
        "leaks": (leaks,) if isinstance(leaks, str) else tuple(str(leak) for leak in leaks),
        "protocol": _text(summary.get("protocol")),
        "split": split.get("sha256") if isinstance(split, dict) else None,
        "n_cells": summary.get("n_cells"),
    }


def _shared(runs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the overrides of commands that have the same value in all runs whose commands had them."""
    values: dict[str, set[str]] = {}
    for run in runs:
        for key, value in run["overrides"].items():
            values.setdefault(key, set()).add(value)
    return tuple(f"{key.removesuffix('.name')}={next(iter(v))}" for key, v in values.items() if len(v) == 1)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def label_all(
    runs: Sequence[dict[str, Any]], settings: Sequence[Recorded], held_out: Sequence[bool]
) -> dict[str, Settings]:
    """Add ``name``, ``cells``, ``task``, ``label``, ``labels``, ``settings`` and ``released`` to the records of runs.

    Runs of Tables I-III and runs on held-out perturbations are labelled apart from each other. Returns the settings
    that differ, by run.
    """
    out: dict[str, Settings] = {}
    for kind in (False, True):
        chosen = [k for k, is_held_out in enumerate(held_out) if is_held_out == kind]
        some = [runs[k] for k in chosen]
        seeds = [int(run["seed"]) for run in some]
        asked = recorded.without_seeds([settings[k] for k in chosen], seeds, kind)
        overridden = {key for run in some for key in run["overrides"]}
        made, differing = label_runs([run["labels"] for run in some], asked, overridden)
        varied = {key for more in differing for key in more}
        for run, one, more in zip(some, asked, differing, strict=True):
            different = [key.partition(".")[2] for key in more if key.startswith("evaluation.")]
            shown = [key for key in one.evaluation if key in (*recorded.SUMMARY_KEYS, *different)]
            run["settings"] = ",".join(f"{key}={spelled(one.evaluation[key])}" for key in shown)
            run["released"] = one.released
            run["optimizer"] = one.agent.get("agent.optimizer.name", recorded.OPTIMIZER)
            run["overrides"] = {key: spelled(one.all.get(key, value)) for key, value in run["overrides"].items()}
            out[run["run"]] = {key: value for key, value in one.all.items() if key in varied}
        keys = [str([run[key] for key in UNIT]) for run in some]
        for run, label in zip(some, part_repeats(made, keys, [Path(run["run"]) for run in some]), strict=True):
            parts = {"cells": label.cells, "task": label.task, "label": label.agent}
            run.update(labels=label, name=label.name, **{key: str(part) for key, part in parts.items()})
    return out


def _tidy(runs: pd.DataFrame, values: list[tuple[int, str, str, float]]) -> pd.DataFrame:
    long = pd.DataFrame(values, columns=["index", "row", "metric", "value"])
    about = runs.loc[long["index"], [c for c in FRAME_COLUMNS if c in runs.columns]].reset_index(drop=True)
    return pd.concat([about, long.drop(columns="index")], axis=1)
