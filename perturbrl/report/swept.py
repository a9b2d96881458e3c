"""One figure for each number that a sweep varied: the score of every agent against it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from perturbrl.metrics_info import PAPER_COLUMNS
from perturbrl.report import layout, style
from perturbrl.report.fates import FateTable
from perturbrl.report.held_out import HeldOutTable
from perturbrl.report.layout import Drawn
from perturbrl.report.paper import PaperTable
from perturbrl.report.recorded import Settings, part_of, short_key
from perturbrl.report.table import Row, Table
from perturbrl.run_dirs import Labels
from perturbrl.stats import Interval

LOG_FROM = 8  # ratio of the largest to the smallest value from which the axis is logarithmic
MOST_LINES = 18  # of a figure that can be read


@dataclass(frozen=True)
class Panel:
    """One score: its column in the units of a row, what the axis says, and a level that is marked by a line."""

    column: str
    title: str
    level: float | None = None


PAPER_PANELS = (
    Panel("mse", f"{PAPER_COLUMNS['mse'].title}, released metric"),
    Panel("return_gain", "Return gain over doing nothing", 0.0),
)


FATE_PANELS = (
    Panel("regret", "Regret: the optimum's return minus the policy's", 0.0),
    Panel("success_rate", "Share of episodes that reach the target"),
)


@dataclass(frozen=True)
class Series:
    """One agent on one task: its score at each value of the number that was varied."""

    agent: str
    name: tuple[str, ...]
    points: dict[float, Row] = field(default_factory=dict)


def figures(
    papers: Sequence[PaperTable],
    held_out: Sequence[HeldOutTable],
    fates: Sequence[FateTable],
    differing: Mapping[str, Settings],
    folder: Path,
) -> list[style.Picture]:
    """Draw the figures into ``folder`` as ``swept-<setting>.png`` and ``.svg``; none where no number was varied."""
    makers = {}
    kinds: tuple[tuple[str, Sequence[Table[Any]]], ...] = (("", papers), ("held-out-", held_out), ("fates-", fates))
    for kind, tables in kinds:
        for key in numbers(differing):
            found = series(tables, key, differing)
            if found and len(found) <= MOST_LINES:
                panels = {"": PAPER_PANELS, "fates-": FATE_PANELS}.get(kind) or _held_out_panels(held_out)
                makers[kind + re.sub(r"[^\w.-]", "_", key)] = partial(_draw, found, key, panels)
    return style.draw(makers, folder / "swept")


def numbers(differing: Mapping[str, Settings]) -> list[str]:
    """Return the settings that runs differ in and that are numbers; seeds are units of replication, not settings."""
    keys = sorted({key for settings in differing.values() for key in settings})
    seen: set[str] = set()
    out = []
    for key in keys:
        values = [_number(settings[key]) if key in settings else None for settings in differing.values()]
        numeric = all(_number(s[key]) is not None for s in differing.values() if key in s)
        if numeric and not key.startswith("evaluation.") and not key.endswith("seed") and str(values) not in seen:
            seen.add(str(values))
            out.append(key)
    return out


def series(tables: Sequence[Table[Any]], key: str, differing: Mapping[str, Settings]) -> list[Series]:
    """Return the lines of the figure for the setting ``key``: those with two values of it or more."""
    found: dict[tuple[str, ...], Series] = {}
    for table in tables:
        labels = dict(zip(table.runs["run"], table.runs["labels"], strict=True))
        schedules = dict(zip(table.runs["run"], table.runs["schedule"], strict=True))
        for row in table.agents:
            run = row.runs[0][0]
            x = _number(differing.get(run, {}).get(key))
            if x is not None and row.n:
                name = (*_without(labels[run], key), str(schedules[run]))
                found.setdefault(name, Series(row.agent, name)).points[x] = row
    return [one for one in found.values() if len(one.points) > 1]


def _without(labels: Labels, key: str) -> tuple[str, str, str, str]:
    short = short_key(part_of(key), key)
    parts = {"agent": labels.agent, "task": labels.task, "cells": labels.cells}
    agent, task, cells = (str(v.without(short) if k == part_of(key) else v) for k, v in parts.items())
    return agent, task, cells, labels.name


def _number(value: object) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(str(value))
    except ValueError:
        return None


def _held_out_panels(tables: Sequence[HeldOutTable]) -> tuple[Panel, ...]:
    metric = tables[0].primary
    return (
        Panel(metric.name, metric.title),
        Panel(f"calibrated/{metric.name}", f"{metric.title}, calibrated", 0.0),
    )


def _draw(found: Sequence[Series], key: str, panels: Sequence[Panel]) -> Drawn | None:
    panels = [p for p in panels if any(row.cell(p.column).n for one in found for row in one.points.values())]
    if not panels:
        return None
    shown = [k for k in range(1, len(found[0].name)) if len({one.name[k] for one in found}) > 1]
    names = [" · ".join([one.name[0], *(one.name[k] for k in shown)]) for one in found]
    looks = style.styles([(one.agent, name) for one, name in zip(found, names, strict=True)])
    handles = [
        layout.key(name, color=look["color"], ls=look["dash"], marker=look["marker"], lw=2)
        for name, look in zip(names, looks, strict=True)
    ]
    figure, axes = layout.panels(1, len(panels), (4.9, 3.2), handles, left=0.8)
    every = [x for one in found for x in one.points]
    for ax, panel in zip(axes, panels, strict=True):
        for one, look in zip(found, looks, strict=True):
            xs = sorted(x for x, row in one.points.items() if row.cell(panel.column).n)
            cells: list[Interval] = [one.points[x].cell(panel.column) for x in xs]
            half = [cell.half or 0.0 for cell in cells]
            line = {"color": look["color"], "ls": look["dash"], "marker": look["marker"], "ms": 6, "lw": 2}
            ax.errorbar(xs, [cell.mean for cell in cells], yerr=half, elinewidth=1.4, capsize=3, **line)
        if panel.level is not None:
            ax.axhline(panel.level, color=style.MUTED, lw=1.2, zorder=1)
        layout.ticks_at(ax, every, log=min(every) > 0 and max(every) >= LOG_FROM * min(every))
        layout.widen(ax)
        layout.name(ax, panel.title, x=key)
    caption = "Mean over units of replication; bar: 95 % t interval, where there are two or more."
    if panels[-1].column.startswith("calibrated/"):
        caption += " Calibrated: 0 is the training mean, 1 a replicate of the experiment."
    return Drawn(figure, f"Score against {key}", caption)
