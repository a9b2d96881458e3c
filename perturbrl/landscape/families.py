"""Networks by seed: scale-free, modular or feed-forward, each with a progenitor that has several fates.

A network has a core of switches, two genes that shut each other off: embedded switches are what gives a random Boolean
network attractors far apart (Ghaffarizadeh, Flann and Podgorski 2014, BMC Bioinformatics 15(Suppl 7):S7). The wiring of
all other genes is the family's. A draw is kept only if simulated cells that leave the progenitor end in several fixed
points, which become the fates.

Letters: G genes, K attractors.
"""

from __future__ import annotations

import numpy as np
import torch

from perturbrl import rng
from perturbrl.errors import UserError, choice, require
from perturbrl.landscape import wiring
from perturbrl.landscape.boolean import BooleanDynamics
from perturbrl.landscape.markers import MOST_FATES, N_CELLS, Bits, common_fixed_points, named_fates
from perturbrl.landscape.network import Markers, Network
from perturbrl.landscape.wiring import FAMILIES, FEWEST, MOST, Draft

__all__ = ["FAMILIES", "generate"]

N_DRAWS = 200
THRESHOLD = 0.4
"""Level at half effect: below a half, so that a gene whose activators are on is itself on through many steps."""
MOST_UNSETTLED = 0.02
"""Most cells that may end in no fixed point."""


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
    fates, unsettled = common_fixed_points(dynamics, start.repeat(N_CELLS, 1), seed)
    fewest = 2 if len(draft.core) < wiring.CORE[-1] else 3
    if not fewest <= len(fates) <= MOST_FATES or unsettled > MOST_UNSETTLED:
        return None
    return start.numpy(), fates


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
    fates = named_fates(attractors, draft.genes, draft.core)
    stages: dict[str, Markers] = {}
    first, second = draft.core[1:3]
    for winner, loser in ((first, second), (second, first)):
        branch = (attractors[:, winner] == 1) & (attractors[:, loser] == 0)
        if 2 <= branch.sum() < len(attractors):
            stages[f"{genes[winner]}-progenitor"] = ((str(genes[winner]),), (str(genes[loser]),))
    on_at_start = frozenset(genes[start == 1].tolist())
    return Network(dict(zip(draft.genes, draft.rules, strict=True)), on_at_start, fates, stages, {}, THRESHOLD, name)
