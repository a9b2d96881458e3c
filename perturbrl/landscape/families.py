"""Networks by seed: scale-free, modular or feed-forward, each with a progenitor that has several fates.

A network has a core of switches, two genes that shut each other off: embedded switches are what gives a random Boolean
network attractors far apart (Ghaffarizadeh, Flann and Podgorski 2014, BMC Bioinformatics 15(Suppl 7):S7). The wiring of
all other genes is the family's. A draw is kept only if simulated cells that leave the progenitor end in several fixed
points, which become the fates.

Letters: G genes, K attractors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from perturbrl import rng
from perturbrl.errors import UserError, choice, require
from perturbrl.landscape import wiring
from perturbrl.landscape.boolean import BooleanDynamics, draw_keys
from perturbrl.landscape.network import Markers, Network
from perturbrl.landscape.wiring import FAMILIES, FEWEST, MOST, Draft

__all__ = ["FAMILIES", "generate"]

N_DRAWS = 200
THRESHOLD = 0.4
"""Level at half effect: below a half, so that a gene whose activators are on is itself on through many steps."""
N_CELLS, UPDATES = 256, 40
"""Cells simulated to look for fates, and updates of each gene."""
LEAST_SHARE, MOST_FATES, MOST_UNSETTLED = 0.02, 12, 0.02
"""Share of the cells that makes an attractor a fate, most fates, and most cells that end in no fixed point."""
Bits = NDArray[np.uint8]


def generate(kind: str, n_regulators: int, seed: int) -> Network:
    """Return the network of a family with ``n_regulators`` genes that a seed draws.

    Its ``start`` is a steady progenitor, its ``fates`` are the fixed points that cells reach from there, each known by
    as few marker genes as tell it from the others and named after them; ``stages`` are the branches of two fates or
    more. The rules are nested canalising, or true when enough regulators are as they should be.

    Parameters
    ----------
    kind
        ``scale_free``, ``modular`` or ``feed_forward``.
    n_regulators
        The number of genes, 5 to 500.
    seed
        Any number from 0 up; the same network on every machine.

    Raises
    ------
    UserError
        Another kind, or a number of genes out of range; or no draw with several fates was found, which says so.
    """
    choice(kind, FAMILIES, "family")
    require(FEWEST <= n_regulators <= MOST, "n_regulators", f"must be {FEWEST} to {MOST}, got {n_regulators}")
    require(seed >= 0, "network_seed", f"must be at least 0, got {seed}")
    for attempt in range(N_DRAWS):
        draft = wiring.draw(kind, n_regulators, rng.numpy_generator(seed, "network", kind, n_regulators, attempt))
        found = _landscape(draft, rng.derive(seed, "network", kind, n_regulators, attempt, "cells"))
        if found is not None:
            start, attractors = found
            return _named(draft, start, attractors, f"{kind}_{n_regulators}_{seed}")
    where = f"family={kind} n_regulators={n_regulators} network_seed={seed}"
    raise UserError(f"{where}: none of {N_DRAWS} draws has several fates; choose another network_seed")


def _landscape(draft: Draft, seed: int) -> tuple[Bits, Bits] | None:
    """Return the progenitor [G] and the fates [K, G], the most frequent first; None where there are too few or none."""
    dynamics = BooleanDynamics(_network(draft))
    start = _progenitor(draft, dynamics)
    if start is None:
        return None
    keys = draw_keys(N_CELLS, torch.Generator().manual_seed(seed))
    ends = dynamics.run(start.repeat(N_CELLS, 1), UPDATES * len(start), keys)
    settled = (dynamics.image(ends) == ends).all(dim=1)
    states, counts = torch.unique(ends[settled], dim=0, return_counts=True)
    common = counts >= LEAST_SHARE * N_CELLS
    fates = states[common][counts[common].argsort(descending=True, stable=True)]
    fewest = 2 if len(draft.core) < wiring.CORE[-1] else 3
    if not fewest <= len(fates) <= MOST_FATES or float((~settled).double().mean()) > MOST_UNSETTLED:
        return None
    return start.numpy(), fates.numpy()


def _progenitor(draft: Draft, dynamics: BooleanDynamics) -> torch.Tensor | None:
    """Return the steady state [G] with the signal on and every switch off; None where nothing settles."""
    held = torch.full((len(draft.genes),), torch.nan)
    held[list(draft.core[1:])] = 0.0
    state = torch.zeros(1, len(draft.genes), dtype=torch.uint8)
    state[0, draft.core[0]] = 1
    for _ in range(2 * len(draft.genes)):
        image = dynamics.image(state, held)
        if torch.equal(image, state):
            return state[0]
        state = image
    return None


def _network(draft: Draft) -> Network:
    return Network(dict(zip(draft.genes, draft.rules, strict=True)), frozenset(), {}, {}, {}, THRESHOLD)


def _named(draft: Draft, start: Bits, attractors: Bits, name: str) -> Network:
    """Return the network with its progenitor, fates and stages."""
    genes = np.array(draft.genes)
    fates: dict[str, Markers] = {}
    for k in range(len(attractors)):
        present, absent = _markers(k, attractors, draft.core)
        on, off = tuple(genes[present].tolist()), tuple(genes[absent].tolist())
        label = "-".join((*on, "high")) if on else "-".join((*off, "low"))
        fates[label if label not in fates else "-".join((label, *off, "low"))] = (on, off)
    stages: dict[str, Markers] = {}
    first, second = draft.core[1:3]
    for winner, loser in ((first, second), (second, first)):
        branch = (attractors[:, winner] == 1) & (attractors[:, loser] == 0)
        if 2 <= branch.sum() < len(attractors):
            stages[f"{genes[winner]}-progenitor"] = ((str(genes[winner]),), (str(genes[loser]),))
    on_at_start = frozenset(genes[start == 1].tolist())
    return Network(dict(zip(draft.genes, draft.rules, strict=True)), on_at_start, fates, stages, {}, THRESHOLD, name)


def _markers(k: int, attractors: Bits, core: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the genes that are on, and off, in attractor k and in no other: few of them, of the core where it can be.

    The first is on in attractor k, so that a fate has a gene to be named after, unless it has none on.
    """
    rest = sorted(set(range(attractors.shape[1])) - set(core))
    order = np.array([*core, *rest])
    mine, others = attractors[k], np.delete(attractors, k, axis=0)
    chosen: list[int] = []
    while len(others):
        differs = (others != mine)[:, order].sum(axis=0)
        if not chosen and (mine[order] * differs).any():
            differs = differs * mine[order]
        best = int(order[int(differs.argmax())])
        chosen.append(best)
        others = others[others[:, best] == mine[best]]
    return [g for g in chosen if mine[g]], [g for g in chosen if not mine[g]]
