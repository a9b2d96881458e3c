"""Figures of one table: learning curves, every metric against training steps, and the metric against the true task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perturbrl.report import curves, published, style
from perturbrl.report.names import COLUMNS, HEADINGS, MINUS
from perturbrl.report.tables import Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THIN_AS_PIXELS = 40  # above this many runs the thin lines are pixels in the SVG, which would weigh megabytes else


@dataclass(frozen=True)
class Picture:
    """A figure on disk, and as SVG that a page can hold."""

    title: str
    caption: str
    png: Path
    svg: Path
    inline: str


@dataclass(frozen=True)
class _Arm:
    row: Row
    look: dict[str, Any]
    curves: list[curves.Curve]


def draw(table: Table, folder: Path) -> list[Picture]:
    """Draw the figures of a table that have data into ``folder``, as ``<slug>-<figure>.png`` and ``.svg``."""
    import matplotlib as mpl

    looks = style.styles([(row.agent, row.label) for row in table.agents])
    arms = [_Arm(row, look, curves.of_row(row)) for row, look in zip(table.agents, looks, strict=True)]
    made = []
    with mpl.rc_context(style.RC):
        for name, make in (("return", _learning), ("metrics", _metrics), ("disagreement", _disagreement)):
            drawn = make(table, arms)
            if drawn is not None:
                figure, title, caption = drawn
                made.append(Picture(title, caption, *style.save(figure, folder / f"{table.slug}-{name}")))
    return made


def _learning(table: Table, arms: Sequence[_Arm]) -> tuple[Figure, str, str] | None:
    panels = [
        (curves.RETURN, "Return of training episodes", "return"),
        (curves.EVAL["return_gain"], "Return gain of the deterministic policy", "return above doing nothing"),
    ]
    panels = [panel for panel in panels if any(len(c.points(panel[0])[0]) for arm in arms for c in arm.curves)]
    if not panels:
        return None
    figure = _figure(5.4 * len(panels) + 0.6, 4.3)
    for k, (column, title, unit) in enumerate(panels):
        ax = figure.add_subplot(1, len(panels), k + 1)
        _lines(ax, arms, column)
        if column != curves.RETURN:
            _nothing(ax)
        ax.set_title(title)
        ax.set_ylabel(unit)
        _steps_axis(ax, arms)
    _legend(figure, arms, still=len(panels) > 1)
    caption = "Thin: every seed. Thick: their mean."
    if any(c.handover for arm in arms for c in arm.curves):
        caption += " Ring: the step at which the first stage hands over to the second."
    if any(arm.row.diverged for arm in arms):
        caption += " Cross: a seed that diverged (not in the mean)."
    return figure, "Learning curves", caption


def _metrics(table: Table, arms: Sequence[_Arm]) -> tuple[Figure, str, str] | None:
    if not any(len(c.points(curves.EVAL[m])[0]) for arm in arms for c in arm.curves for m in COLUMNS):
        return None
    figure = _figure(15.0, 10.2)
    for k, metric in enumerate(COLUMNS):
        ax = figure.add_subplot(3, 4, k + 1)
        _lines(ax, arms, curves.EVAL[metric], rings=False)
        for arm in arms:
            _published(ax, table, arm, metric)
        if metric == "return_gain":
            _nothing(ax)
        ax.set_title(HEADINGS[metric])
        _steps_axis(ax, arms, label=k >= 8)
    _legend(figure, arms, still=True, compared=any(arm.row.published for arm in arms))
    caption = "Thin: every seed. Thick: their mean, of the deterministic policy on the test cells."
    if any(arm.row.published for arm in arms):
        caption += (
            " Dashed horizontal line: the published value of that agent. Dotted vertical line: the step at which its "
            "released budget stops; the diamond, where the two meet, is the published result."
        )
    return figure, "Metrics against training steps", caption


def _disagreement(table: Table, arms: Sequence[_Arm]) -> tuple[Figure, str, str] | None:
    dots = [(arm, arm.row.per_seed[["return_gain", "mse"]].dropna()) for arm in arms]
    dots = [(arm, points) for arm, points in dots if len(points)]
    if not dots:
        return None
    figure = _figure(7.4, 5.0)
    ax = figure.add_subplot()
    ax.axvline(0.0, color=style.MUTED, lw=1.2, zorder=1)
    for arm, points in dots:
        ax.plot(points["return_gain"], points["mse"], ls="", marker=arm.look["marker"], ms=8, mfc=arm.look["color"],
                mec=style.PAPER, mew=0.8, label=arm.row.label, zorder=3)  # fmt: skip
    for row, marker in zip(table.floors, ("*", "x", "+", "1", "2", "3", "4"), strict=False):
        x, y = row.cells["return_gain"].mean, row.cells["mse"].mean
        size = 15 if marker == "*" else 9
        ax.plot([x], [y], ls="", marker=marker, ms=size, mfc=style.INK, mec=style.INK, mew=1.8 if marker != "*" else 0,
                label=row.label, zorder=2)  # fmt: skip
    ax.margins(0.08)
    ax.set_xlabel("true return gain over doing nothing   (better →)")
    ax.set_ylabel("(← better)   MSE, released metric")
    figure.legend(loc="outside right upper")
    caption = "One dot a run; rows that no training made are means over seeds."
    gain, mse = (np.concatenate([p[c].to_numpy() for _, p in dots]) for c in ("return_gain", "mse"))
    if len(gain) >= 4 and np.ptp(gain) > 0 and np.ptp(mse) > 0:
        rank = _spearman(gain, mse)
        verdict = "the metric prefers the runs that do worse at the task" if rank > 0 else "the two agree in direction"
        spelled = f"{rank:+.2f}".replace("-", MINUS)
        caption += f" Rank correlation of MSE and return gain over {len(gain)} runs: {spelled}, {verdict}."
    return figure, "Released metric against the true task", caption


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _lines(ax: Axes, arms: Sequence[_Arm], column: str, rings: bool = True) -> None:
    pixels = sum(len(arm.curves) for arm in arms) > THIN_AS_PIXELS
    for arm in arms:
        color, dash = arm.look["color"], arm.look["dash"]
        seeds = [np.empty((2, 0))]  # all seeds in one line with gaps: a thousand artists would take minutes
        for curve in arm.curves:
            x, y = curve.points(column)
            seeds.append(np.stack([np.append(x, np.nan), np.append(y, np.nan)]))
            if curve.diverged and len(x):
                ax.plot(x[-1:], y[-1:], ls="", marker="x", ms=8, mew=2, color=color, zorder=4)
        ax.plot(*np.concatenate(seeds, axis=1), color=color, lw=0.8, alpha=0.4, zorder=2, rasterized=pixels)
        x, y = curves.mean(arm.curves, column)
        ax.plot(x, y, color=color, lw=2.4, ls=dash, zorder=3, label=arm.row.label,
                marker=arm.look["marker"] if len(x) == 1 else None)  # fmt: skip
        steps = [c.handover for c in arm.curves if c.handover is not None]
        if rings and steps and len(x) > 1 and x[0] <= steps[0] <= x[-1]:
            ring = [np.interp(steps[0], x, y)]
            ax.plot(steps[:1], ring, ls="", marker="o", ms=8, mfc=style.PAPER, mec=color, mew=2, zorder=5)


def _nothing(ax: Axes) -> None:
    ax.axhline(0.0, color=style.MUTED, lw=1.2, zorder=1)


def _published(ax: Axes, table: Table, arm: _Arm, metric: str) -> None:
    stop = published.steps(table.data, arm.row.agent)
    if not arm.row.published or stop is None:
        return
    color = arm.look["color"]
    ax.axvline(stop, color=color, lw=1.2, ls=(0, (1, 2)), zorder=1)
    if metric in arm.row.published:
        value = arm.row.published[metric]
        ax.axhline(value, color=color, lw=1.2, ls=(0, (6, 3)), zorder=1)
        ax.plot([stop], [value], ls="", marker="D", ms=7, mfc=style.PAPER, mec=color, mew=1.8, zorder=6, clip_on=False)


def _steps_axis(ax: Axes, arms: Sequence[_Arm], label: bool = True) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    ends = [float(c.frame["step"].iloc[-1]) for arm in arms for c in arm.curves if len(c.frame)]
    if ends and max(ends) > 4 * min(ends):
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _steps(x)))
    if label:
        ax.set_xlabel("environment steps")


def _steps(x: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(x) >= size:
            return f"{x / size:g}{unit}"
    return f"{x:g}"


def _legend(figure: Figure, arms: Sequence[_Arm], still: bool, compared: bool = False) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=a.look["color"], ls=a.look["dash"], lw=2.4, label=a.row.label) for a in arms]
    if still:
        handles.append(Line2D([], [], color=style.MUTED, lw=1.2, label="doing nothing (return gain 0)"))
    if compared:
        handles += [
            Line2D([], [], color=style.MUTED, lw=1.2, ls=(0, (6, 3)), label="published value"),
            Line2D([], [], color=style.MUTED, lw=1.2, ls=(0, (1, 2)), label="released budget stops"),
            Line2D([], [], color=style.MUTED, ls="", marker="D", mfc=style.PAPER, mew=1.8, label="published result"),
        ]
    columns = min(len(handles), 7 if compared else 4)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=3)


def _spearman(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    from scipy.stats import rankdata

    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])
