"""Attractors of the asynchronous Boolean network, their basins, and the transitions between them.

Letters: G genes, A attractors, B cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import biodivine_aeon as aeon
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl.errors import UserError
from perturbrl.landscape import symbolic
from perturbrl.landscape.boolean import BooleanDynamics, draw_keys, hold
from perturbrl.landscape.network import Network
from perturbrl.landscape.state_graph import Floats, absorption, pack, state_graph, unpack

MOST_STATES = 4096
MOST_ATTRACTORS = 4096
SECONDS = 120.0
"""How long the exact solver may take by default."""
EXACT_GENES = 14
"""The most genes whose basins are solved exactly by default."""
MOST_UPDATES = 1 << 20
"""Asynchronous updates after which a simulated cell counts as undecided."""


@dataclass(frozen=True, eq=False)
class Attractor:
    """A set of states that the asynchronous network does not leave, and in which each is reached from each.

    ``states`` [n, G] uint8 in increasing order: all, or a random sample where there are more than were asked for.
    ``kind``: ``fixed point``, ``cycle`` (each state has one successor) or ``complex``.
    """

    states: Tensor
    kind: str
    n_states: int
    _set: tuple[aeon.VertexSet, aeon.AsynchronousGraph, Network] = field(repr=False)

    def contains(self, states: Tensor) -> Tensor:
        """Return which of ``states`` [n, G] are states of the attractor, [n] bool; one decision for each state."""
        return symbolic.contains(*self._set, states)


def attractors(
    network: Network, held: Tensor | None = None, *, most: int = MOST_STATES, seconds: float = SECONDS
) -> tuple[Attractor, ...]:
    """Return all attractors, exact, in the order of their smallest states (the first gene is the highest digit).

    Found by biodivine_aeon (Benes, Brim, Pastva, Safranek, "Computing bottom SCCs symbolically using transition guided
    reduction", CAV 2021).

    Parameters
    ----------
    network
        Any number of genes; some hundred are usually fast where inputs are held.
    held
        [G] clamps as of ``perturb.clamp``.
    most
        States listed of one attractor.
    seconds
        Time limit (in the main thread).

    Raises
    ------
    UserError
        The network is too large for the exact solver, or has too many attractors.
    """
    graph, sets = symbolic.attractor_sets(network, held, MOST_ATTRACTORS, seconds)
    result = []
    for part in sets:
        n = int(part.cardinality())
        states = symbolic.states(part, graph, network, most)
        kind = "fixed point" if n == 1 else "cycle" if symbolic.is_cycle(part, graph) else "complex"
        first = tuple(states[0].tolist()) if n <= most else symbolic.smallest(part, graph, network)
        result.append((first, Attractor(states, kind, n, (part, graph, network))))
    return tuple(found for _, found in sorted(result, key=lambda pair: pair[0]))


class AttractorIndex:
    """Which attractor a state is in, for many states at once."""

    def __init__(self, found: Sequence[Attractor], device: torch.device | str = "cpu") -> None:
        self.found = tuple(found)
        self._whole = [k for k, a in enumerate(found) if len(a.states) == a.n_states]
        self._sampled = [k for k in range(len(found)) if k not in self._whole]
        n_genes = found[0].states.shape[1]
        states = torch.cat([found[k].states for k in self._whole] or [torch.zeros(0, n_genes, dtype=torch.uint8)])
        owner = torch.cat([torch.full((found[k].n_states,), k) for k in self._whole] or [torch.zeros(0).long()])
        weights = torch.randint(-(2**62), 2**62, (n_genes,), generator=torch.Generator().manual_seed(n_genes))
        hashed, order = (states * weights).sum(1).sort()
        assert not (hashed.diff() == 0).any(), "two states of attractors have one hash"
        self._weights, self._hashed = weights.to(device), hashed.to(device)
        self._states, self._owner = states[order].to(device), owner[order].to(device)

    def find(self, states: Tensor) -> Tensor:
        """Return the number of the attractor of each of ``states`` [..., G] uint8, [...] int64; -1 where none."""
        flat = states.reshape(-1, states.shape[-1])
        result = torch.full((len(flat),), -1, device=flat.device)
        if len(self._hashed):
            place = torch.searchsorted(self._hashed, (flat * self._weights).sum(1)).clamp_(max=len(self._hashed) - 1)
            result = torch.where((self._states[place] == flat).all(1), self._owner[place], result)
        for k in self._sampled:
            rest = (result < 0).nonzero()[:, 0]
            result[rest[self.found[k].contains(flat[rest].cpu()).to(flat.device)]] = k
        return result.reshape(states.shape[:-1])


def run_to_attractor(
    dynamics: BooleanDynamics,
    index: AttractorIndex,
    state: Tensor,
    key: Tensor,
    *,
    held: Tensor | None = None,
    most_updates: int = MOST_UPDATES,
) -> tuple[Tensor, Tensor]:
    """Update cells asynchronously until each is in an attractor; return its state [B, G] and attractor [B] (-1: none).

    A cell is looked at after 4 G, 8 G, 16 G, ... updates, so its end depends on its key alone. ``index`` must hold the
    attractors under ``held`` ([B, G] or [G]); other arguments as those of ``BooleanDynamics.run``.
    """
    state = hold(state, held).clone()
    clamps = None if held is None else held.expand(state.shape)
    which = index.find(state)
    done, until = 0, 4 * dynamics.n_genes
    while done < most_updates and len(rest := (which < 0).nonzero()[:, 0]):
        until = min(until, most_updates)
        part = None if clamps is None else clamps[rest]
        state[rest] = dynamics.run(state[rest], until - done, key[rest], held=part, first=done)
        which[rest] = index.find(state[rest])
        done, until = until, 2 * until
    return state, which


@dataclass(frozen=True)
class Basins:
    """Where cells end: ``shares`` [A] of the attractors, in the order of ``attractors``.

    ``errors`` [A] are standard errors, 0 where ``exact``. Simulated shares add to less than 1 where cells were still
    undecided.
    """

    shares: NDArray[np.float64]
    errors: NDArray[np.float64]
    exact: bool


def basins(
    network: Network,
    found: Sequence[Attractor] | None = None,
    *,
    start: Tensor | None = None,
    held: Tensor | None = None,
    n_cells: int = 10_000,
    seed: int = 0,
    exact_genes: int = EXACT_GENES,
) -> Basins:
    """Return the share of cells that end in each attractor.

    Parameters
    ----------
    network, found
        ``found`` are the attractors of the network under ``held``; computed when None.
    start
        [n, G] uint8: cells start in each of these states equally often; None: in all 2^G states.
    held
        [G] clamps as of ``perturb.clamp``, from the start on.
    n_cells, seed
        Of the simulation, which networks of more than ``exact_genes`` genes take; others are solved exactly.

    Raises
    ------
    UserError
        As ``attractors`` and ``state_graph.absorption``; or ``start`` is not [n, G].
    """
    shares, errors, exact = _ends(network, found, [start], held, n_cells, seed, exact_genes)
    return Basins(shares[0], errors[0], exact)


@dataclass(frozen=True)
class Transitions:
    """``probabilities`` [A, A] from (row) and to (column) attractors, with standard errors (0 where ``exact``)."""

    probabilities: NDArray[np.float64]
    errors: NDArray[np.float64]
    exact: bool


def transition_probabilities(
    network: Network,
    found: Sequence[Attractor] | None = None,
    *,
    held: Tensor | None = None,
    n_cells: int = 10_000,
    seed: int = 0,
    exact_genes: int = EXACT_GENES,
) -> Transitions:
    """Return where a cell of an attractor ends after one gene that is not held, drawn uniformly, is flipped once.

    The cell is drawn uniformly from the listed states of its attractor. ``n_cells`` for each attractor; other arguments
    as those of ``basins``.
    """
    found = attractors(network, held) if found is None else found
    free = [g for g in range(len(network.genes)) if held is None or bool(held[g].isnan())]
    flips = torch.eye(len(network.genes), dtype=torch.uint8)[free]
    starts = [(a.states[:, None] ^ flips).reshape(-1, len(network.genes)) for a in found]
    return Transitions(*_ends(network, found, starts, held, n_cells, seed, exact_genes))


def _ends(
    network: Network,
    found: Sequence[Attractor] | None,
    starts: Sequence[Tensor | None],
    held: Tensor | None,
    n_cells: int,
    seed: int,
    exact_genes: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Return shares and errors, [starts, A], of cells from each of ``starts`` [n, G] (None: all states)."""
    found = attractors(network, held) if found is None else found
    dynamics, n_genes = BooleanDynamics(network), len(network.genes)
    for start in starts:
        if start is not None and (start.ndim != 2 or start.shape[1] != n_genes or not len(start)):
            raise UserError(f"start: shape is {tuple(start.shape)}; [states, {n_genes} genes] is needed")
    if n_genes <= exact_genes and all(len(a.states) == a.n_states for a in found):
        shares = _exact_ends(network, found, starts, held)
        return shares, np.zeros_like(shares), True
    generator, index = torch.Generator().manual_seed(seed), AttractorIndex(found)
    counts = np.empty((len(starts), len(found)))
    for k, start in enumerate(starts):
        if start is None:
            state = torch.randint(2, (n_cells, n_genes), generator=generator, dtype=torch.uint8)
        else:
            state = start[torch.arange(n_cells) % len(start)]
        which = run_to_attractor(dynamics, index, state, draw_keys(n_cells, generator), held=held)[1]
        counts[k] = torch.bincount(which + 1, minlength=len(found) + 1)[1:]
    shares = counts / n_cells
    return shares, np.sqrt(shares * (1 - shares) / n_cells), False


def _exact_ends(
    network: Network, found: Sequence[Attractor], starts: Sequence[Tensor | None], held: Tensor | None
) -> Floats:
    """Return the shares of ``_ends``; a state is held before it moves."""
    n_genes = len(network.genes)
    graph = state_graph(network, () if held is None else np.flatnonzero(~held.isnan().numpy()).tolist())
    ends = absorption(graph, [np.sort(pack(a.states.numpy())) for a in found]).probabilities
    every = torch.from_numpy(unpack(np.arange(graph.n_states), n_genes))
    return np.stack([ends[pack(hold(every if s is None else s, held).numpy())].mean(0) for s in starts])
