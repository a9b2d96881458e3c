"""Figures on held-out perturbations: observed against predicted, scores by method and by effect, learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from perturbrl.metrics_info import HELD_OUT, row_info
from perturbrl.report import curves, layout, style
from perturbrl.report.claims import best_simple
from perturbrl.report.held_out import CHANGES, HeldOutTable, read_columns, title
from perturbrl.report.layout import Drawn
from perturbrl.report.lines import CAPTION, Arm, Panel, learning_curves
from perturbrl.report.table import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED = 6  # differential genes named in a panel
REACH = (-1.5, 1.5)  # calibrated scores beyond this are drawn at the edge

SHARE, RETURN = "eval/return_share", "eval/return"
CURVES = (
    Panel("eval/pds_cosine", "PDS-cos", level=0.5),
    Panel("eval/mse_norm", "MSEnorm", level=1.0),
    Panel("eval/pearson_delta_ctrl", "Pearson Δ(ctrl)"),
    Panel("eval/pearson_delta_pert", "Pearson Δ(pert)"),
    Panel(SHARE, "return / that of the best allowed actions"),
    Panel(RETURN, "return of the deterministic policy"),
)


def draw(table: HeldOutTable, folder: Path) -> list[style.Picture]:
    """Draw the figures of a table that have data into ``folder``, as ``<slug>-<figure>.png`` and ``.svg``."""
    looks = style.styles([(row.agent, row.label) for row in table.agents])
    makers = {"calibrated": _calibrated, "changes": _changes, "effect": _effect, "validation": _validation}
    return style.draw({name: partial(make, table, looks) for name, make in makers.items()}, folder / table.slug)


def _calibrated(table: HeldOutTable, looks: Sequence[dict[str, Any]]) -> Drawn | None:
    metrics = [m for m in table.columns.ranking if any(row.cell(f"calibrated/{m}").n for row in table.rows)]
    if not metrics:
        return None
    rows = [*table.agents, *(row for row in table.rows if not row.agent)]
    names = [layout.short(title(row)) for row in rows]
    size = 2.5, 0.27 * len(rows) + 0.2
    margin = max(len(n) for n in names) * layout.LETTER
    figure, axes = layout.tiles(len(metrics), 5, size, (), left=0.2, margin=margin, share=True)
    colors = {row.label: look["color"] for row, look in zip(table.agents, looks, strict=True)}
    for metric, (ax, leftmost, lowest) in zip(metrics, axes, strict=True):
        for y, row in enumerate(rows):
            _score(ax, y, row, f"calibrated/{metric}", colors.get(row.label, style.MUTED))
        for x in (0.0, 1.0):
            ax.axvline(x, color=style.MUTED, lw=1.2, zorder=1)
        ax.set_xlim(REACH[0] - 0.15, REACH[1] + 0.15)
        ax.set_yticks(range(len(rows)), names if leftmost else [""] * len(rows))
        ax.set_ylim(len(rows) - 0.5, -0.5)
        layout.name(ax, HELD_OUT[metric].title, x="0: training mean, 1: replicate" if lowest else "")
    caption = (
        "Calibrated score of every method, mean and 95 % t interval: 0 is the training mean, 1 a replicate of half "
        "the cells, which is no upper limit. Open triangles at the edge: beyond the axis. A row without a dot has no "
        "calibrated score."
    )
    return Drawn(figure, "Calibrated scores by method", caption)


def _score(ax: Axes, y: int, row: Row, metric: str, color: str) -> None:
    cell = row.cell(metric)
    if not cell.n:
        return
    x = float(np.clip(cell.mean, *REACH))
    if x != cell.mean:
        ax.plot([x], [y], ls="", marker=">" if x > 0 else "<", ms=6, mfc=style.PAPER, mec=color, zorder=3)
        return
    if cell.half:
        low, high = np.clip([cell.low, cell.high], *REACH)
        ax.plot([low, high], [y, y], color=color, lw=1.6, zorder=2)
    ax.plot([x], [y], ls="", marker="o" if row.agent else "s", ms=7 if row.agent else 5, color=color, zorder=3)


def _changes(table: HeldOutTable, looks: Sequence[dict[str, Any]]) -> Drawn | None:
    """Draw one run: the best agent's seed in the middle of its seeds by the primary metric, never the best seed."""
    run = _middle_run(table)
    frame = None if run is None else read_columns(Path(run), CHANGES, ["row", "condition", "gene", "change", "de"])
    if frame is None or frame.empty or "policy" not in set(frame["row"]):
        return None
    wide = frame.pivot_table(index=["condition", "gene", "de"], columns="row", values="change").reset_index()
    conditions = list(dict.fromkeys(frame["condition"]))  # as written: by effect size
    other = next((row for row in dict.fromkeys(frame["row"]) if row not in ("truth", "policy")), None)
    agent = next(k for k, row in enumerate(table.agents) if run in [r for r, _, _ in row.runs])
    marks: dict[str, Any] = {"ls": "", "ms": 4}
    ours = marks | {"marker": "o", "color": looks[agent]["color"]}
    theirs = marks | {"marker": "s", "mfc": "none", "mec": style.MUTED, "mew": 0.9}
    handles = [layout.key(table.agents[agent].label, **ours)]
    if other is not None:
        handles.append(layout.key(row_info(other).title, **theirs))
    handles.append(layout.key("perfect", color=style.MUTED, lw=1.2))
    figure, axes = layout.tiles(len(conditions), 3, (3.4, 3.0), handles, left=0.75)
    for condition, (ax, leftmost, lowest) in zip(conditions, axes, strict=True):
        part = wide[wide["condition"] == condition]
        strong = part[part["de"]]
        ax.axline((0, 0), slope=1, color=style.MUTED, lw=1.2, zorder=1)
        ax.plot(part["truth"], part["policy"], ls="", marker="o", ms=2.5, color=style.MUTED, alpha=0.35, zorder=2,
                rasterized=True)  # fmt: skip
        if other is not None:
            ax.plot(strong["truth"], strong[other], zorder=3, **theirs)
        ax.plot(strong["truth"], strong["policy"], zorder=4, **ours)
        _name_genes(ax, strong)
        x, y = "observed change" if lowest else "", "predicted change" if leftmost else ""
        layout.name(ax, condition, x=x, y=y)
    caption = (
        f"Change of each gene from control (log-normalised), {table.agents[agent].label}, one run, seed "
        f"{_seed(table, run)}: the median of its seeds. Large: genes that differ from control in the test cells, the "
        "strongest named; small grey: the others. Conditions evenly spaced in effect size, weakest first."
    )
    return Drawn(figure, "Predicted against observed change", caption)


def _name_genes(ax: Axes, genes: pd.DataFrame) -> None:
    """Name the genes of largest observed change, leaving out a name that would lie on another."""
    taken: list[tuple[float, float]] = []
    wide, high = (float(np.ptp(limits)) for limits in (ax.get_xlim(), ax.get_ylim()))
    for gene, x, y in genes.loc[genes["truth"].abs().nlargest(NAMED).index, ["gene", "truth", "policy"]].to_numpy():
        if any(abs(x - a) < 0.25 * wide and abs(y - b) < 0.06 * high for a, b in taken):
            continue
        taken.append((x, y))
        side = -1 if x > 0 else 1  # towards the middle, where there is room
        ax.annotate(gene, (x, y), (6 * side, 4), textcoords="offset points", fontsize=8,
                    ha="right" if side < 0 else "left", annotation_clip=True, zorder=5)  # fmt: skip


def _middle_run(table: HeldOutTable) -> str | None:
    metric = table.primary
    usable = [row for row in table.agents if row.cell(metric.name).n]
    if not usable:
        return None
    best = max(usable, key=lambda row: metric.sign * row.cell(metric.name).mean)
    means = table.of(best).groupby("run")["value"].mean().sort_values()
    return str(means.index[(len(means) - 1) // 2]) if len(means) else best.runs[0][0]


def _seed(table: HeldOutTable, run: str | None) -> int:
    return next(seed for row in table.agents for r, seed, _ in row.runs if r == run)


def _effect(table: HeldOutTable, looks: Sequence[dict[str, Any]]) -> Drawn | None:
    best = best_simple(table, table.primary)
    shown = [(row, look) for row, look in zip(table.agents, looks, strict=True) if len(table.of(row))]
    if best is None or not shown or table.conditions["condition"].nunique() < 2:  # one dot shows no trend
        return None
    grey = {"color": style.MUTED, "marker": "s", "dash": (0, (1.2, 1.2))}
    arms = [(row, look) for row, look in [*shown, (best, grey)] if len(table.of(row))]
    handles = [
        layout.key(title(row), color=look["color"], marker=look["marker"], ls=look["dash"], lw=2) for row, look in arms
    ]
    figure, (ax,) = layout.panels(1, 1, (6.4, 3.8), handles, left=0.8)
    for row, look in arms:
        part = table.of(row).groupby("condition", sort=False)[["effect_size", "value"]].mean()
        ax.plot(part["effect_size"], part["value"], ls="", marker=look["marker"], ms=4, color=look["color"], alpha=0.45)
        x, y = _trend(part)
        ax.plot(x, y, color=look["color"], ls=look["dash"], lw=2.4)
    layout.plain_log_axis(ax)
    layout.name(ax, x=r"effect size $\Vert\mu_p-\mu_0\Vert$", y=table.primary.title)
    caption = "One dot a test condition, mean over runs. Lines: means within fifths of the conditions by effect size."
    return Drawn(figure, "Score against effect size", caption)


def _trend(part: pd.DataFrame) -> curves.Points:
    bins = min(5, len(part))
    groups = np.array_split(part.sort_values("effect_size").to_numpy(np.float64), bins)
    return np.array([np.exp(np.log(g[:, 0]).mean()) for g in groups]), np.array([g[:, 1].mean() for g in groups])


def _validation(table: HeldOutTable, looks: Sequence[dict[str, Any]]) -> Drawn | None:
    columns = [panel.column for panel in CURVES]
    arms = [
        Arm(row.label, look, curves.of_runs(row.runs, columns)) for row, look in zip(table.agents, looks, strict=True)
    ]
    twice = RETURN if any(arm.has(SHARE) for arm in arms) else SHARE  # runs of earlier versions have no share
    left_out = {f"eval/{name}" for name in table.columns.left_out} | {twice}
    shown = [panel for panel in CURVES if panel.column not in left_out]
    figure = learning_curves(arms, shown, (3.9, 2.8), 0.75)
    if figure is None:
        return None
    caption = f"Validation conditions, never the test. {CAPTION} Line: no change, or chance."
    return Drawn(figure, "Learning curves on validation", caption)
