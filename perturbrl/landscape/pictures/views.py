"""From cells on their way to two views: the plane of fates, and the line of fates along time.

Letters: T times, B cells, G genes, K attractors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perturbrl.landscape import plane
from perturbrl.landscape.pictures.scene import NO_GROUP, Mark, Path, View
from perturbrl.landscape.potential import quasi_potential

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
AllFacts = Mapping[str, Mapping[str, str]]
PATHS = 48
LEAST_SHARE = 0.02
LEAST_GRAIN, LEAST_TIME = 0.05, 0.02
"""Least bandwidths on the plane (the circle of attractors has radius 1) and along time (which ends at 1)."""
PROGENITOR = "progenitor"


@dataclass(frozen=True)
class Journeys:
    """Simulated cells seen at T times.

    ``levels`` [T, B, G] of any number type; ``times`` [T] in [0, 1]; ``ends`` [B] the attractor of each cell, K for
    none; ``attractors`` [K, G] and their ``names``; ``start`` [G] or None where cells start at random. ``grain`` is the
    bandwidth of the density in units of the plane, for cells on a lattice; None chooses it. ``fates``: the fate of each
    attractor, or its name where it has none.
    """

    levels: NDArray[Any]
    times: Array
    ends: Rows
    attractors: Array
    names: list[str]
    start: Array | None
    time_name: str
    fates: list[str]
    grain: float | None = None


def by_fate(journeys: Journeys) -> Journeys:
    """Return the same cells with one attractor for each fate, at the mean of its attractors weighted by their cells."""
    names = list(dict.fromkeys(journeys.fates))
    of = np.array([names.index(fate) for fate in journeys.fates])
    counts = np.bincount(journeys.ends, minlength=len(of) + 1)[: len(of)] + 1e-9
    levels = [np.average(journeys.attractors[of == k], axis=0, weights=counts[of == k]) for k in range(len(names))]
    ends = np.append(of, len(names))[journeys.ends]
    return replace(journeys, attractors=np.stack(levels), names=names, fates=names, ends=ends)


def views(journeys: Journeys, facts: Mapping[str, Mapping[str, str]], seed: int) -> tuple[View, View]:
    """Return the plane of fates with U = -ln p, and the line of fates against time with U = -ln p(x | time)."""
    generator = np.random.default_rng(seed)
    when = generator.integers(len(journeys.times), size=len(journeys.ends))
    once = journeys.levels[when, np.arange(len(when))].astype(np.float64)  # each cell at one time
    placed = _placed(journeys)
    shown = _shown(journeys, placed, generator)
    return _plane_view(journeys, once, placed, shown, facts), _time_view(journeys, once, when, placed, shown, facts)


def _plane_view(journeys: Journeys, once: Array, placed: Rows, shown: Rows, facts: AllFacts) -> View:
    project = _map(plane.circle(journeys.attractors[placed]), journeys, once, placed)
    points = _projected(project, journeys).reshape(-1, 2)
    bandwidth = quasi_potential(project(once)).bandwidth if journeys.grain is None else np.full(2, journeys.grain)
    bandwidth = bandwidth.clip(LEAST_GRAIN)
    bounds = _bounds(points, project(_named(journeys, placed)), bandwidth)
    surface = quasi_potential(points, bandwidth=bandwidth, n_cells=len(once), bounds=bounds)
    marks = [_mark(journeys, k, project(journeys.attractors[k]), facts) for k in placed]
    if journeys.start is not None:
        marks.append(Mark(PROGENITOR, NO_GROUP, project(journeys.start)))
    paths = tuple(Path(journeys.names[journeys.ends[b]], project(journeys.levels[:, b])) for b in shown)
    caption = (
        f"Height: quasi-potential U = -ln p, p the density of {len(once):,} simulated cells over the simulated time. "
        "The plane: the linear map of gene levels that best says which attractor a cell comes to, attractors on a "
        "circle. Level ground: no cells."
    )
    names = ("plane of fates, axis 1", "plane of fates, axis 2")
    return View("plane", "Plane of fates", names, surface, tuple(marks), paths, caption)


def _time_view(journeys: Journeys, once: Array, when: Rows, placed: Rows, shown: Rows, facts: AllFacts) -> View:
    project = _map(plane.line(journeys.attractors[placed]), journeys, once, placed)
    x, single = _projected(project, journeys)[..., 0], project(once)[:, 0]
    times = journeys.times[:, None]
    joint = np.column_stack([single, journeys.times[when]])
    bandwidth = quasi_potential(joint).bandwidth if journeys.grain is None else np.full(2, journeys.grain)
    bandwidth = bandwidth.clip([LEAST_GRAIN, LEAST_TIME])
    bounds = (*_bounds(x.reshape(-1, 1), project(_named(journeys, placed)), bandwidth[:1]), (0.0, 1.0))
    points = np.stack([x, np.broadcast_to(times, x.shape)], axis=-1).reshape(-1, 2)
    surface = quasi_potential(points, bandwidth=bandwidth, given=1, bounds=bounds, n_cells=len(once))
    ends = {k: np.array([project(journeys.attractors[k])[0], 1.0]) for k in placed}
    marks = [_mark(journeys, k, point, facts) for k, point in ends.items()]
    if journeys.start is not None:
        marks.append(Mark(PROGENITOR, NO_GROUP, np.array([project(journeys.start)[0], 0.0])))
    paths = tuple(Path(journeys.names[journeys.ends[b]], np.column_stack([x[:, b], journeys.times])) for b in shown)
    caption = (
        f"Height: U(x | t) = -ln p(x | t) of {len(once):,} simulated cells on the line that best says which attractor "
        "a cell comes to, against time. The slope along time is drawn for the eye and measures nothing."
    )
    names = ("line of fates", journeys.time_name)
    return View("time", "Along time", names, surface, tuple(marks), paths, caption, downhill=True)


def _bounds(points: Array, marks: Array, bandwidth: Array) -> tuple[tuple[float, float], ...]:
    """Return the ends of each axis: marks, all but the outermost thousandth of the points, and some room."""
    low, high = np.quantile(points, [0.0005, 0.9995], axis=0)
    low, high = np.minimum(low, marks.min(axis=0)), np.maximum(high, marks.max(axis=0))
    room = np.maximum(0.14 * (high - low), 4 * bandwidth)
    return tuple((float(a), float(b)) for a, b in zip(low - room, high + room, strict=True))


def _projected(project: plane.Projection, journeys: Journeys) -> Array:
    """Return where cells are at each time, [T, B, d]; time by time, as levels in float64 are large."""
    return np.stack([project(levels) for levels in journeys.levels])


def _map(places: Array, journeys: Journeys, once: Array, placed: Rows) -> plane.Projection:
    """Return the map that is fitted on the cells that come to the attractors ``placed``."""
    number = np.full(len(journeys.names) + 1, -1)
    number[placed] = np.arange(len(placed))
    ends = number[journeys.ends]
    return plane.towards(places, journeys.attractors[placed], ends[ends >= 0], once[ends >= 0])


def _named(journeys: Journeys, placed: Rows) -> Array:
    """Return the levels of what has a name on the views: attractors and the start."""
    start = [] if journeys.start is None else [journeys.start]
    return np.concatenate([journeys.attractors[placed], *(level[None] for level in start)])


def _mark(journeys: Journeys, k: int, point: Array, facts: AllFacts) -> Mark:
    name = journeys.names[k]
    return Mark(name, name, point, facts.get(name, {}))  # a table lists only the largest basins


def _reached(journeys: Journeys) -> Rows:
    """Return the attractors that some cell comes to, by number; all if none is."""
    reached = np.unique(journeys.ends[journeys.ends < len(journeys.names)])
    return reached if len(reached) else np.arange(len(journeys.names))


def _placed(journeys: Journeys) -> Rows:
    """Return the attractors that span the plane: those that at least ``LEAST_SHARE`` of the cells come to."""
    reached = _reached(journeys)
    often = [k for k in reached if (journeys.ends == k).mean() >= LEAST_SHARE]
    return np.array(often) if often else reached


def _shown(journeys: Journeys, placed: Rows, generator: np.random.Generator) -> Rows:
    """Return the cells whose way is drawn: of each attractor on the plane by its share, at least 3."""
    counts = np.array([(journeys.ends == k).sum() for k in placed])
    chosen = []
    for end, count in zip(placed, counts, strict=True):
        n = min(count, max(3, round(PATHS * count / max(1, counts.sum()))))
        chosen.append(generator.choice(np.flatnonzero(journeys.ends == end), n, replace=False))
    return np.concatenate(chosen)
