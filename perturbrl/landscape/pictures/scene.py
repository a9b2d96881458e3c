"""The parts of a picture of a landscape, as plain arrays and text.

Letters: T points of a path, M grid points of an axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from perturbrl.landscape.network import Network
from perturbrl.landscape.potential import Surface
from perturbrl.landscape.regulations import regulations

Array = NDArray[np.float64]
NO_GROUP = ""
"""The group of what belongs to no fate, such as the progenitor; drawn in grey."""


@dataclass(frozen=True)
class Mark:
    """A named point [2] of a view: an attractor, the progenitor or a well; ``facts`` are shown beside it."""

    name: str
    group: str
    point: Array
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Path:
    """The way of one cell, points [T, 2]; ``group`` is the fate that it ends in."""

    group: str
    points: Array


@dataclass(frozen=True)
class View:
    """A surface over a plane. ``downhill`` says that the second axis is time, which drawings let run downhill."""

    key: str
    title: str
    axis_names: tuple[str, str]
    surface: Surface
    marks: tuple[Mark, ...]
    paths: tuple[Path, ...]
    caption: str
    downhill: bool = False


@dataclass(frozen=True)
class Facts:
    """A table of text: the attractors or the groups of cells. The first column is the name, ``groups`` one a row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    groups: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edge:
    """A regulation: ``sign`` is + (activates), - (represses) or ± (both, or no effect of its own)."""

    source: str
    target: str
    sign: str


@dataclass(frozen=True)
class Wiring:
    """A network to draw: genes, signed edges, and the genes that are on in each fate."""

    genes: tuple[str, ...]
    edges: tuple[Edge, ...]
    on: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """Everything that the pictures and the page show. ``groups`` are the fates, in the order of their colours."""

    title: str
    lead: str
    groups: tuple[str, ...]
    views: tuple[View, ...]
    tables: tuple[Facts, ...]
    wiring: Wiring | None = None


def wiring(network: Network, on: Mapping[str, tuple[str, ...]]) -> Wiring:
    """Return the genes of a network and its signed edges, in the order of its rules; ``on``: see ``Wiring``."""
    signs = {1: "+", -1: "-", 0: "±"}
    edges = tuple(Edge(each.regulator, each.target, signs[each.sign]) for each in regulations(network))
    return Wiring(network.genes, edges, on)


def numbered(labels: Sequence[str]) -> list[str]:
    """Return labels, those that occur more than once with a number: ``monocyte 1``, ``monocyte 2``."""
    seen: dict[str, int] = {}
    names = []
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        names.append(f"{label} {seen[label]}" if list(labels).count(label) > 1 else label)
    return names


def percent(share: float, error: float | None = None) -> str:
    """Return a share as text: ``33.1 %``, with its standard error ``33.1 ± 1.5 %``."""
    return f"{100 * share:.1f} %" if not error else f"{100 * share:.1f} ± {100 * error:.1f} %"


def short_list(genes: Sequence[str], most: int = 12) -> str:
    """Return names side by side, at most ``most`` of them; a dash for none."""
    return " ".join(genes[:most]) + (f" ... ({len(genes)})" if len(genes) > most else "") or "-"
