"""A network as a drawing: genes, edges that activate (arrow) or repress (bar), and the fates in which a gene is on.

Letters: G genes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perturbrl.landscape.pictures.scene import Edge, Scene, Wiring
from perturbrl.report.landscape.theme import Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
SPREAD = 1.05
"""Inches between neighbouring genes."""
FONT, PAD = 11, 0.42


def layout(wiring: Wiring, rounds: int = 300) -> Array:
    """Return positions [G, 2] at distances like those in the graph, neighbours 1 apart.

    Stress majorisation (Gansner, Koren and North 2004) from a circle, so that the same network always looks the same.
    """
    from scipy.sparse.csgraph import shortest_path

    n = len(wiring.genes)
    if n == 1:  # nothing to be apart from, and no plane to turn
        return np.zeros((1, 2))
    number = {gene: k for k, gene in enumerate(wiring.genes)}
    graph = np.zeros((n, n))
    for edge in wiring.edges:
        graph[number[edge.source], number[edge.target]] = 1
    wanted = shortest_path(np.maximum(graph, graph.T), unweighted=True)
    wanted[~np.isfinite(wanted)] = np.sqrt(n) + 1
    np.fill_diagonal(wanted, 1)
    weight = wanted**-2.0
    np.fill_diagonal(weight, 0)
    angle = 2 * np.pi * np.arange(n) / n
    at = np.stack([np.cos(angle), np.sin(angle)], axis=1) * max(1.0, np.sqrt(n) / 2)
    inverse = np.linalg.pinv(np.diag(weight.sum(axis=1)) - weight)
    for _ in range(rounds):
        distance = np.linalg.norm(at[:, None] - at[None], axis=-1)
        pull = weight * wanted / np.maximum(distance, 1e-6)
        at = inverse @ ((np.diag(pull.sum(axis=1)) - pull) @ at)
    at = at - at.mean(axis=0)
    turn = np.linalg.svd(at, full_matrices=False)[2]  # the long side lies flat
    return np.asarray(at @ turn.T)


def draw(scene: Scene, theme: Theme) -> Figure | None:
    """Return the figure of the network of a scene, or None where it has none."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wiring = scene.wiring
    if wiring is None:
        return None
    at = layout(wiring) * SPREAD * 1.5
    size = np.maximum(np.ptp(at, axis=0) + np.array([1.9, 1.6]), [6.5, 4.2])
    size = size * min(1.0, 16 / size.max())
    figure = Figure(figsize=tuple(size), facecolor=theme.ground)
    axes = figure.add_axes((0.01, 0.07, 0.98, 0.84))
    axes.set_axis_off()
    axes.set_aspect("equal")
    room = np.array([0.95, 0.75])
    low, high = at.min(axis=0) - room, at.max(axis=0) + room
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    boxes = _genes(axes, scene, wiring, at, theme)
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()  # edges end at the boxes, whose size is known now
    pairs = {(edge.source, edge.target) for edge in wiring.edges}
    for edge in wiring.edges:
        if edge.source == edge.target:
            _loop(axes, edge, boxes[edge.source], theme)
        else:
            _edge(axes, edge, boxes, theme, bent=(edge.target, edge.source) in pairs)
    figure.text(0.02, 0.985, scene.title, fontsize=14, weight="bold", color=theme.ink, va="top")
    _legend(figure, scene, wiring, theme)
    return figure


def _color(edge: Edge, theme: Theme) -> str:
    return {"+": theme.signs[0], "-": theme.signs[1]}.get(edge.sign, theme.muted)


def _style(edge: Edge) -> str:
    return "-[,widthB=0.32,lengthB=0" if edge.sign == "-" else "-|>,head_width=0.22,head_length=0.42"


def _look(edge: Edge, box: Any, theme: Theme) -> dict[str, Any]:
    size = box.get_fontsize() / FONT
    return {
        "arrowstyle": _style(edge), "color": _color(edge, theme), "lw": 1.5 * size, "mutation_scale": 14 * size,
        "alpha": 0.9,
    }  # fmt: skip


def _edge(axes: Any, edge: Edge, boxes: dict[str, Any], theme: Theme, *, bent: bool) -> None:
    """Draw an arc from box to box; how far a box reaches is computed, as patches move with the resolution."""
    source, target = boxes[edge.source], boxes[edge.target]
    bend = 0.2 if bent else 0.1
    a, b = np.array(source.get_position()), np.array(target.get_position())
    control = (a + b) / 2 + bend * np.array([b[1] - a[1], a[0] - b[0]])
    axes.annotate("", b, a, zorder=2, arrowprops={
        **_look(edge, target, theme), "connectionstyle": f"arc3,rad={bend}",
        "shrinkA": _reach(source, control - a) + 1, "shrinkB": _reach(target, control - b) + 3,
    })  # fmt: skip


def _reach(box: Any, way: Array) -> float:
    """Return the distance in points from the middle of a gene's box to its border, in the direction ``way``."""
    extent, figure = box.get_window_extent(), box.figure
    half = np.array([extent.width, extent.height]) * 72 / figure.dpi / 2 + PAD * box.get_fontsize()
    return float((half / np.maximum(np.abs(way) / np.linalg.norm(way), 1e-6)).min())


def _loop(axes: Any, edge: Edge, box: Any, theme: Theme) -> None:
    """Draw a bow over a gene, from the left of its box to the right, in shares of the name's size."""
    axes.annotate("", (0.75, 1.5), (0.25, 1.45), xycoords=box, textcoords=box, zorder=2, arrowprops={
        **_look(edge, box, theme), "connectionstyle": "arc3,rad=-1.3", "shrinkA": 0, "shrinkB": 0,
    })  # fmt: skip


def _genes(axes: Any, scene: Scene, wiring: Wiring, at: Array, theme: Theme) -> dict[str, Any]:
    boxes, size = {}, FONT * min(1.0, (40 / len(wiring.genes)) ** 0.5)
    for gene, place in zip(wiring.genes, at, strict=True):
        boxes[gene] = axes.text(*place, gene, ha="center", va="center", fontsize=size, weight="bold", color=theme.ink,
                                zorder=5, bbox={"boxstyle": f"round,pad={PAD},rounding_size=0.9", "fc": theme.ground,
                                                "ec": theme.muted, "lw": 1.1})  # fmt: skip
        fates = [group for group in scene.groups if gene in wiring.on.get(group, ())]
        for k, group in enumerate(fates):
            axes.annotate("●", place, (8.5 * (k - (len(fates) - 1) / 2), -12.5), textcoords="offset points", zorder=6,
                          color=theme.color(scene.groups, group), fontsize=9, ha="center", va="center")  # fmt: skip
    return boxes


def _legend(figure: Any, scene: Scene, wiring: Wiring, theme: Theme) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=c, lw=2, label=t) for c, t in zip(theme.signs, ("activates", "represses"), strict=True)
    ]
    if any(edge.sign == "±" for edge in wiring.edges):
        handles.append(Line2D([], [], color=theme.muted, lw=2, label="depends on other genes"))
    handles += [
        Line2D([], [], marker="o", ls="", ms=6, color=theme.color(scene.groups, group), label=f"on in {group}")
        for group in list(wiring.on)[: len(theme.groups)]
    ]
    figure.legend(handles=handles, loc="lower left", ncols=4, fontsize=9, frameon=False, labelcolor=theme.ink,
                  borderpad=0.1, columnspacing=1.2)  # fmt: skip
