"""Figures of one table: learning curves, every metric against training steps, and the metric against the true task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from perturbrl.metrics_info import PAPER_COLUMNS
from perturbrl.report import curves, layout, published, style
from perturbrl.report.layout import Drawn
from perturbrl.report.lines import CAPTION, Arm, Panel, last_steps, learning_curves, level, lines, steps_axis
from perturbrl.report.paper import PaperRow, PaperTable
from perturbrl.report.text import spell

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FLOOR_MARKERS = ("*", "x", "+", "1", "2", "3", "4")


@dataclass(frozen=True)
class _Arm(Arm):
    row: PaperRow


def draw(table: PaperTable, folder: Path) -> list[style.Picture]:
    """Draw the figures of a table that have data into ``folder``, as ``<slug>-<figure>.png`` and ``.svg``."""
    looks = style.styles([(row.agent, row.label) for row in table.agents])
    arms = [_Arm(row.label, look, curves.of_runs(row.runs), row) for row, look in zip(table.agents, looks, strict=True)]
    makers = {"return": _learning, "metrics": _metrics, "disagreement": _disagreement}
    return style.draw({name: partial(make, table, arms) for name, make in makers.items()}, folder / table.slug)


def _learning(table: PaperTable, arms: Sequence[_Arm]) -> Drawn | None:
    gain = curves.EVAL["return_gain"]
    panels = (
        Panel(curves.RETURN, "Return of training episodes", "return", level=None),
        Panel(gain, "Return gain of the deterministic policy", "return above doing nothing"),
    )
    nothing = [_nothing()] if any(arm.has(gain) for arm in arms) and any(arm.has(curves.RETURN) for arm in arms) else []
    figure = learning_curves(arms, panels, (4.9, 3.0), 0.9, nothing)
    if figure is None:
        return None
    caption = CAPTION
    if any(c.handover for arm in arms for c in arm.curves):
        caption += " Ring: the step at which the first stage hands over to the second."
    if any(arm.row.diverged for arm in arms):
        caption += " Cross: a seed that diverged (not in the mean)."
    return Drawn(figure, "Learning curves", caption)


def _metrics(table: PaperTable, arms: Sequence[_Arm]) -> Drawn | None:
    if not any(arm.has(curves.EVAL[m]) for arm in arms for m in PAPER_COLUMNS):
        return None
    compared = any(arm.row.published for arm in arms)
    handles = [*(arm.key for arm in arms), _nothing(), *(_published_keys() if compared else ())]
    figure, axes = layout.panels(3, 4, (3.05, 2.45), handles, left=0.62, share=True)
    for k, (ax, metric) in enumerate(zip(axes, PAPER_COLUMNS, strict=True)):
        lines(ax, arms, curves.EVAL[metric], rings=False)
        for arm in arms:
            _published(ax, _budget(table, arm, arms), arm, metric)
        if metric == "return_gain":
            level(ax)
        layout.name(ax, PAPER_COLUMNS[metric].title)
        steps_axis(ax, arms, label=k >= 8)
    caption = f"The deterministic policy on the test cells. {CAPTION}"
    if compared:
        caption += (
            " Dashed horizontal line: the published value of that agent. Dotted vertical line: the step at which its "
            "released budget stops, if these runs go so far; the diamond, where the two meet, is the published result."
        )
    return Drawn(figure, "Metrics against training steps", caption)


def _disagreement(table: PaperTable, arms: Sequence[_Arm]) -> Drawn | None:
    dots = [(arm, arm.row.units[["return_gain", "mse"]].dropna()) for arm in arms]
    dots = [(arm, points) for arm, points in dots if len(points)]
    if not dots:
        return None
    places: list[tuple[str, Any, Any]] = []
    looks: list[dict[str, Any]] = []
    for arm, points in dots:
        color = arm.look["color"]
        looks.append({"marker": arm.look["marker"], "ms": 8, "mfc": color, "mec": style.PAPER, "mew": 0.8, "zorder": 3})
        places.append((arm.label, points["return_gain"], points["mse"]))
    for row, marker in zip(table.floors, FLOOR_MARKERS, strict=False):
        star = marker == "*"
        size, edge = (15, 0.0) if star else (9, 1.8)
        looks.append({"marker": marker, "ms": size, "mew": edge, "mfc": style.INK, "mec": style.INK})
        places.append((row.label, [row.cell("return_gain").mean], [row.cell("mse").mean]))
    handles = [layout.key(label, ls="", **look) for look, (label, _, _) in zip(looks, places, strict=True)]
    figure, (ax,) = layout.panels(1, 1, (5.0, 4.2), handles, left=0.75, beside=True)
    ax.axvline(0.0, color=style.MUTED, lw=1.2, zorder=1)
    for look, (_, x, y) in zip(looks, places, strict=True):
        ax.plot(x, y, ls="", **look)
    ax.margins(0.08)
    gain_label, mse_label = "true return gain over doing nothing   (better →)", "(← better)   MSE, released metric"
    layout.name(ax, x=gain_label, y=mse_label)
    caption = "One dot a run; rows that no training made are means over seeds."
    gain, mse = (np.concatenate([p[c].to_numpy() for _, p in dots]) for c in ("return_gain", "mse"))
    if len(gain) >= 4 and np.ptp(gain) > 0 and np.ptp(mse) > 0:
        rank = float(np.corrcoef(pd.Series(gain).rank(), pd.Series(mse).rank())[0, 1])  # Spearman's
        verdict = "the metric prefers the runs that do worse at the task" if rank > 0 else "the two agree in direction"
        caption += f" Rank correlation of MSE and return gain over {len(gain)} runs: "
        caption += f"{spell(rank, 2, signed=True)}, {verdict}."
    return Drawn(figure, "Released metric against the true task", caption)


def _budget(table: PaperTable, arm: _Arm, arms: Sequence[_Arm]) -> float | None:
    """Return the step at which an agent's published run stopped; None where these runs do not go so far."""
    stop = published.steps(table.data, arm.row.agent)
    return stop if stop is not None and stop <= max(last_steps(arms), default=0.0) else None


def _published(ax: Axes, stop: float | None, arm: _Arm, metric: str) -> None:
    if not arm.row.published:
        return
    color = arm.look["color"]
    if stop is not None:
        ax.axvline(stop, color=color, lw=1.2, ls=(0, (1, 2)), zorder=1)
    if metric not in arm.row.published:
        return
    value = arm.row.published[metric]
    ax.axhline(value, color=color, lw=1.2, ls=(0, (6, 3)), zorder=1)
    if stop is not None:
        ax.plot([stop], [value], ls="", marker="D", ms=7, mfc=style.PAPER, mec=color, mew=1.8, zorder=6, clip_on=False)


def _nothing() -> Any:
    return layout.key("doing nothing (return gain 0)", color=style.MUTED, lw=1.2)


def _published_keys() -> list[Any]:
    return [
        layout.key("published value", color=style.MUTED, lw=1.2, ls=(0, (6, 3))),
        layout.key("released budget stops", color=style.MUTED, lw=1.2, ls=(0, (1, 2))),
        layout.key("published result", color=style.MUTED, ls="", marker="D", mfc=style.PAPER, mew=1.8),
    ]
