"""From the runs on held-out perturbations to one table for each data set and split.

Letters: U units of replication (splits where several were drawn, else seeds), P test conditions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perturbrl import paths
from perturbrl.report.collect import Collection
from perturbrl.report.counterfactual.names import COLUMNS, ORACLES, PRIMARY, kind, place
from perturbrl.report.names import agent_order, slug
from perturbrl.stats import Interval, mean_interval

PER_PERTURBATION, CHANGES = "per_perturbation.parquet", "changes.parquet"
KEY = ("name", "cells", "task", "schedule", "split")
SILENT = "no_change"
SPENT = ("steps", "wall_seconds", "mean_abs_action")  # of a run that diverged nobody knows


@dataclass(frozen=True)
class Row:
    """One method. ``units`` has one line a unit [U] and a column a metric; ``runs`` (directory, seed, status) of all.

    ``kind`` is agent, floor, simple, other or oracle; ``name`` what the files call it (``policy`` of an agent's runs).
    """

    label: str
    name: str
    agent: str
    kind: str
    units: pd.DataFrame
    coverage: float
    diverged: int = 0
    runs: tuple[tuple[str, int, str], ...] = ()

    def cell(self, metric: str) -> Interval:
        """Mean over units and its t interval; no value where no unit has one."""
        return mean_interval(self.units.get(metric, []))

    @property
    def mark(self) -> str:
        """``diverged (k of n runs)``, or nothing."""
        return f"diverged ({self.diverged} of {len(self.runs)} runs)" if self.diverged else ""


@dataclass(frozen=True)
class Table:
    """One data set and kind of split. ``said`` are the summaries of the runs; ``unit`` maps a run to its unit."""

    title: str
    slug: str
    rows: tuple[Row, ...]
    runs: pd.DataFrame
    said: Mapping[str, Mapping[str, Any]]
    unit: Mapping[str, str]

    @property
    def agents(self) -> tuple[Row, ...]:
        """The rows of trained agents."""
        return tuple(row for row in self.rows if row.agent)

    @property
    def splits(self) -> int:
        """How many different splits these runs were scored on."""
        return len({said["split"]["sha256"] for said in self.said.values()})

    @cached_property
    def declared(self) -> Mapping[str, Any]:
        """What the runs' config declared about claims beforehand; empty if nothing, or not the same for all."""
        found = [said.get("claims") for said in self.said.values()]
        return found[0] if found[0] and all(f == found[0] for f in found) else {}

    @property
    def primary(self) -> str:
        """The metric that claims are about."""
        metric = self.declared.get("metric", PRIMARY)
        return metric if metric in COLUMNS else PRIMARY

    @cached_property
    def conditions(self) -> pd.DataFrame:
        """The primary metric by condition: columns run, unit, row, condition, stratum, effect_size, value.

        Read from per_perturbation.parquet of every run that has one; undefined values as the column says.
        """
        columns = ["row", "condition", "stratum", "effect_size", "value"]
        parts = []
        for run in self.said:
            found = read_columns(Path(run), PER_PERTURBATION, columns, [("metric", "==", self.primary)])
            if found is not None:
                parts.append(found.assign(run=run, unit=self.unit[run]))
        if not parts:
            return pd.DataFrame(columns=["run", "unit", *columns])
        frame = pd.concat(parts, ignore_index=True)
        # conditions that cannot be halved have no oracle; it is not one that scores badly there
        frame = frame[frame["value"].notna() | ~frame["row"].isin(ORACLES)]
        return frame.fillna({"value": COLUMNS[self.primary].undefined})

    def of(self, row: Row) -> pd.DataFrame:
        """Return the lines of ``conditions`` of one row; runs of an agent that diverged count as no change."""
        frame = self.conditions
        if not row.agent:
            return frame[frame["row"] == row.name]
        ended = {status: [run for run, _, s in row.runs if s == status] for status in ("complete", "diverged")}
        own = (frame["row"] == row.name) & frame["run"].isin(ended["complete"])
        return frame[own | ((frame["row"] == SILENT) & frame["run"].isin(ended["diverged"]))]


def gather(collection: Collection) -> list[Table]:
    """Make one table for each group of runs that share data, split rule, task, schedule and settings."""
    runs = collection.counterfactual
    if runs.empty:
        return []
    said = {str(run): _summary(Path(run)) for run in runs["run"]}
    known = {run: s for run, s in said.items() if s}
    kinds = {run: str(s["split"]["kind"]) for run, s in known.items()}
    runs = runs.assign(cells=[re.sub(r",(split\.)?seed=[^,]*", "", str(c)) for c in runs["cells"]])
    runs = runs.assign(split=runs["run"].map(kinds).fillna(""))
    frames = dict(iter(collection.frame.groupby("run", sort=False)))
    tables = []
    for key, alike in runs[runs["split"] != ""].groupby(list(KEY), sort=True):
        named = dict(zip(KEY, (str(k) for k in key), strict=True))
        for setting, those in alike.groupby("settings", sort=True):
            named["settings"] = str(setting) if alike["settings"].nunique() > 1 else ""
            tables.append(_table(named, those, {run: known[run] for run in those["run"]}, frames))
    return tables


def _summary(run: Path) -> dict[str, Any]:
    file = run / paths.EVALUATION / paths.SUMMARY
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return content if isinstance(content.get("split"), dict) else {}


def _table(
    key: dict[str, str],
    runs: pd.DataFrame,
    said: Mapping[str, Mapping[str, Any]],
    frames: Mapping[str, pd.DataFrame],
) -> Table:
    several = len({s["split"]["sha256"] for s in said.values()}) > 1
    unit = {
        r: str(said[r]["split"]["sha256"] if several else seed)
        for r, seed in zip(runs["run"], runs["seed"], strict=True)
    }
    frame = pd.concat([frames[run] for run in runs["run"]])
    frame = frame.assign(unit=frame["run"].map(unit))
    agents = []
    for (agent, label, policy), mine in runs.groupby(["agent", "label", "policy"]):
        shown = f"{label} [{policy}]" if runs.loc[runs["label"] == label, "policy"].nunique() > 1 else str(label)
        part = frame[(frame["row"] == "policy") & frame["run"].isin(mine["run"]) & (frame["status"] == "complete")]
        part = pd.concat([part, _silent(frame[frame["run"].isin(mine["run"]) & (frame["status"] == "diverged")])])
        members = tuple(zip(mine["run"], (int(s) for s in mine["seed"]), mine["status"], strict=True))
        diverged = int((mine["status"] == "diverged").sum())
        agents.append(Row(shown, "policy", str(agent), "agent", _units(part), 1.0, diverged, members))
    agents.sort(key=lambda row: agent_order(row.agent, row.label))
    names = sorted(set(frame["row"]) - {"policy"}, key=place)
    others = [
        Row(name, name, "", kind(name), _units(frame[frame["row"] == name]), _coverage(said, name)) for name in names
    ]
    details = [part for part in (key["cells"], key["split"], key["task"], key["name"], key["settings"]) if part]
    return Table(
        f"Held-out perturbations: {' · '.join(details)}", slug(key.values()), (*others, *agents), runs, said, unit
    )


def _silent(diverged: pd.DataFrame) -> pd.DataFrame:
    """Return what runs that diverged count as: no change, as any prediction that is not finite.

    To leave them out would compare the seeds that went well with a baseline that has no such choice.
    """
    scored = ~diverged["metric"].isin(SPENT)
    return diverged[(diverged["row"] == SILENT) & scored]


def _units(part: pd.DataFrame) -> pd.DataFrame:
    return part.pivot_table(index="unit", columns="metric", values="value", aggfunc="mean")


def _coverage(said: Mapping[str, Mapping[str, Any]], row: str) -> float:
    return float(np.mean([s.get("coverage", {}).get(row, 1.0) for s in said.values()]))


def read_columns(
    run: Path, file: str, columns: list[str], filters: list[tuple[str, str, str]] | None = None
) -> pd.DataFrame | None:
    """Read a table of a run's evaluation; None where there is no readable one with these columns."""
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        return pq.read_table(run / paths.EVALUATION / file, columns=columns, filters=filters).to_pandas()
    except (OSError, ArrowException):
        return None
