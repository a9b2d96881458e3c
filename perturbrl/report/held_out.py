"""One table for each data set and split of held-out perturbations.

Letters: U units of replication (held-out sets where there are several, else seeds), P test conditions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perturbrl import paths
from perturbrl.files import ONE_THREAD
from perturbrl.metrics_info import (
    CONTROL,
    DUPLICATES,
    HELD_OUT,
    PRIMARY,
    Columns,
    MetricInfo,
    columns_of,
    row_info,
    row_place,
)
from perturbrl.report.collect import Collection
from perturbrl.report.declared import declared_late
from perturbrl.report.missing import count_missing
from perturbrl.report.table import Row, Table, agent_groups, groups, members
from perturbrl.report.text import slug
from perturbrl.report.units import PER_PERTURBATION, Units, units

CHANGES = "changes.parquet"
KEY = ("name", "cells", "task", "schedule", "split")
NO_CHANGE = "no_change"
DESIGN = ("n_perturbations", "most_together", "n_training")  # of a summary's header: what ``columns_of`` is asked with
UNKNOWN_IF_DIVERGED = ("steps", "wall_seconds", "mean_abs_action")


@dataclass(frozen=True, eq=False)
class HeldOutTable(Table[Row]):
    """One data set and kind of split. ``summaries`` maps a run to its summary, ``tested`` to what it was tested on."""

    summaries: Mapping[str, Mapping[str, Any]]
    tested: Units

    @property
    def unit(self) -> Mapping[str, str]:
        """The unit of replication of each run."""
        return self.tested.unit

    @property
    def every_row(self) -> tuple[Row, ...]:
        """The rows, and those that were merged because their values are the same."""
        return tuple(each for row in self.rows for each in (row, *row.alike))

    @property
    def splits(self) -> int:
        """How many different sets of test conditions and cells these runs were scored on."""
        return len(set(self.tested.sets.values()))

    @cached_property
    def declared(self) -> Mapping[str, Any]:
        """The claims that the runs' config declared beforehand; empty if none, or not the same for all."""
        first, *others = [summary.get("claims") for summary in self.summaries.values()]
        return first if first and all(claims == first for claims in others) else {}

    @cached_property
    def columns(self) -> Columns:
        """The headline columns that can rank.

        By the design of the screen; without those that have no value, or in which for most runs even the true mean
        scores low: what is emitted from a mean cannot show there how good a prediction is.
        """
        headers = [summary.get("header", {}) for summary in self.summaries.values()]
        design = {key: [header.get(key) for header in headers] for key in DESIGN}
        chosen = columns_of(**{key: None if None in values else min(values) for key, values in design.items()})
        empty = [name for name in chosen.ranking if not any(row.cell(name).n for row in self.rows)]
        low = Counter(name for header in headers for name in header.get("low_ceiling", ()))
        most = [name for name, n in low.items() if 2 * n > len(headers)]
        chosen = chosen.without(empty, "it is undefined for every row")
        return chosen.without(most, "even the true mean, as cells, scores below 0.5")

    @cached_property
    def exploratory(self) -> str:
        """Why claims of this table are exploratory, empty where they were declared before training."""
        if not self.declared.get("agents"):
            return "the claims were not declared before training"
        late = sum(declared_late(Path(run), summary) for run, summary in self.summaries.items())
        return f"the claims of {late} of {len(self.summaries)} runs were declared after training" if late else ""

    @property
    def primary(self) -> MetricInfo:
        """The metric that claims are about: the declared one, or the first that can rank where that cannot."""
        declared = self.declared.get("metric", PRIMARY)
        return self.columns.primary(declared if declared in HELD_OUT else PRIMARY)

    @cached_property
    def conditions(self) -> pd.DataFrame:
        """The primary metric by condition; columns as of ``scores``."""
        return self._by_metric.get(self.primary.name, self.scores.iloc[:0])

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Metrics by condition: columns run, unit, row, condition, stratum, effect_size, metric, value.

        The headline metrics and the primary one, from per_perturbation.parquet of every run that has one; undefined
        values as the metric defines them.
        """
        columns = ["row", "condition", "stratum", "effect_size", "metric", "value"]
        metrics = sorted({*self.columns.ranking, self.primary.name})
        parts = []
        for run in self.summaries:
            part = read_columns(Path(run), PER_PERTURBATION, columns, [("metric", "in", metrics)])
            if part is not None:
                parts.append(part.assign(run=run, unit=self.unit[run]))
        if not parts:
            return pd.DataFrame(columns=["run", "unit", *columns])
        frame = pd.concat(parts, ignore_index=True)
        # conditions that cannot be halved have no oracle; it is not one that scores badly there
        frame = frame[frame["value"].notna() | ~frame["row"].isin(DUPLICATES)]
        undefined = {name: info.undefined for name, info in HELD_OUT.items()}
        return frame.assign(value=frame["value"].fillna(frame["metric"].map(undefined)))

    @cached_property
    def _by_metric(self) -> dict[str, pd.DataFrame]:
        return {str(metric): part for metric, part in self.scores.groupby("metric", sort=False)}

    def of(self, row: Row, metric: str = "") -> pd.DataFrame:
        """Return the scores of one row (the primary metric, or another); runs that diverged count as no change."""
        frame = self._by_metric.get(metric, self.scores.iloc[:0]) if metric else self.conditions
        if not row.agent:
            return frame[frame["row"] == row.name]
        ended = {status: [run for run, _, s in row.runs if s == status] for status in ("complete", "diverged")}
        complete = (frame["row"] == row.name) & frame["run"].isin(ended["complete"])
        return frame[complete | ((frame["row"] == NO_CHANGE) & frame["run"].isin(ended["diverged"]))]


def title(row: Row) -> str:
    """Return the name of a row in figures and sentences; of a merged row the first, and how many are like it."""
    if row.agent:
        return row.label
    others = f" (and {len(row.alike)} like it)" if row.alike else ""
    return f"{row_info(row.name).title}{others}"


def full_title(row: Row) -> str:
    """Return the name of a row in tables: coverage, and of a merged row all names if they are few."""
    if row.agent:
        return row.label
    return " = ".join(names_of(row)) if len(row.alike) < 3 else title(row)


def names_of(row: Row) -> list[str]:
    """Return all names of a row that no training made, each with its coverage."""
    return [f"{row_info(each.name).title}{_coverage(each)}" for each in (row, *row.alike)]


def _coverage(row: Row) -> str:
    return f" [{100 * row.coverage:.0f} %]" if row.coverage < 1 else ""


def gather(collection: Collection) -> list[HeldOutTable]:
    """Make one table for each group of runs that share data, kind of split, task, schedule and settings.

    The seed of a split is no part of the group: splits drawn anew are units of replication.
    """
    summaries = {run: s for run, s in collection.summaries.items() if isinstance(s.get("split"), dict)}
    runs = collection.counterfactual
    runs = runs[runs["run"].isin(list(summaries))]
    if runs.empty:
        return []
    runs = runs.assign(
        cells=[str(labels.cells.without("seed", "split.seed")) for labels in runs["labels"]],
        split=[str(summaries[run]["split"]["kind"]) for run in runs["run"]],
    )
    frames = dict(iter(collection.frame.groupby("run", sort=False)))
    tables = [
        _table(key, alike, {run: summaries[run] for run in alike["run"]}, pd.concat([frames[r] for r in alike["run"]]))
        for key, alike in groups(runs, KEY)
    ]
    unscored = set(collection.summaries) - set(summaries)  # diverged, and never evaluated
    without = [*(item.run for item in collection.incomplete), *map(Path, sorted(unscored))]
    return count_missing(tables, without, held_out=True)


def _table(
    key: Mapping[str, str], runs: pd.DataFrame, summaries: Mapping[str, Mapping[str, Any]], frame: pd.DataFrame
) -> HeldOutTable:
    seeds = {run: str(seed) for run, seed in zip(runs["run"], runs["seed"], strict=True)}
    tested = units(summaries, seeds)
    frame = frame.assign(unit=frame["run"].map(tested.unit))
    agents = [_agent(agent, label, part, frame) for agent, label, part in agent_groups(runs)]
    others = []
    for name in sorted(set(frame["row"]) - {"policy"}, key=row_place):
        coverage = float(np.mean([summary.get("coverage", {}).get(name, 1.0) for summary in summaries.values()]))
        values = _units(frame[frame["row"] == name])
        others.append(Row(name, name, "", row_info(name).kind, values, coverage=coverage))
    details = [part for part in (key["cells"], key["split"], key["task"], key["name"], key["settings"]) if part]
    title = f"Held-out perturbations: {' · '.join(details)}"
    return HeldOutTable(title, slug(key.values()), (*_merged(others), *agents), runs, summaries, tested)


def _merged(rows: Sequence[Row]) -> list[Row]:
    """Merge rows with the same values: baselines that cannot differ on a screen, such as one with one perturbation.

    A merged row has the name and kind of its first simple baseline, if it has one: claims are made against those.
    """
    alike: list[list[Row]] = []
    for row in rows:
        same = next((group for group in alike if _equal(group[0], row)), None)
        if same is None:
            alike.append([row])
        else:
            same.append(row)
    merged = []
    for group in alike:
        first = next((row for row in group if row.kind == "simple"), group[0])
        merged.append(replace(first, alike=tuple(row for row in group if row is not first)))
    return merged


def _equal(a: Row, b: Row) -> bool:
    """Whether two rows, no oracles, have the same values, up to rounding, in every unit and metric of predictions."""
    if "oracle" in (a.kind, b.kind):
        return False
    x, y = (row.units.drop(columns=[c for c in CONTROL if c in row.units]) for row in (a, b))
    same = x.columns.equals(y.columns) and x.index.equals(y.index)
    return same and bool(np.allclose(x.to_numpy(), y.to_numpy(), rtol=1e-6, atol=1e-9, equal_nan=True))


def _agent(agent: str, label: str, runs: pd.DataFrame, frame: pd.DataFrame) -> Row:
    """Return the row of an agent; a run that diverged counts as no change, as any prediction that is not finite.

    To leave those out would compare the seeds that finished with a baseline that has no such choice.
    """
    frame = frame[frame["run"].isin(runs["run"])]
    complete = (frame["row"] == "policy") & (frame["status"] == "complete")
    replaced = (frame["row"] == NO_CHANGE) & (frame["status"] == "diverged")
    scored = ~frame["metric"].isin(UNKNOWN_IF_DIVERGED)
    diverged = int((runs["status"] == "diverged").sum())
    mark = f"diverged ({diverged} of {len(runs)} runs)" if diverged else ""
    values = _units(pd.concat([frame[complete], frame[replaced & scored]]))
    return Row(label, "policy", agent, "agent", values, members(runs), mark)


def _units(part: pd.DataFrame) -> pd.DataFrame:
    return part.pivot_table(index="unit", columns="metric", values="value", aggfunc="mean")


def read_columns(
    run: Path, file: str, columns: list[str], filters: list[tuple[str, str, Any]] | None = None
) -> pd.DataFrame | None:
    """Read a table of a run's evaluation; None where there is no readable one with these columns."""
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        return pq.read_table(run / paths.EVALUATION / file, columns=columns, filters=filters, **ONE_THREAD).to_pandas()
    except (OSError, ArrowException):
        return None
