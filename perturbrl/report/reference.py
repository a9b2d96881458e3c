"""Reference tables: what finished runs of ``perturbrl reproduce`` gave, seed by seed, to compare later runs with.

A reference is known by its cells and budgets: the settings ``source.*`` and ``data.*``, the sha256 of the cells (never
the path of a file) and the name of the schedule. Those of the folder ``references`` are part of the package.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import yaml

from perturbrl import paths
from perturbrl.cores import processor
from perturbrl.errors import UserError
from perturbrl.files import read_json, write_text
from perturbrl.metrics_info import PAPER_COLUMNS
from perturbrl.report import run_files
from perturbrl.report.run_files import LeftOut
from perturbrl.run_dirs import find_runs

FORMAT = 1
FEWEST_SEEDS = 3  # fewer say nothing about the spread
DIGITS = 6  # significant digits of a stored value
NOT_OF_THE_CELLS = ("path", "sha256")
HOW_TO_MAKE = "perturbrl report FOLDER --reference FILE makes one of finished runs"

Key = tuple[str, str, str]
"""Table (``joint``, ``rna``, ``atac``), row (an agent, or a policy that needs no training) and metric."""


@dataclass(frozen=True)
class Scores:
    """The values of Tables I-III of one source, under one schedule.

    ``values`` maps (table, row, metric) to the value of each seed, NaN where a policy diverged. ``source`` holds the
    settings ``source.*`` without the path, ``data`` the settings ``data.*`` and the sha256 of the cells of each table.
    ``agents`` are the rows that were trained.
    """

    source: Mapping[str, Any]
    data: Mapping[str, Mapping[str, Any]]
    schedule: str
    agents: tuple[str, ...]
    values: Mapping[Key, Mapping[int, float]]
    made: Mapping[str, str]

    @property
    def seeds(self) -> int:
        """The smallest number of seeds of a trained row."""
        return min(len(seeds) for (_, row, _), seeds in self.values.items() if row in self.agents)

    @property
    def name(self) -> str:
        """Source, schedule and seeds, in words."""
        return f"{self.source['name']}, schedule {self.schedule}, {self.seeds} seed{'s' * (self.seeds > 1)}"


def scores_of(where: Sequence[str | Path]) -> Scores:
    """Read the values of finished and evaluated runs.

    Raises
    ------
    UserError
        There is none, one is not finished or not evaluated, or the runs are not one source and schedule, each once.
    """
    values: dict[Key, dict[int, float]] = {}
    known: dict[str, dict[str, Any]] = {"source": {}, "schedule": {}, "data": {}}
    made: dict[str, set[str]] = {"commit": set(), "version": set()}
    agents: list[str] = []
    for folder in find_runs(where):
        run, summary, config = _read(folder)
        table, agent, seed = run["data"], run["agent"], run["seed"]
        _same(known["source"], "source", without_path(config["source"]), folder)
        _same(known["schedule"], "schedule", run["schedule"], folder)
        _same(known["data"], table, {**config["data"], "sha256": run["data_checksum"]}, folder)
        made["commit"].add(str(run.get("git_commit")))
        made["version"].add(str(run.get("versions", {}).get("perturbrl")))
        agents += [agent] if agent not in agents else []
        for row, metric, value in _cells(summary):
            seeds = values.setdefault((table, agent if row == "policy" else row, metric), {})
            if row == "policy" and seed in seeds:
                raise UserError(f"{folder}: a second run of {agent} on {table} with seed {seed}; give one sweep")
            seeds[seed] = value
    if not values:
        raise UserError(f"{', '.join(map(str, where))}: no finished run of Tables I-III is there")
    return Scores(
        known["source"]["source"],
        known["data"],
        known["schedule"]["schedule"],
        tuple(sorted(agents)),
        values,
        {key: ", ".join(sorted(texts)) for key, texts in made.items()},
    )


def write(scores: Scores, file: Path) -> Scores:
    """Write a reference, with the processor and the date of today, and return it as it will be read.

    Raises
    ------
    UserError
        A row has fewer than three seeds.
    """
    if scores.seeds < FEWEST_SEEDS:
        raise UserError(
            f"--reference {file}: {scores.name}; a reference needs {FEWEST_SEEDS} seeds or more of each agent"
        )
    made = {**scores.made, "processor": processor(), "date": time.strftime("%Y-%m-%d")}
    head = {
        "format": FORMAT,
        "source": scores.source,
        "schedule": scores.schedule,
        "data": scores.data,
        "agents": scores.agents,
        "made": made,
    }
    lines = [
        json.dumps([*key, {str(seed): _short(value) for seed, value in sorted(seeds.items())}], allow_nan=False)
        for key, seeds in sorted(scores.values.items())
    ]
    text = json.dumps(head, indent=1, sort_keys=True)[:-2]
    write_text(file, text + ',\n "values": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n")
    return read(file)


def read(file: Path) -> Scores:
    """Read a reference.

    Raises
    ------
    UserError
        The file is missing or is no reference.
    """
    content = read_json(file)
    try:
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, {FORMAT} was expected")
        values = {
            (table, row, metric): {int(seed): math.nan if v is None else float(v) for seed, v in seeds.items()}
            for table, row, metric, seeds in content["values"]
        }
        agents = tuple(content["agents"])
        return Scores(content["source"], content["data"], content["schedule"], agents, values, content["made"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file}: is no reference ({error}); {HOW_TO_MAKE}") from None


def shipped() -> list[Scores]:
    """Return the references of the package."""
    folder = Path(str(package_files("perturbrl.report"))) / "references"
    return [read(file) for file in sorted(folder.glob("*.json"))]


def find(
    source: Mapping[str, Any], data: Mapping[str, Mapping[str, Any]], schedule: str, among: Sequence[Scores]
) -> Scores:
    """Return the reference of these cells and this schedule.

    Parameters
    ----------
    source
        Settings ``source.*``; ``path`` is not compared.
    data
        Settings ``data.*`` of each table that will be made, with ``sha256`` where the cells are known already.
    schedule
        Name of the schedule.
    among
        References to choose from.

    Raises
    ------
    UserError
        None fits; the message says in what the nearest one differs.
    """
    reasons = []
    for reference in among:
        different = list(_differences(source, data, schedule, reference))
        if not different:
            return reference
        other = source["name"] != reference.source["name"]  # so its settings were not even compared
        reasons.append((other, len(different), f"{reference.name}, differs in {different[0]}"))
    nearest = f"the nearest is {min(reasons)[-1]}" if reasons else "there is none"
    wanted = f"{source['name']}, schedule {schedule}"
    raise UserError(f"--check: no reference for {wanted}: {nearest}; {HOW_TO_MAKE}, then --check --reference FILE")


def without_path(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a source that its cells depend on."""
    return {key: value for key, value in settings.items() if key not in NOT_OF_THE_CELLS}


def _differences(
    source: Mapping[str, Any], data: Mapping[str, Mapping[str, Any]], schedule: str, reference: Scores
) -> Iterator[str]:
    """Yield the settings that differ; a setting that the reference lacks is newer, and judged by the values."""
    if source["name"] != reference.source["name"]:
        yield f"source: {source['name']}"
    elif schedule != reference.schedule:
        yield f"schedule: {schedule}"
    yield from (f"source.{text}" for text in _changed(source, reference.source))
    for table, settings in data.items():
        if table not in reference.data:
            yield f"data: it has no {table}"
        else:
            yield from (f"data.{text}" for text in _changed(settings, reference.data[table]))


def _changed(settings: Mapping[str, Any], stored: Mapping[str, Any]) -> Iterator[str]:
    for key, value in stored.items():
        if key in settings and settings[key] != value and key != "name":
            here, there = (str(v)[:12] if key == "sha256" else v for v in (settings[key], value))
            yield f"{key}: {here}, the reference has {there}"


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return ``run.json``, the summary of the evaluation and the config of a run of Tables I-III."""
    try:
        run, summary = run_files.run_json(folder), run_files.summary(folder)
        config = yaml.safe_load((folder / paths.CONFIG).read_text(encoding="utf-8"))
        if summary["protocol"] != "paper":
            raise UserError(f"{folder}: protocol {summary['protocol']}, and a reference is of Tables I-III (paper)")
        return run, summary, {"source": config["source"], "data": config["data"]}
    except LeftOut as error:
        raise UserError(f"{folder}: {error}") from None
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"{folder}: is not a whole run ({error})") from None


def _cells(summary: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    for row, cells in summary["rows"].items():
        for metric in PAPER_COLUMNS:
            value = cells.get(metric)
            yield row, metric, math.nan if value is None else float(value)


def _same(known: dict[str, Any], key: str, value: Any, folder: Path) -> None:
    if known.setdefault(key, value) != value:
        raise UserError(f"{folder}: another {key} than the runs before it; give the runs of one source and schedule")


def _short(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
