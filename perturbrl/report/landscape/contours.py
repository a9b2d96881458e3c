"""The landscape from above: level lines, the ways of cells, attractors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from perturbrl.landscape.pictures.scene import Scene, View
from perturbrl.report.landscape.names import Pin, pins
from perturbrl.report.landscape.surface import smooth
from perturbrl.report.landscape.theme import Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANEL, HEAD, FOOT, SIDE = 5.6, 0.95, 0.75, 0.85


def draw(scene: Scene, theme: Theme) -> Figure:
    """Return the figure with every view of a scene side by side."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    n = len(scene.views)
    width, height = n * (PANEL + SIDE) + 1.0, PANEL + HEAD + FOOT
    figure = Figure(figsize=(width, height), facecolor=theme.ground)
    ramp = LinearSegmentedColormap.from_list("ramp", theme.ramp)
    for k, view in enumerate(scene.views):
        left = k * (PANEL + SIDE) + SIDE
        axes = figure.add_axes((left / width, FOOT / height, PANEL / width, PANEL / height))
        filled = _panel(axes, scene, view, theme, ramp)
        if k == n - 1:
            box = ((left + PANEL + 0.18) / width, FOOT / height, 0.14 / width, PANEL / height)
            bar = figure.colorbar(filled, cax=figure.add_axes(box), ticks=range(int(filled.levels[-1]) + 1))
            bar.outline.set_visible(False)
            bar.ax.tick_params(colors=theme.muted, length=0)
            bar.ax.set_title("U", color=theme.ink, fontsize=11, loc="left")
    figure.text(SIDE / width, 1 - 0.16 / height, scene.title, fontsize=17, weight="bold", color=theme.ink, va="top")
    return figure


def _panel(axes: Any, scene: Scene, view: View, theme: Theme, ramp: Any) -> Any:
    x, y = view.surface.axes
    u = view.surface.values.T
    filled = axes.contourf(x, y, u, levels=np.linspace(0, u.max(), 41), cmap=ramp)
    axes.contour(x, y, u, levels=np.arange(1, u.max() - 0.3, 1), colors=theme.ink, linewidths=0.5, alpha=0.35)
    for path in view.paths:
        line = smooth(path.points).T
        axes.plot(*line, color=theme.halo, lw=2, alpha=0.35)
        axes.plot(*line, color=theme.color(scene.groups, path.group), lw=0.9, alpha=0.85)
    axes.set_facecolor(theme.ground)
    axes.grid(False)
    axes.tick_params(colors=theme.muted, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel(view.axis_names[0], color=theme.muted)
    axes.set_ylabel(view.axis_names[1], color=theme.muted)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[-1], y[0]) if view.downhill else axes.set_ylim(y[0], y[-1])
    axes.set_title(view.title, color=theme.ink, fontsize=12.5)
    items = [
        Pin(float(u), float(v), mark.name, theme.color(scene.groups, mark.group), view.downhill and v < y[0] + 0.05)
        for mark, (u, v) in ((mark, mark.point) for mark in view.marks)
    ]
    pins(axes, items, theme)
    return filled
