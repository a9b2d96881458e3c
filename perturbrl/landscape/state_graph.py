"""The state graph of an asynchronous Boolean network: its attractors, and the probability of ending in each of them.

One update draws one gene uniformly and sets it to its rule. The state with index s has gene g on where bit g of s is
set, so flipping a gene flips a bit, and a gene's 2^G flips are a reversed axis: no list of edges is stored.

Letters: G genes, N = 2^G states, A attractors, K columns.

CPU seconds of attractors and absorption probabilities (``benchmarks/bench_control.py``, generated networks): 15 genes
0.1, 18 1.6, 20 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from perturbrl.errors import UserError
from perturbrl.landscape.m_matrix import Solver
from perturbrl.landscape.network import Network

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Words = NDArray[np.uint32]
Scalar = TypeVar("Scalar", bound=np.generic)

MOST_GENES = 22  # 2^22 states need about 6 GB in the solve
TOLERANCE = 1e-9  # of absorption probabilities, as bounded, not as estimated
_WORD = 62  # attractors whose reachability fits a signed 64-bit word


@dataclass(frozen=True)
class StateGraph:
    """All states of a network: ``changes`` [N] uint32, whose bit g is set where an update of gene g changes it."""

    genes: tuple[str, ...]
    changes: Words

    @property
    def n_genes(self) -> int:
        """G."""
        return len(self.genes)

    @property
    def n_states(self) -> int:
        """N = 2^G."""
        return len(self.changes)

    @cached_property
    def n_active(self) -> NDArray[np.uint8]:
        """For each state [N], the number of genes whose update changes it; 0 for a fixed point."""
        total = np.zeros(self.n_states, np.uint8)
        for g in range(self.n_genes):
            total += self.active(g)
        return total

    def active(self, gene: int) -> NDArray[np.bool_]:
        """Return for each state [N] whether an update of ``gene`` changes it."""
        return (self.changes >> np.uint32(gene) & np.uint32(1)).astype(bool)

    def frozen(self, genes: Iterable[int]) -> StateGraph:
        """Return the graph in which ``genes`` keep the value that a state gives them (are held)."""
        mask = sum(1 << g for g in set(genes))
        return StateGraph(self.genes, self.changes & np.uint32(~mask & 0xFFFFFFFF))

    def update_matrix(self, states: Ints) -> sparse.csr_array:
        """Return the probabilities [n, N] of the state after one update from each of ``states`` [n]."""
        rows, columns = self.edges(states)
        stay = 1.0 - self.n_active[states] / self.n_genes
        rows = np.concatenate([rows, np.arange(len(states))])
        columns = np.concatenate([columns, states])
        share = np.concatenate([np.full(len(rows) - len(states), 1.0 / self.n_genes), stay])
        return sparse.csr_array((share, (rows, columns)), shape=(len(states), self.n_states))

    def jump_matrix(self) -> sparse.csr_array:
        """Return the probabilities [N, N] of the next state that differs; the rows of fixed points are 0."""
        rows, columns = self.edges(np.arange(self.n_states))
        share = 1.0 / self.n_active[rows]
        return sparse.csr_array((share, (rows, columns)), shape=(self.n_states, self.n_states))

    def after_update(self, values: Floats) -> Floats:
        """Return the expectation of ``values`` [N] after one update of a gene drawn uniformly, [N]."""
        total = np.zeros_like(values)
        for g in range(self.n_genes):
            total += np.where(self.active(g), flipped(values, g), values)
        return total / self.n_genes

    def edges(self, states: Ints) -> tuple[Ints, Ints]:
        """Return the edges that leave ``states``: positions in ``states``, and the state each edge leads to."""
        rows, columns = [], []
        for g in range(self.n_genes):
            leaving = np.flatnonzero(self.changes[states] >> np.uint32(g) & np.uint32(1))
            rows.append(leaving)
            columns.append(states[leaving] ^ (1 << g))
        return np.concatenate(rows), np.concatenate(columns)


@dataclass(frozen=True)
class Absorption:
    """``probabilities`` [N, K] of ending in each attractor (or group of them), and a bound on their ``error``."""

    probabilities: Floats
    error: float


def state_graph(network: Network, frozen: Iterable[int] = ()) -> StateGraph:
    """Return the state graph of ``network``; ``frozen`` genes keep the value that a state gives them (are held).

    Raises
    ------
    UserError
        The network has more than ``MOST_GENES`` genes.
    """
    n_genes = len(network.genes)
    if n_genes > MOST_GENES:
        raise UserError(
            f"network {network_name(network)!r}: {n_genes} genes are too many for the exact solver, which lists all"
            f" states; at most {MOST_GENES} genes"
        )
    states = np.arange(1 << n_genes, dtype=np.uint32)
    changes = np.zeros_like(states)
    held = set(frozen)
    for g, (names, table) in enumerate(zip(network.regulators, network.truth_tables, strict=True)):
        if g in held:
            continue
        row = np.zeros_like(states)
        for name in names:  # the first regulator varies slowest in the table
            row = row << np.uint32(1) | bit(states, network.genes.index(name))
        rule = np.array(table, np.uint32)[row]
        changes |= (rule ^ bit(states, g)) << np.uint32(g)
    return StateGraph(network.genes, changes)


def bottoms(graph: StateGraph) -> tuple[Ints, ...]:
    """Return the attractors: the strongly connected components that no edge leaves, as sorted indices of states.

    They are ordered by their smallest state.
    """
    states = np.arange(graph.n_states)
    rows, columns = graph.edges(states)
    label, closed = components(rows, columns, graph.n_states)
    members = np.flatnonzero(closed[label])
    # A stable sort keeps the states of a component in order.
    order = members[np.argsort(label[members], kind="stable")]
    parts = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    return tuple(sorted(parts, key=lambda part: int(part[0])))


def components(rows: Ints, columns: Ints, n_states: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Return the strongly connected component of each state, and which components no edge leaves.

    Edges lead from ``rows`` to ``columns``, both among the ``n_states``.
    """
    matrix = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(n_states, n_states))
    n_components, label = csgraph.connected_components(matrix, directed=True, connection="strong")
    closed = np.ones(n_components, bool)
    closed[label[rows[label[rows] != label[columns]]]] = False
    return label, closed


def absorption(graph: StateGraph, attractors: Sequence[Ints], groups: Sequence[int] | None = None) -> Absorption:
    """Return the probability that each state ends in each of the ``attractors`` (all of ``bottoms``), exactly.

    With ``groups`` [A], attractors with the same number 0..K-1 are one column; else each is its own. States from which
    one column only can be reached have 1 and 0 exactly. The others solve (I - Q) x = r on the jump chain, iteratively;
    the error is bounded by the residual times the largest expected number of jumps (I - Q is an M-matrix).

    Raises
    ------
    UserError
        The solve does not reach ``TOLERANCE`` (a network that lingers for millions of updates).
    """
    columns = np.arange(len(attractors)) if groups is None else np.asarray(groups)
    n_columns = int(columns.max()) + 1
    reached = np.zeros(graph.n_states, np.int64)
    only = np.zeros(graph.n_states, np.int64)
    for first in range(0, n_columns, _WORD):
        mask = _reachable(graph, attractors, columns, first)
        for column in range(first, min(first + _WORD, n_columns)):
            hit = mask >> (column - first) & 1
            reached += hit
            only += hit * column
    result = np.zeros((graph.n_states, n_columns))
    certain = np.flatnonzero(reached == 1)
    result[certain, only[certain]] = 1.0
    undecided = np.flatnonzero(reached > 1)
    if not len(undecided):
        return Absorption(result, 0.0)
    system, outside = _system(graph, undecided)
    solve, error = Solver(system), 0.0
    for column in range(n_columns - 1):
        solution, bound = solve(outside @ result[:, column])
        error += bound
        result[undecided, column] = solution.clip(0.0, 1.0)
    result[undecided, -1] = (1.0 - result[undecided, :-1].sum(1)).clip(0.0, 1.0)
    if error > TOLERANCE:
        raise UserError(f"absorption probabilities: error bound {error:.1e} exceeds {TOLERANCE:.0e}; use simulation")
    return Absorption(result, error)


class Hitting:
    """Expectations of what a walk from each state finds where it first meets one of the states ``stops``.

    Every walk must meet one of them, as it does if each attractor has one.
    """

    def __init__(self, graph: StateGraph, stops: Ints) -> None:
        moving = np.ones(graph.n_states, bool)
        moving[stops] = False
        self._states = np.flatnonzero(moving)
        system, self._outside = _system(graph, self._states)
        self._solve = Solver(system)

    def expectation(self, values: Floats) -> tuple[Floats, float]:
        """Return the expectation of ``values`` [N], of which those of the stops are read, and a bound on its error."""
        result = values.copy()
        result[self._states], error = self._solve(self._outside @ values)
        return result, error


def _reachable(graph: StateGraph, attractors: Sequence[Ints], columns: Ints, first: int) -> Ints:
    """Return for each state [N] a word whose bit i says that an attractor of column ``first`` + i can be reached."""
    mask = np.zeros(graph.n_states, np.int64)
    for attractor, column in zip(attractors, columns, strict=True):
        if first <= column < first + _WORD:
            mask[attractor] |= 1 << int(column - first)
    while True:
        before = mask.copy()
        for g in range(graph.n_genes):
            mask |= np.where(graph.active(g), flipped(mask, g), 0)
        if np.array_equal(mask, before):
            return mask


def _system(graph: StateGraph, states: Ints) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Return I - Q of the jump chain among ``states`` [n, n], and the chain from them to all other states [n, N]."""
    rows, columns = graph.edges(states)
    share = 1.0 / graph.n_active[states][rows]
    position = np.full(graph.n_states, -1)
    position[states] = np.arange(len(states))
    inside = position[columns] >= 0
    shape = (len(states), len(states))
    within = sparse.csr_array((share[inside], (rows[inside], position[columns[inside]])), shape=shape)
    shape = (len(states), graph.n_states)
    outside = sparse.csr_array((share[~inside], (rows[~inside], columns[~inside])), shape=shape)
    return (sparse.eye_array(len(states), format="csr") - within).tocsr(), outside


def flipped(values: NDArray[Scalar], gene: int) -> NDArray[Scalar]:
    """Return ``values`` [N, ...] of the states with ``gene`` flipped: a copy that is one reversed axis."""
    blocks = values.reshape(-1, 2, 1 << gene, *values.shape[1:])
    return blocks[:, ::-1].reshape(values.shape)


def bit(states: Words, gene: int) -> Words:
    """Return bit ``gene`` of each state, 0 or 1."""
    return states >> np.uint32(gene) & np.uint32(1)


def pack(states: NDArray[np.generic]) -> Ints:
    """Return the indices [...] of ``states`` [..., G] of zeros and ones."""
    return states.astype(np.int64) @ (1 << np.arange(states.shape[-1], dtype=np.int64))


def unpack(index: Ints | Words | int, n_genes: int) -> NDArray[np.uint8]:
    """Return the states [..., G] with the given indices."""
    return (np.asarray(index)[..., None] >> np.arange(n_genes) & 1).astype(np.uint8)


def network_name(network: Network) -> str:
    """Return the name of ``network`` for a message; the number of its genes where it has none."""
    return network.name or f"of {len(network.genes)} genes"
