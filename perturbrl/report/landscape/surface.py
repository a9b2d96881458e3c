"""The landscape as a lit block with the ways of cells on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perturbrl.landscape.pictures.scene import Scene, View
from perturbrl.report.landscape.names import Pin, pins
from perturbrl.report.landscape.relief import Camera, Relief
from perturbrl.report.landscape.theme import Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
CAMERA, DOWNHILL = Camera(56, -20), Camera(38, -12)
SIZE = (11.0, 7.6)


def draw(scene: Scene, view: View, theme: Theme) -> Figure:
    """Return the figure of one view: the surface in 3-D, drawn with 2-D axes (an orthographic camera)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, facecolor=theme.ground)
    axes = figure.add_axes((0.02, 0.09, 0.96, 0.82))
    axes.set_axis_off()
    axes.set_aspect("equal")
    relief, camera = Relief(view), DOWNHILL if view.downhill else CAMERA
    _ground(axes, relief, camera, theme)
    _paths(axes, relief, camera, scene, view, theme)
    axes.autoscale_view()
    axes.apply_aspect()  # names are measured in their place
    _marks(axes, relief, camera, scene, view, theme)
    figure.text(0.03, 0.965, scene.title, fontsize=18, weight="bold", color=theme.ink, va="top")
    figure.text(0.03, 0.915, view.title, fontsize=12.5, color=theme.muted, va="top")
    figure.text(0.03, 0.02, _broken(view.caption), fontsize=9, color=theme.muted, va="bottom", linespacing=1.35)
    return figure


def _broken(text: str, width: int = 150) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))


def surface_colors(level: Array, shade: Array, theme: Theme) -> Array:
    """Return the colours [..., 4] of a surface: the ramp by depth, darker in the shade."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    ramp = LinearSegmentedColormap.from_list("ramp", theme.ramp)
    colors = np.asarray(ramp(level))
    flat = float(np.median(shade[level > 0.98])) if (level > 0.98).any() else 0.77
    dim = (0.75 * (flat - shade)).clip(0, 0.5)[..., None]
    bright = (0.5 * (shade - flat)).clip(0, 0.2)[..., None]
    shadow = np.asarray(to_rgb(theme.shadow))
    colors[..., :3] = colors[..., :3] * (1 - dim - bright) + shadow * dim + bright
    return colors


def _ground(axes: Any, relief: Relief, camera: Camera, theme: Theme) -> None:
    """Draw the block from the back to the front, so that what is near covers what is far."""
    grid = np.stack([*np.meshgrid(relief.x, relief.y, indexing="ij"), relief.z], axis=-1)
    colors = surface_colors(relief.level, relief.shade(), theme)
    for axis in (0, 1):
        if camera.towards[axis] < 0:  # far first
            grid, colors = np.flip(grid, axis), np.flip(colors, axis)
    seen = camera.screen(grid)
    axes.pcolormesh(seen[..., 0], seen[..., 1], colors, shading="gouraud", zorder=1, rasterized=True)
    for outline, tone in zip(relief.sides(camera), (theme.sides[0], theme.sides[1]), strict=True):
        axes.fill(*camera.screen(outline).T, color=tone, lw=0, zorder=2)
        edge = camera.screen(outline[: len(outline) // 2])
        axes.plot(*edge.T, color=theme.halo, lw=0.8, alpha=0.8, zorder=2.1)


def smooth(points: Array, times: int = 4) -> Array:
    """Return a curve through points [T, d] with ``times`` as many, so that a drawn way has no corners."""
    from scipy.interpolate import PchipInterpolator

    at = np.arange(len(points))
    return np.asarray(PchipInterpolator(at, points)(np.linspace(0, at[-1], times * (len(points) - 1) + 1)))


def _paths(axes: Any, relief: Relief, camera: Camera, scene: Scene, view: View, theme: Theme) -> None:
    for path in view.paths:
        points = relief.place(smooth(path.points))
        line = camera.screen(points)
        line[~relief.visible(points, camera)] = np.nan
        look: dict[str, Any] = {"solid_capstyle": "round", "solid_joinstyle": "round", "scalex": False}
        axes.plot(*line.T, color=theme.halo, lw=2.4, alpha=0.35, zorder=3, **look)
        axes.plot(*line.T, color=theme.color(scene.groups, path.group), lw=1.15, alpha=0.95, zorder=3.1, **look)


def _marks(axes: Any, relief: Relief, camera: Camera, scene: Scene, view: View, theme: Theme) -> None:
    """Name the attractors; at the end of time the names stand over the front side of the block."""
    end = 0.95 * view.surface.axes[1][-1]
    places = relief.place(np.array([mark.point for mark in view.marks]).reshape(-1, 2))
    feet, seen = camera.screen(places), relief.visible(places, camera)
    items = [
        Pin(x, y, mark.name, theme.color(scene.groups, mark.group), view.downhill and float(mark.point[1]) > end, not s)
        for mark, (x, y), s in zip(view.marks, feet, seen, strict=True)
    ]
    pins(axes, items, theme)
