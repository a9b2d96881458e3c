"""Tables I (joint), II (RNA) and III (ATAC), a set for each data set: floors, agents, the published numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from perturbrl.metrics_info import PAPER, PAPER_COLUMNS, PAPER_TASK
from perturbrl.report import missing, published, published_optimizers
from perturbrl.report.collect import Collection
from perturbrl.report.paper_notes import DO_NOTHING as DO_NOTHING
from perturbrl.report.paper_notes import NOT_COMPARED, footer
from perturbrl.report.paper_notes import NOTE as NOTE
from perturbrl.report.table import Cell, Grid, Line, Row, Section, Table, agent_groups, groups, members
from perturbrl.report.text import natural, slug, spell

KEY = ("name", "cells", "task", "schedule", "preset")
COLUMNS = list(PAPER_COLUMNS)
DATA_ORDER = ("joint", "rna", "atac", "cite")
PUBLISHED, DIFFERENCE, LATER = "published", "difference", "published, equal budgets"
VALUES = (
    *("row", "kind", "seeds", "diverged", "metric", "mean", "low", "high"),
    *("published", "difference", "published_equal_budgets"),
)


@dataclass(frozen=True, eq=False)
class PaperRow(Row):
    """A row whose units are the seeds that finished; ``published`` and ``later`` are the paper's numbers beside it."""

    steps: tuple[int, ...] = ()
    published: Mapping[str, float] = field(default_factory=dict)
    later: Mapping[str, float] = field(default_factory=dict)

    def difference(self, metric: str) -> float | None:
        """Mean over our seeds minus the published value; ``None`` where either is missing."""
        mean = self.cell(metric).mean
        return mean - self.published[metric] if metric in self.published and mean == mean else None


@dataclass(frozen=True)
class Within:
    """How many of the compared published cells ours lies close to. Counted, never tuned."""

    cells: int
    by_005: int
    by_010: int
    agents: tuple[str, ...]

    def __str__(self) -> str:
        """Spell the count as one sentence."""
        if not self.cells:
            return "No published cells to compare with."
        return (
            f"Of {self.cells} published cells ({', '.join(self.agents)}), ours lies within 0.05 of {self.by_005} "
            f"and within 0.10 of {self.by_010}."
        )


@dataclass(frozen=True, eq=False)
class PaperTable(Table[PaperRow]):
    """Runs that share name, cells, data, task, schedule, preset and settings, spelled in ``parts``."""

    source: str
    data: str
    footer: tuple[str, ...]
    parts: tuple[str, ...]

    @property
    def floors(self) -> tuple[PaperRow, ...]:
        """The rows that no training made."""
        return tuple(row for row in self.rows if not row.agent)

    @property
    def within(self) -> Within:
        """Count the published cells that ours lies close to."""
        gaps = {row.label: [abs(d) for m in PAPER if (d := row.difference(m)) is not None] for row in self.agents}
        every = [gap for row in gaps.values() for gap in row]
        by_005, by_010 = (sum(gap <= limit + 1e-12 for gap in every) for limit in (0.05, 0.10))
        return Within(len(every), by_005, by_010, tuple(label for label, row in gaps.items() if row))


def build_tables(collection: Collection) -> list[PaperTable]:
    """Make one table for each group of runs that differ in nothing but agent and seed."""
    frames = dict(iter(collection.frame.groupby("run", sort=False)))
    keyed = groups(collection.paper, KEY)
    tables = [_table(key, runs, pd.concat([frames[run] for run in runs["run"]])) for key, runs in keyed]
    tables = missing.count_missing(tables, (item.run for item in collection.incomplete))
    tables.sort(key=_order)
    slugs = [table.slug for table in tables]
    return [
        replace(table, slug=f"{table.slug}-{k}") if slugs.count(table.slug) > 1 else table
        for k, table in enumerate(tables)
    ]


def data_order(data: str) -> int:
    """Place of a kind of data among the tables: joint, rna, atac, cite, then the rest."""
    return DATA_ORDER.index(data) if data in DATA_ORDER else len(DATA_ORDER)


def section(table: PaperTable) -> Section:
    """Return what is printed of a table."""
    grid = Grid(
        "",
        tuple(info.title for info in PAPER_COLUMNS.values()),
        tuple(_lines(table)),
        spans=(("released metrics", len(PAPER)), ("what they leave out", len(PAPER_TASK))),
    )
    return Section(
        table.title,
        table.slug,
        (grid, *published_optimizers.grids(table.runs)),
        tuple(_values(table)),
        result=_result(table),
        notes=(*table.footer, *missing.notes(table)),
    )


def _result(table: PaperTable) -> str:
    """Return how close the published cells are; where there are none because of the cells, that this is why."""
    other_cells = not table.runs["beside_published"].all() and published.values(table.data, published.PROPOSED)
    return str(table.within) if table.within.cells or not other_cells else NOT_COMPARED


def _lines(table: PaperTable) -> Iterator[Line]:
    """Yield the lines of a table: floors, then each agent with the published values and the differences under it."""
    for row in table.rows:
        label = f"{row.label} (floor)" if row.label == DO_NOTHING else row.label
        yield Line(label, row.kind, tuple(_cell(row, m) for m in COLUMNS), row.mark)
        if row.published:
            yield Line(PUBLISHED, "published", tuple(_plain(row.published.get(m), m) for m in COLUMNS))
            yield Line(DIFFERENCE, "difference", tuple(_plain(row.difference(m), m, signed=True) for m in COLUMNS))
        if row.later:
            yield Line(LATER, "later", tuple(_plain(row.later.get(m), m) for m in COLUMNS))


def _cell(row: PaperRow, metric: str) -> Cell:
    interval, info = row.cell(metric), PAPER_COLUMNS[metric]
    constant = interval.half == 0.0 and not row.agent  # a floor that does not depend on the seed
    half = "" if interval.half is None or constant else spell(interval.half, info.digits)
    return Cell(spell(interval.mean, info.digits, signed=metric == "return_gain"), half)


def _plain(value: float | None, metric: str, signed: bool = False) -> Cell:
    return Cell("" if value is None else spell(value, PAPER_COLUMNS[metric].digits, signed=signed))


def _values(table: PaperTable) -> Iterator[tuple[object, ...]]:
    yield VALUES
    for row in table.rows:
        for metric in COLUMNS:
            cell = row.cell(metric)
            theirs = (row.published.get(metric), row.difference(metric), row.later.get(metric))
            yield (row.label, row.kind, row.n, row.diverged, metric, cell.mean, cell.low, cell.high, *theirs)


def _comparable(runs: pd.DataFrame) -> bool:
    """Whether published values may stand beside these runs: the released task as it is, under the released protocol.

    On the study's cells, or where the comparison was asked for (``published.asked_for``).
    """
    usual = set(runs["env"]) == {"paper"} and bool(runs["released"].all()) and set(runs["protocol"]) <= {"paper", ""}
    return usual and bool(runs["beside_published"].all())


def _table(key: dict[str, str], runs: pd.DataFrame, frame: pd.DataFrame) -> PaperTable:
    first = runs.iloc[0]
    source, data = str(first["source"]), str(first["data"])
    comparable = _comparable(runs)
    wide = frame.pivot_table(index=["run", "row"], columns="metric", values="value", dropna=False, sort=False)
    wide = wide.reindex(columns=COLUMNS).reset_index("row").join(runs.set_index("run")[["seed", "status"]])
    rows = [_floor(str(name), part) for name, part in wide[wide["row"] != "policy"].groupby("row")]
    rows.sort(key=_floor_order)
    policies = wide[wide["row"] == "policy"]
    agents = [
        _agent(agent, label, policies.loc[part["run"]], part, data, comparable)
        for agent, label, part in agent_groups(runs)
    ]
    number = published.TABLE_NUMBER.get(data) if comparable else None
    title = f"Table {number} ({data})" if number else f"Table ({data})"
    details = [key["cells"]] if key["cells"] != f"{source}-{data}" else [source]
    details += [part for part in (key["task"] if key["task"] != "paper" else "", key["name"]) if part]
    details += key["settings"].split(",") if key["settings"] else []
    return PaperTable(
        f"{title}: {' · '.join(details)}",
        slug(key.values()),
        (*rows, *agents),
        runs,
        source,
        data,
        footer(runs, agents, rows, {row.label: row.steps for row in agents}),
        (data, *key.values()),
    )


def _floor(label: str, part: pd.DataFrame) -> PaperRow:
    # a run of each agent repeats the floors of its seed: one number a seed
    return PaperRow(label, label, "", "floor", part.groupby("seed")[COLUMNS].mean())


def _floor_order(row: Row) -> tuple[int, str]:
    """Sort key: do_nothing, the random rows, best_constant, then the rest."""
    if row.label.startswith("random"):
        return 1, row.label
    return {DO_NOTHING: 0, "best_constant": 2}.get(row.label, 3), row.label


def _agent(agent: str, label: str, part: pd.DataFrame, runs: pd.DataFrame, data: str, comparable: bool) -> PaperRow:
    complete = part[part["status"] == "complete"]
    diverged = len(part) - len(complete)
    return PaperRow(
        label,
        "policy",
        agent,
        "agent",
        complete.set_index("seed")[COLUMNS].sort_index(),
        members(runs),
        f"diverged ({diverged} of {len(part)} seeds)" if diverged else "",
        steps=tuple(sorted({int(s) for s in runs.loc[runs["status"] == "complete", "steps"]})),
        published=published.values(data, agent) if comparable else {},
        later=published.values(data, agent, later=True) if comparable and set(runs["schedule"]) == {"equal"} else {},
    )


def _order(table: PaperTable) -> tuple[Any, ...]:
    first = table.runs.iloc[0]
    return (
        first["name"],
        table.source != "landscape",
        table.source,
        natural(str(first["task"])),
        first["schedule"],
        first["preset"],
        data_order(table.data),
        table.slug,
    )
