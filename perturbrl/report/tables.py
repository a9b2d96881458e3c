"""Tables I (joint), II (RNA) and III (ATAC), a set for each data set: floors, agents, the published numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from perturbrl.report import published
from perturbrl.report.collect import Collection
from perturbrl.report.names import (
    COLUMNS,
    DASH,
    METRICS,
    TABLE_NUMBER,
    agent_order,
    data_order,
    natural,
    row_order,
    slug,
)
from perturbrl.stats import Interval, mean_interval

NOTE = (
    "Reproduction of the published computation; not a measure of prediction. Weighted recall equals accuracy, and the "
    "protocol rewards not moving: doing nothing is perfect in all ten columns."
)
KEY = ("name", "cells", "task", "schedule", "preset")
NO_MATTER = ("protocol.return_episodes=", "protocol.search_episodes=", "protocol.seed=")  # to the ten metrics


@dataclass(frozen=True)
class Row:
    """One row of a table: mean and interval over seeds of each column, and what was published for that agent.

    ``agent`` is empty for a row that no training made. ``n`` seeds finished, of ``n + diverged``. ``per_seed`` has
    the finished seeds as index and ``COLUMNS`` as columns; ``runs`` are (directory, seed, status) of all.
    """

    label: str
    agent: str
    cells: dict[str, Interval]
    per_seed: pd.DataFrame
    diverged: int
    steps: tuple[int, ...]
    published: dict[str, float]
    later: dict[str, float]
    runs: tuple[tuple[str, int, str], ...] = ()

    @property
    def n(self) -> int:
        """Number of seeds that finished."""
        return len(self.per_seed)

    @property
    def mark(self) -> str:
        """``diverged (k of n seeds)``, or nothing."""
        return f"diverged ({self.diverged} of {self.n + self.diverged} seeds)" if self.diverged else ""

    def difference(self, metric: str) -> float | None:
        """Mean over our seeds minus the published value; ``None`` where either is missing."""
        mean = self.cells[metric].mean
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


@dataclass(frozen=True)
class Table:
    """One table: ``runs`` that share name, cells, data, task, schedule, preset and settings, spelled in ``parts``."""

    title: str
    slug: str
    source: str
    data: str
    rows: tuple[Row, ...]
    footer: tuple[str, ...]
    runs: pd.DataFrame
    parts: tuple[str, ...]

    @property
    def agents(self) -> tuple[Row, ...]:
        """The rows of trained agents."""
        return tuple(row for row in self.rows if row.agent)

    @property
    def floors(self) -> tuple[Row, ...]:
        """The rows that no training made; do_nothing first."""
        return tuple(row for row in self.rows if not row.agent)

    @property
    def within(self) -> Within:
        """The count of cells close to the published ones, over the agents present."""
        rows = [row for row in self.agents if any(row.difference(m) is not None for m in METRICS)]
        gaps = [abs(gap) for row in rows for m in METRICS if (gap := row.difference(m)) is not None]
        return Within(len(gaps), _up_to(gaps, 0.05), _up_to(gaps, 0.10), tuple(row.label for row in rows))


def build_tables(collection: Collection) -> list[Table]:
    """Make one table for each group of runs that share everything but agent and seed; joint, RNA, ATAC, others.

    Runs evaluated with other settings (``n_cells=all``) are another group: their numbers are not averaged together.
    """
    tables = []
    frames = dict(iter(collection.frame.groupby("run", sort=False)))
    for key, alike in collection.paper.groupby(list(KEY), sort=True):
        named = dict(zip(KEY, key, strict=True))
        settings = alike["settings"]
        usual = settings[settings != ""].mode()  # a run that diverged may never have been evaluated
        settings = settings.mask(settings == "", usual.iloc[0]) if len(usual) else settings
        for setting, runs in alike.groupby(settings, sort=True):
            named["settings"] = str(setting) if settings.nunique() > 1 else ""  # in the title where it tells apart
            tables.append(_table(named, runs, pd.concat([frames[run] for run in runs["run"]])))
    tables.sort(key=_order)
    slugs = [table.slug for table in tables]
    return [
        replace(table, slug=f"{table.slug}-{k}") if slugs.count(table.slug) > 1 else table
        for k, table in enumerate(tables)
    ]


def _comparable(runs: pd.DataFrame) -> bool:
    """Whether published values may stand beside these runs: the released task as it is, under the released protocol."""
    first = runs.iloc[0]
    changed = [part for part in str(first["task"]).split(",")[1:] if not part.startswith(NO_MATTER)]
    return first["env"] == "paper" and not changed and set(runs["protocol"]) <= {"paper", ""}


def _table(key: dict[str, str], runs: pd.DataFrame, frame: pd.DataFrame) -> Table:
    first = runs.iloc[0]
    source, data = str(first["source"]), str(first["data"])
    comparable = _comparable(runs)
    wide = frame.pivot_table(index=["run", "row"], columns="metric", values="value", dropna=False, sort=False)
    wide = wide.reindex(columns=list(COLUMNS)).reset_index("row").join(runs.set_index("run")[["seed", "status"]])
    rows = [_floor(str(name), part) for name, part in wide[wide["row"] != "policy"].groupby("row")]
    rows.sort(key=lambda row: row_order(row.label))
    policies = wide[wide["row"] == "policy"]
    agents = []
    for (agent, label, policy), mine in runs.groupby(["agent", "label", "policy"]):
        several = runs.loc[runs["label"] == label, "policy"].nunique() > 1
        shown = f"{label} [{policy}]" if several else str(label)
        agents.append(_agent(str(agent), shown, policies.loc[mine["run"]], mine, data, comparable))
    agents.sort(key=lambda row: agent_order(row.agent, row.label))
    number = TABLE_NUMBER.get(data) if comparable else None
    title = f"Table {number} ({data})" if number else f"Table ({data})"
    details = [key["cells"]] if key["cells"] != f"{source}-{data}" else [source]
    details += [part for part in (key["task"] if key["task"] != "paper" else "", key["name"]) if part]
    details += key["settings"].split(",") if key["settings"] else []
    footer = _footer(runs, agents, rows)
    return Table(
        f"{title}: {' · '.join(details)}",
        slug(key.values()),
        source,
        data,
        (*rows, *agents),
        footer,
        runs,
        (data, *key.values()),
    )


def _floor(label: str, part: pd.DataFrame) -> Row:
    # a run of each agent repeats the floors of its seed: one number a seed
    per_seed = part.groupby("seed")[list(COLUMNS)].mean()
    return Row(label, "", _cells(per_seed), per_seed, 0, (), {}, {})


def _agent(agent: str, label: str, part: pd.DataFrame, runs: pd.DataFrame, data: str, comparable: bool) -> Row:
    finished = part[part["status"] == "complete"]
    per_seed = finished.set_index("seed")[list(COLUMNS)].sort_index()
    steps = tuple(sorted({int(s) for s in runs.loc[runs["status"] == "complete", "steps"]}))
    theirs = published.values(data, agent) if comparable else {}
    later = published.values(data, agent, later=True) if comparable and set(runs["schedule"]) == {"equal"} else {}
    members = tuple(zip(runs["run"], (int(seed) for seed in runs["seed"]), runs["status"], strict=True))
    return Row(label, agent, _cells(per_seed), per_seed, len(part) - len(finished), steps, theirs, later, members)


def _cells(per_seed: pd.DataFrame) -> dict[str, Interval]:
    return {metric: mean_interval(per_seed[metric]) for metric in COLUMNS}


def _footer(runs: pd.DataFrame, agents: Sequence[Row], floors: Sequence[Row]) -> tuple[str, ...]:
    leaks = sorted({leak for run in runs["leaks"] for leak in run})
    steps = "; ".join(f"{row.label} {_span(row.steps)}" for row in agents)
    counts = {row.n for row in agents}
    interval = "mean ± half-width of the 95 % t interval over seeds"
    if counts <= {0, 1}:
        interval = "one seed: no interval"
    elif 1 in counts:
        interval += "; where one seed only: no interval"
    seeds = sorted({int(seed) for seed in runs["seed"]})
    code = _listed(f"{v} {c[:10]}".strip() for v, c in zip(runs["version"], runs["git_commit"], strict=True))
    n_cells, n_features = (_listed(runs[column].dropna()) for column in ("n_cells", "n_features"))
    lines = [
        f"Data: {_listed(runs['cells'])}, {n_features} features; protocol {_listed(runs['protocol'])}, "
        f"n = {n_cells} test cells. Task: {_listed(runs['task'])}.",
        f"Evaluation: {_listed(runs['settings'])}.",
        f"Schedule: {_listed(runs['schedule'])}; preset: {_listed(runs['preset'])}. Steps: {steps}.",
        f"Seeds: {len(seeds)} ({_ranges(seeds)}); {interval}.",
        f"Leaks: {'; '.join(leaks)}." if leaks else "Leaks: none.",
        NOTE,
    ]
    if repeated := [row.label for row in agents if row.per_seed.index.has_duplicates]:
        lines.append(f"Some seeds occur twice and count as two runs: {', '.join(repeated)}.")
    for row in agents:
        if row.diverged:
            lines.append(f"{row.label}: {row.mark}; a diverged seed has no number: the row is the mean of the others.")
    if not any(row.label == "do_nothing" for row in floors):
        lines.append("No do_nothing row: these runs were evaluated without floors.")
    return (*lines, f"Code: perturbrl {code}.") if code != "not said" else tuple(lines)


def _up_to(gaps: Iterable[float], limit: float) -> int:
    return sum(gap <= limit + 1e-12 for gap in gaps)


def _span(steps: tuple[int, ...]) -> str:
    if not steps:
        return "none finished"
    return f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,} (differ between seeds)"


def _ranges(seeds: Sequence[int]) -> str:
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(str(p[0]) if len(p) == 1 else f"{p[0]}{DASH}{p[-1]}" for p in parts)


def _listed(values: Iterable[Any]) -> str:
    def spell(value: Any) -> str:
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

    return ", ".join(sorted({spell(v) for v in values if spell(v)})) or "not said"


def _order(table: Table) -> tuple[Any, ...]:
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
