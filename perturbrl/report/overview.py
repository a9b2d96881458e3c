"""One figure over many tables: what a sweep asks is how they differ, not each one's curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perturbrl.metrics_info import PAPER_COLUMNS
from perturbrl.report import layout, style
from perturbrl.report.layout import Drawn
from perturbrl.report.paper import PaperTable, data_order

SHOWN = 80  # tables; a longer figure is unreadable
PANELS = (("mse", "MSE, released metric (← better)"), ("return_gain", "true return gain over doing nothing (better →)"))


def draw(tables: Sequence[PaperTable], folder: Path) -> style.Picture:
    """Draw MSE and return gain of every agent in every table, means and intervals over seeds, into ``folder``."""
    import matplotlib as mpl

    with mpl.rc_context(style.RC):
        shown = sorted(tables[:SHOWN], key=lambda table: (table.source, data_order(table.data)))
        return style.save(_overview(shown, len(tables)), folder / "overview")


def labels(tables: Sequence[PaperTable]) -> list[str]:
    """Name each table by what tells it from the others."""
    parts = [table.parts for table in tables]
    kinds = [len({p[k] for p in parts}) for k in range(len(parts[0]))]
    data, cells = 0, 2  # cells name their data: landscape-rna
    left_out = data if kinds[cells] > kinds[data] else cells
    distinct = [k for k, n in enumerate(kinds) if n > 1 and k != left_out]
    return [" · ".join(p[k] for k in distinct if p[k]) for p in parts]


def _overview(tables: Sequence[PaperTable], count: int) -> Drawn:
    agents = list(dict.fromkeys((row.agent, row.label) for table in tables for row in table.agents))
    looks = dict(zip(agents, style.styles(agents), strict=True))
    handles = [layout.key(label, **_mark(look)) for (_, label), look in looks.items()]
    names = [layout.short(name) for name in labels(tables)]
    margin = max(len(name) for name in names) * layout.LETTER
    size = 4.6, 0.34 * len(tables) + 0.3
    figure, axes = layout.panels(1, 2, size, handles, left=0.25, margin=margin, beside=True)
    for ax, (metric, title) in zip(axes, PANELS, strict=True):
        for k, (agent, look) in enumerate(looks.items()):
            rows = [(y, row) for y, t in enumerate(tables) for row in t.agents if (row.agent, row.label) == agent]
            shift = (k - (len(agents) - 1) / 2) * 0.7 / max(len(agents), 3)  # side by side within a table's band
            x = [row.cell(metric).mean for _, row in rows]
            half = [row.cell(metric).half or 0.0 for _, row in rows]
            y = [at + shift for at, _ in rows]
            ax.errorbar(x, y, xerr=half, elinewidth=1.6, ecolor=look["color"], **_mark(look))
        if metric == "return_gain":
            ax.axvline(0.0, color=style.MUTED, lw=1.2, zorder=1)
        ax.set_yticks(range(len(tables)), names if ax is axes[0] else [""] * len(tables))
        ax.set_ylim(len(tables) - 0.5, -0.5)
        layout.name(ax, PAPER_COLUMNS[metric].title, x=title)
    caption = "Mean over seeds; bar: 95 % t interval, where there are two seeds or more."
    if count > len(tables):
        caption += f" The first {len(tables)} of {count} tables."
    return Drawn(figure, "All tables at a glance", caption)


def _mark(look: dict[str, Any]) -> dict[str, Any]:
    return {"ls": "", "marker": look["marker"], "color": look["color"], "ms": 6}
