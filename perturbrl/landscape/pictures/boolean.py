"""The landscape of a Boolean network: its attractors, exact, and cells updated asynchronously.

Letters: B cells, G genes, T recorded times, A attractors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl import status
from perturbrl.landscape import labels
from perturbrl.landscape.attractors import (
    Attractor,
    AttractorIndex,
    Basins,
    attractors,
    basins,
    run_to_attractor,
    transition_probabilities,
)
from perturbrl.landscape.boolean import BooleanDynamics, draw_keys
from perturbrl.landscape.network import Network
from perturbrl.landscape.pictures.hill import stream
from perturbrl.landscape.pictures.names import attractor_names, fates_or_names
from perturbrl.landscape.pictures.scene import Facts, percent, short_list
from perturbrl.landscape.pictures.views import Journeys

Array = NDArray[np.float64]
UPDATES_PER_GENE = 12
TIMES = 60
GRAIN = 0.07
"""Bandwidth on the plane: states are points of a lattice, which no likelihood can choose a bandwidth for."""
MOST_ROWS = 30
MOST_TRANSITIONS = 64


def boolean_table(network: Network, seed: int) -> tuple[tuple[Attractor, ...], list[str], Facts]:
    """Return the attractors of a network, their names, and a table of them, the largest basin first.

    Raises
    ------
    UserError
        The network is too large for the exact solver.
    """
    with status.step("attractors of the Boolean network"):
        found = attractors(network)
    levels = _levels(found)
    names = attractor_names(levels > 0.5, _fates(found, network), network, off=(levels == 0).all(axis=1))
    with status.step("basins of the Boolean network"):
        uniform = basins(network, found, seed=seed)
        begin = _start(network)
        from_start = None if begin is None else basins(network, found, start=begin, seed=seed)
        leaving = None
        if len(found) <= MOST_TRANSITIONS:
            moves = transition_probabilities(network, found, seed=seed).probabilities
            leaving = moves.sum(axis=1) - np.diag(moves)
    return found, names, _table(network, found, names, uniform, from_start, leaving)


def boolean_journeys(
    network: Network, found: Sequence[Attractor], names: list[str], *, seed: int, n_cells: int
) -> Journeys:
    """Return cells updated asynchronously, from random states if the network has no start or it is an attractor."""
    dynamics, draws = BooleanDynamics(network), stream(seed, "boolean cells")
    index, begin, n_genes = AttractorIndex(found), _start(network), len(network.genes)
    if begin is not None and int(index.find(begin)[0]) >= 0:
        begin = None
    key = draw_keys(n_cells, draws)
    state = torch.randint(2, (n_cells, n_genes), generator=draws, dtype=torch.uint8)
    if begin is not None:
        state = begin.repeat(n_cells, 1)
    each = max(1, UPDATES_PER_GENE * n_genes // TIMES)
    seen = [state]
    with status.step(f"{n_cells:,} cells of the Boolean network"):
        for k in range(TIMES):
            state = dynamics.run(state, each, key, first=k * each)
            seen.append(state)
        ends = run_to_attractor(dynamics, index, state, draw_keys(n_cells, draws))[1]
    return Journeys(
        levels=torch.stack(seen).numpy(), times=np.linspace(0, 1, TIMES + 1), attractors=_levels(found), names=names,
        ends=np.where(ends.numpy() < 0, len(names), ends.numpy()), grain=GRAIN,
        start=None if begin is None else begin[0].double().numpy(),
        fates=fates_or_names(_fates(found, network), names), time_name=f"asynchronous updates ({TIMES * each:,})",
    )  # fmt: skip


def _start(network: Network) -> Tensor | None:
    if not network.start:
        return None
    return torch.tensor([[gene in network.start for gene in network.genes]], dtype=torch.uint8)


def _levels(found: Sequence[Attractor]) -> Array:
    """Return the share of an attractor's states in which each gene is on, [A, G]."""
    return np.stack([attractor.states.double().mean(0).numpy() for attractor in found])


def _fates(found: Sequence[Attractor], network: Network) -> list[str]:
    levels = torch.as_tensor(_levels(found), dtype=torch.float32)
    return [str(fate) for fate in labels.fates(levels, network)]


def _table(
    network: Network,
    found: Sequence[Attractor],
    names: list[str],
    uniform: Basins,
    from_start: Basins | None,
    leaving: Array | None,
) -> Facts:
    columns = ["attractor", "kind", "states", "basin", "U = -ln basin"]
    columns += ["from the progenitor"] if from_start is not None else []
    columns += ["left after one flip"] if leaving is not None else []
    order = np.argsort(-uniform.shares, kind="stable")
    rows = []
    for k in order[:MOST_ROWS]:
        share = float(uniform.shares[k])
        row = [names[k], found[k].kind, f"{found[k].n_states:,}", percent(share, float(uniform.errors[k]))]
        row.append(f"{0 - np.log(share):.2f}" if share > 0 else "-")  # never -0.00
        row += [percent(from_start.shares[k], from_start.errors[k])] if from_start is not None else []
        row += [percent(leaving[k])] if leaving is not None else []
        level = found[k].states.double().mean(0).numpy()
        rows.append((*row, short_list([gene for gene, on in zip(network.genes, level, strict=True) if on > 0.5])))
    how = "exact" if uniform.exact else "simulated, ± standard error"
    notes = [
        f"Asynchronous updates. Basin: share of cells from uniformly drawn states that end there ({how}). Left after "
        "one flip: probability that a cell there ends elsewhere after one gene, drawn uniformly, was flipped. "
        "Genes on: in more than half of its states."
    ]
    if len(found) > MOST_ROWS:
        notes.append(f"The {MOST_ROWS} attractors of largest basin of {len(found):,}.")
    shown = tuple(names[k] for k in order[:MOST_ROWS])
    title = f"Attractors of the Boolean network ({len(found):,})"
    return Facts(title, (*columns, "genes on"), tuple(rows), shown, tuple(notes))
