"""Fates from fixed points: marker genes that tell each from the others, and names after them.

Letters: G genes, K fixed points.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl import rng
from perturbrl.landscape.boolean import BooleanDynamics, draw_keys
from perturbrl.landscape.network import Markers, Network

Bits = NDArray[np.uint8]
N_CELLS, UPDATES = 256, 40
"""Cells simulated to look for fixed points, and updates of each gene."""
LEAST_SHARE, MOST_FATES = 0.02, 12
"""Share of the cells that makes a fixed point a fate, and the most fates."""


def common_fixed_points(dynamics: BooleanDynamics, start: Tensor, seed: int) -> tuple[Bits, float]:
    """Return the fixed points in which cells end, [K, G], the most frequent first, and the share that ends in none.

    ``start`` is uint8, [cells, G]; a fixed point of fewer than ``LEAST_SHARE`` of the cells is left out.
    """
    keys = draw_keys(len(start), torch.Generator().manual_seed(seed))
    ends = dynamics.run(start, UPDATES * dynamics.n_genes, keys)
    settled = (dynamics.image(ends) == ends).all(dim=1)
    states, counts = torch.unique(ends[settled], dim=0, return_counts=True)
    common = counts >= LEAST_SHARE * len(start)
    order = counts[common].argsort(descending=True, stable=True)
    return states[common][order].numpy(), float((~settled).double().mean())


def with_fates(network: Network) -> Network:
    """Return a network with its most common fixed points from random states as fates, if it names none itself."""
    if network.fates:
        return network
    draws = torch.Generator().manual_seed(rng.derive(0, "network", "fates"))
    start = torch.randint(2, (N_CELLS, len(network.genes)), generator=draws, dtype=torch.uint8)
    points, _ = common_fixed_points(BooleanDynamics(network), start, rng.derive(0, "network", "fates", "cells"))
    return dataclasses.replace(network, fates=named_fates(points[:MOST_FATES], network.genes))


def named_fates(points: Bits, genes: Sequence[str], first: Sequence[int] = ()) -> dict[str, Markers]:
    """Return the markers of each fixed point [K, G] by its name; the genes ``first`` are taken where they will do.

    A name is the genes that are on and ``high``; where these have none, or are another's, the genes that are off.
    """
    fates: dict[str, Markers] = {}
    for k in range(len(points)):
        present, absent = _markers(k, points, first)
        on, off = tuple(genes[g] for g in present), tuple(genes[g] for g in absent)
        label = "-".join((*on, "high")) if on else "-".join((*off, "low"))
        fates[label if label not in fates else "-".join((label, *off, "low"))] = (on, off)
    return fates


def _markers(k: int, points: Bits, first: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the genes that are on, and off, in fixed point k and in no other.

    The first is on in fixed point k, so that a fate has a gene to be named after, unless it has none on.
    """
    order = np.array([*first, *sorted(set(range(points.shape[1])) - set(first))])
    mine, others = points[k], np.delete(points, k, axis=0)
    chosen: list[int] = []
    while len(others) or not chosen:
        differs = (others != mine)[:, order].sum(axis=0)
        if not chosen and (mine[order] * (differs if len(others) else 1)).any():
            differs = mine[order] * (differs if len(others) else 1)
        best = int(order[int(differs.argmax())])
        chosen.append(best)
        others = others[others[:, best] == mine[best]]
    return [g for g in chosen if mine[g]], [g for g in chosen if not mine[g]]
