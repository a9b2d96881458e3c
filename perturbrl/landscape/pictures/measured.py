"""The scene of measured cells. Letters: N cells, T points of a path."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from perturbrl.landscape import plane
from perturbrl.landscape.pictures.cells import NEIGHBORS, UNNAMED, Cells
from perturbrl.landscape.pictures.scene import Facts, Mark, Path, Scene, View, Wiring, numbered, percent
from perturbrl.landscape.potential import Surface, Wells, quasi_potential, wells

Array = NDArray[np.float64]
PATHS = 6
"""Ways that are drawn to each group."""
POINTS = 60


def cells_scene(cells: Cells, wiring: Wiring | None = None) -> Scene:
    """Return the scene of measured cells: wells of their density, and the ways through their neighbour graph."""
    grain = 0.022 * np.ptp(cells.flat, axis=0)
    bandwidth = np.maximum(quasi_potential(cells.flat).bandwidth, grain)
    surface = quasi_potential(cells.flat, bandwidth=bandwidth)
    found = wells(surface)
    member = found.of(surface, cells.flat)
    groups = tuple(str(name) for name in _by_size(cells.label))
    marks, table = _wells(cells, surface, found, member)
    ways = _ways(cells) if cells.time is not None else []
    caption = (
        f"Height: quasi-potential U = -ln p, p the density of {len(cells.flat):,} cells. Wells are named after "
        "the cells at their bottom."
    )
    if ways:
        caption += " Lines: shortest ways through the neighbour graph from the first cell to the last of each group."
    if cells.flat_name not in ("principal component",):
        caption += f" {cells.flat_name} distorts distances, and with them densities."
    names = (f"{cells.flat_name} 1", f"{cells.flat_name} 2")
    paths = tuple(Path(group, _curve(cells.flat[way])) for group, way in ways)
    shown = [View("plane", "Density of cells", names, surface, marks, paths, caption)]
    if cells.time is not None:
        shown.append(_time_view(cells, ways))
    lead = "; ".join(cells.notes) + "."
    return Scene(cells.name, lead, groups, tuple(shown), (table,), wiring)


def _by_size(label: NDArray[np.str_]) -> NDArray[np.str_]:
    names, counts = np.unique(label, return_counts=True)
    return names[np.argsort(-counts, kind="stable")]


def _wells(cells: Cells, surface: Surface, found: Wells, member: NDArray[np.int64]) -> tuple[tuple[Mark, ...], Facts]:
    """Return the wells with at least a hundredth of the cells as marks, and a table of them."""
    timed = () if cells.time is None else ("pseudotime",)
    columns = ("well", "cells", "depth", "barrier", "mostly", "then", *timed)
    rows, groups, points = [], [], []
    for k in range(len(found.depth)):
        inside = member == k
        if inside.mean() < 0.01:
            continue
        names, counts = np.unique(cells.label[inside], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        shares = [f"{names[j]} {percent(counts[j] / inside.sum())}" for j in order[:2]]
        row = [percent(inside.mean()), f"{surface.values.max() - found.depth[k]:.2f}"]
        row += ["-" if np.isinf(found.barrier[k]) else f"{found.barrier[k]:.2f}", *[*shares, "-"][:2]]
        row += [f"{np.median(cells.time[inside]):.2f}"] if cells.time is not None else []
        rows.append(row)
        groups.append(_nearest_label(cells, found.points[k]))
        points.append(found.points[k])
    labels = numbered([f"well {k + 1}" if group == UNNAMED else group for k, group in enumerate(groups)])
    facts: list[Mapping[str, str]] = [dict(zip(columns[1:], row, strict=True)) for row in rows]
    marks = tuple(Mark(*parts) for parts in zip(labels, groups, points, facts, strict=True))
    note = (
        "Depth: U of the level ground over the well. Barrier: from the bottom up to the lowest pass to another well, "
        "both in units of U (1 is a density lower by the factor e). Cells run down to their well on the plane."
    )
    if cells.time is not None:
        note += " Pseudotime: median rank of the cells, 0 to 1."
    full = tuple((label, *row) for label, row in zip(labels, rows, strict=True))
    return marks, Facts("Wells of the density of cells", columns, full, tuple(groups), (note,))


def _nearest_label(cells: Cells, point: Array) -> str:
    """Return the most frequent label of the fiftieth of cells (at least 10) that are nearest to a point."""
    near = np.argsort(((cells.flat - point) ** 2).sum(axis=1))[: max(10, len(cells.flat) // 50)]
    return str(_by_size(cells.label[near])[0])


def _ways(cells: Cells) -> list[tuple[str, NDArray[np.int64]]]:
    """Return (group, cells on the way) of the shortest ways from the first cell to the last cells of each group."""
    from scipy.sparse.csgraph import dijkstra
    from sklearn.neighbors import kneighbors_graph

    assert cells.time is not None
    graph = kneighbors_graph(cells.scores, min(NEIGHBORS, len(cells.scores) - 1), mode="distance")
    root = int(cells.time.argmin())
    distance, before = dijkstra(graph.maximum(graph.T), directed=False, indices=root, return_predecessors=True)
    ways = []
    for group in _by_size(cells.label):
        members = np.flatnonzero((cells.label == group) & np.isfinite(distance))
        if group == cells.label[root] or len(members) < 10:
            continue
        last = members[np.argsort(cells.time[members])][-max(PATHS, len(members) // 10) :]
        for end in last[np.linspace(0, len(last) - 1, PATHS).astype(int)]:
            way = [int(end)]
            while way[-1] != root:
                way.append(int(before[way[-1]]))
            if len(way) > 3:
                ways.append((str(group), np.array(way[::-1])))
    return ways


def _curve(points: Array) -> Array:
    """Return a way through cells [n, 2] as T points, smoothed by a running mean whose ends stay."""
    at = np.linspace(0, len(points) - 1, POINTS)
    fine = np.stack([np.interp(at, np.arange(len(points)), column) for column in points.T], axis=1)
    half = POINTS // 10
    padded = np.pad(fine, ((half, half), (0, 0)), mode="reflect", reflect_type="odd")
    kernel = np.ones(2 * half + 1) / (2 * half + 1)
    return np.stack([np.convolve(column, kernel, mode="valid") for column in padded.T], axis=1)


def _time_view(cells: Cells, ways: list[tuple[str, NDArray[np.int64]]]) -> View:
    """Return the view along pseudotime: across, the line that best tells the groups apart (see ``plane.towards``)."""
    assert cells.time is not None
    first = cells.label[int(cells.time.argmin())]
    names = [name for name in _by_size(cells.label) if name != first and (cells.label == name).sum() >= 10]
    x = cells.scores[:, 0]
    if len(names) > 1:
        number = {name: k for k, name in enumerate(names)}
        ends = np.array([number.get(name, -1) for name in cells.label])
        states = np.stack([cells.scores[ends == k].mean(axis=0) for k in range(len(names))])
        project = plane.towards(plane.line(states), states, ends[ends >= 0], cells.scores[ends >= 0])
        x = project(cells.scores)[:, 0]
    points = np.column_stack([x, cells.time])
    room = 0.12 * np.ptp(x)
    bounds = ((x.min() - room, x.max() + room), (0.0, 1.0))
    bandwidth = np.maximum(quasi_potential(points, bounds=bounds).bandwidth, [0.03 * np.ptp(x), 0.04])
    surface = quasi_potential(points, bandwidth=bandwidth, given=1, bounds=bounds)
    marks = []
    for name in names:
        inside = np.flatnonzero(cells.label == name)
        last = inside[np.argsort(cells.time[inside])][-max(1, len(inside) // 10) :]
        point = np.array([np.median(x[last]), np.median(cells.time[last])])
        marks.append(Mark(str(name), str(name), point, {"cells": percent(len(inside) / len(x))}))
    paths = tuple(Path(group, _curve(points[way])) for group, way in ways)
    caption = (
        f"Height: U(x | t) = -ln p(x | t) of {len(x):,} cells; across, the line through the principal components that "
        "best tells the groups apart, along, the rank in pseudotime. Names stand at the last tenth of a group. The "
        "slope along time is drawn for the eye and measures nothing."
    )
    axes = ("line of groups", cells.time_name)
    return View("time", "Along pseudotime", axes, surface, tuple(marks), paths, caption, downhill=True)
