"""Learning curves of several seeds: every seed thin, their mean thick, its interval a band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from perturbrl.report import curves, layout, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CAPTION = "Thin: every seed. Thick: their mean. Band: its 95 % t interval over seeds, cut at the edge of a panel."
AS_PIXELS = 5_000  # above this many points the thin lines of a panel are pixels in the SVG, megabytes else


@dataclass(frozen=True)
class Arm:
    """One agent's curves, and how they look (``style.styles``)."""

    label: str
    look: dict[str, Any]
    curves: Sequence[curves.Curve]

    def has(self, column: str) -> bool:
        """Whether any run has a value of this column."""
        return any(len(curve.points(column)[0]) for curve in self.curves)

    @property
    def key(self) -> Any:
        """The entry of a legend."""
        return layout.key(self.label, color=self.look["color"], ls=self.look["dash"], lw=2.4)


@dataclass(frozen=True)
class Panel:
    """One column of ``progress.parquet`` against environment steps; ``level`` is marked by a line."""

    column: str
    title: str
    unit: str = ""
    level: float | None = 0.0


def learning_curves(
    arms: Sequence[Arm], panels: Sequence[Panel], size: tuple[float, float], left: float, handles: Sequence[Any] = ()
) -> Figure | None:
    """Draw the panels of which there are values; ``handles`` follow the agents in the legend."""
    panels = [panel for panel in panels if any(arm.has(panel.column) for arm in arms)]
    if not panels:
        return None
    figure, axes = layout.panels(1, len(panels), size, [*(arm.key for arm in arms), *handles], left=left)
    for ax, panel in zip(axes, panels, strict=True):
        lines(ax, arms, panel.column)
        if panel.level is not None:
            level(ax, panel.level)
        layout.name(ax, panel.title, y=panel.unit)
        steps_axis(ax, arms)
    return figure


def lines(ax: Axes, arms: Sequence[Arm], column: str, rings: bool = True) -> None:
    """Draw one column of every arm; a cross where a seed diverged, a ring where a second stage begins."""
    drawn = [[curve.points(column) for curve in arm.curves] for arm in arms]
    pixels = sum(len(x) for points in drawn for x, _ in points) > AS_PIXELS
    for arm, points in zip(arms, drawn, strict=True):
        color, dash = arm.look["color"], arm.look["dash"]
        # all seeds in one line with gaps: a thousand artists would take minutes
        gaps = [np.stack([np.append(x, np.nan), np.append(y, np.nan)]) for x, y in points]
        seeds = np.concatenate([np.empty((2, 0)), *gaps], axis=1)
        ax.plot(*seeds, color=color, lw=0.8, alpha=0.4, zorder=2, rasterized=pixels)
        ends = [(x[-1], y[-1]) for curve, (x, y) in zip(arm.curves, points, strict=True) if curve.diverged and len(x)]
        if ends:
            ax.plot(*zip(*ends, strict=True), ls="", marker="x", ms=8, mew=2, color=color, zorder=4)
        mean = curves.band(arm.curves, column)
        x, y = mean.steps, mean.mean
        _band(ax, mean, color)
        ax.plot(x, y, color=color, lw=2.4, ls=dash, zorder=3, marker=arm.look["marker"] if len(x) == 1 else None)
        steps = [c.handover for c in arm.curves if c.handover is not None]
        if rings and steps and len(x) > 1 and x[0] <= steps[0] <= x[-1]:
            ring = [np.interp(steps[0], x, y)]
            ax.plot(steps[:1], ring, ls="", marker="o", ms=8, mfc=style.PAPER, mec=color, mew=2, zorder=5)


def _band(ax: Axes, band: curves.Band, color: str) -> None:
    """Shade an interval. The axes fit the curves: two seeds have an interval 13 times as wide as they lie apart."""
    from matplotlib.collections import PolyCollection

    if len(band.steps) < 2 or np.isnan(band.half).any():
        return
    there, back = np.stack([band.steps, band.mean + band.half], 1), np.stack([band.steps, band.mean - band.half], 1)
    shape = PolyCollection([np.concatenate([there, back[::-1]])], facecolor=color, alpha=0.15, lw=0, zorder=1.5)
    ax.add_collection(shape, autolim=False)


def level(ax: Axes, value: float = 0.0) -> None:
    """Mark a level, such as that of doing nothing."""
    ax.axhline(value, color=style.MUTED, lw=1.2, zorder=1)


def last_steps(arms: Sequence[Arm]) -> list[float]:
    """Return the step at which each run ended."""
    return [float(c.steps[-1]) for arm in arms for c in arm.curves if len(c.steps)]


def steps_axis(ax: Axes, arms: Sequence[Arm], label: bool = True) -> None:
    """Spell environment steps on the x axis, logarithmic where budgets differ much."""
    ends = last_steps(arms)
    layout.steps_axis(ax, log=bool(ends) and max(ends) > 4 * min(ends))
    if label:
        ax.set_xlabel("environment steps")
