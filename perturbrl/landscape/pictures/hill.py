"""The landscape of the Hill equations of a network: cells simulated from the progenitor, and the fixed points.

Letters: B cells, G genes, T recorded times, S stable fixed points.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl import rng, status
from perturbrl.errors import require
from perturbrl.landscape import kinetics, labels
from perturbrl.landscape.fixed_points import FixedPoints, basin_of, fixed_points, transitions, walk
from perturbrl.landscape.network import Network
from perturbrl.landscape.pictures.names import attractor_names, fates_or_names
from perturbrl.landscape.pictures.scene import Facts, percent, short_list
from perturbrl.landscape.pictures.views import Journeys
from perturbrl.landscape.simulate import DT, N_STEPS

Array = NDArray[np.float64]
EVERY = 3
ON = 0.5


def hill_landscape(network: Network, *, noise: float, seed: int, n_cells: int) -> tuple[Journeys, Facts]:
    """Return ``n_cells`` simulated cells, and a table of the stable fixed points, the largest basin first.

    Cells start as the progenitor; at random levels (uniform in [0, 1]^G) where the network names none.

    Raises
    ------
    UserError
        There is no stable fixed point.
    """
    with status.step("fixed points of the Hill equations"):
        points = fixed_points(network, stream(seed, "fixed points"))
    require(
        bool(points.stable.any()), "--dynamics hill",
        "no cell of the Hill equations comes to rest (a cycle); use --dynamics boolean",
    )  # fmt: skip
    stable = points.levels[points.stable]
    fates = [str(fate) for fate in labels.fates(torch.as_tensor(stable, dtype=torch.float32), network)]
    off = np.asarray((stable < labels.OFF_BELOW).all(axis=1))
    names = attractor_names(stable > ON, fates, network, off=off)
    with status.step(f"{n_cells:,} cells of the Hill equations"):
        path, ends = _cells(network, stable, noise, stream(seed, "cells"), n_cells)
    with status.step("transitions between fixed points"):
        moves = transitions(network, points, stream(seed, "transitions"), noise=noise)
    journeys = Journeys(
        levels=path, times=np.linspace(0, 1, len(path)), ends=ends, attractors=stable, names=names,
        start=np.array([float(g in network.start) for g in network.genes]) if network.start else None,
        fates=fates_or_names(fates, names), time_name=f"simulated time ({N_STEPS * DT:g} mRNA lifetimes)",
    )  # fmt: skip
    return journeys, _table(network, points, names, ends, moves, noise)


def _cells(
    network: Network, stable: Array, noise: float, generator: torch.Generator, n_cells: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the levels [T, B, G] of cells and the stable point that each would come to rest at, [B]."""
    net = kinetics.circuit(network)
    free = torch.full((len(network.genes),), torch.nan)
    start: Tensor = net.start.repeat(n_cells, 1)
    if not network.start:
        start = torch.rand(start.shape, generator=generator)
    path = walk(net, start, free, N_STEPS, generator, noise=noise, every=EVERY)
    ends = basin_of(net, path[-1], free, stable)
    return path.numpy(), ends


def _table(
    network: Network, points: FixedPoints, names: list[str], ends: NDArray[np.int64], moves: Array, noise: float
) -> Facts:
    reached = np.bincount(ends, minlength=len(names) + 1) / len(ends)
    error = np.sqrt(reached * (1 - reached) / len(ends))
    stable = np.flatnonzero(points.stable)
    rows = [
        (
            name,
            "stable point",
            percent(points.share[k], points.error[k]),
            percent(reached[i], error[i]),
            percent(1 - moves[i, i]),
            _exits(moves[i], i, names),
            f"{-1 / points.growth[k]:.1f}",
            short_list([g for g, level in zip(network.genes, points.levels[k], strict=True) if level > ON]),
        )
        for i, (name, k) in enumerate(zip(names, stable, strict=True))
    ]
    begin = "from the progenitor" if network.start else "from random levels, with noise"
    columns = ("attractor", "kind", "basin", begin, "leaves", "to", "return time", "genes on")
    notes = [
        f"Hill equations, noise {noise:g}. Basin: share of cells from levels uniform in [0, 1] that come to rest there "
        f"without noise, ± standard error. Leaves: probability that a cell there is in another basin after "
        f"{4 * N_STEPS * DT:g} mRNA lifetimes; return time in mRNA lifetimes (1 / slowest rate).",
        f"Unstable fixed points (saddles) met by Newton's method: {int((~points.stable).sum())}.",
    ]
    if max(points.unsettled, reached[-1]) > 0.001:
        notes.append(
            f"{percent(max(points.unsettled, reached[-1]))} of the cells come to rest at none of these points."
        )
    return Facts("Stable fixed points of the Hill equations", columns, tuple(rows), tuple(names), tuple(notes))


def _exits(moves: Array, here: int, names: list[str]) -> str:
    elsewhere = [(p, name) for j, (p, name) in enumerate(zip(moves, [*names, "elsewhere"], strict=True)) if j != here]
    best, name = max(elsewhere, default=(0.0, ""))
    return name if best > 0 else "-"


def stream(seed: int, name: str) -> torch.Generator:
    """Return the generator of one part of a picture."""
    return torch.Generator().manual_seed(rng.derive(seed, "pictures", name))
