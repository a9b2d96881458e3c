"""Where a perturbed network ends, exactly: the long-run distribution of its asynchronous state graph.

Held genes do not change, so a perturbed network is the state graph in which they are frozen. From the start states it
is followed to the attractors (a sparse solve on the states that can be reached), and there to their stationary
distribution; genes that were held are then let go, and the network is followed again.

Letters: N states, S sets, K outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve

from perturbrl.errors import UserError
from perturbrl.landscape.m_matrix import Solver
from perturbrl.landscape.plan.outcomes import Question
from perturbrl.landscape.plan.result import Perturbation
from perturbrl.landscape.state_graph import Floats, Ints, StateGraph, components, pack, state_graph, unpack


class Exact:
    """Probabilities of outcomes without simulation; for networks whose states can be listed."""

    exact = True

    def __init__(self, question: Question, duration: str) -> None:
        """Raise ``UserError`` if the network is too big for the solver."""
        self.question = question
        self.duration = duration
        self._graphs: dict[frozenset[int], StateGraph] = {}
        self._graph(frozenset())

    def shares(self, perturbations: Sequence[Perturbation]) -> NDArray[np.float64]:
        """Return the probability of each outcome after each of S sets, [S, K]."""
        return np.stack([self._one(perturbation) for perturbation in perturbations])

    def _graph(self, frozen: frozenset[int]) -> StateGraph:
        if frozen not in self._graphs:
            self._graphs[frozen] = state_graph(self.question.network, frozen)
        return self._graphs[frozen]

    def _one(self, perturbation: Perturbation) -> Floats:
        genes = {gene: g for g, gene in enumerate(self.question.network.genes)}
        start = self.question.start.numpy().copy()
        for gene, on in perturbation:
            start[:, genes[gene]] = on
        index, weight = pack(start), self.question.weights.numpy()
        free = self._graph(frozenset())
        frozen = frozenset(genes[gene] for gene, _ in perturbation)
        if frozen and self.duration != "flip":
            index, weight = long_run(self._graph(frozen), index, weight)
        if not frozen or self.duration != "permanent":
            index, weight = long_run(free, index, weight)
        outcome = self.question.outcome(torch.from_numpy(unpack(index, len(genes)))).numpy()
        shares: Floats = np.bincount(outcome, weight, len(self.question.names)).astype(np.float64)
        shares /= shares.sum()
        return shares


def long_run(graph: StateGraph, index: Ints, weight: Floats) -> tuple[Ints, Floats]:
    """Return the states [m] of attractors, with probabilities [m], in which cells that start at ``index`` [n] end.

    ``weight`` [n] is the probability of each start. Within an attractor of several states the distribution is the
    stationary one.

    Raises
    ------
    UserError
        The solve does not converge.
    """
    states = _reachable(graph, index)
    place = np.full(graph.n_states, -1)
    place[states] = np.arange(len(states))
    rows, ends = graph.edges(states)
    columns = place[ends]
    part, closed = components(rows, columns, len(states))
    inside = closed[part]
    mass: Floats = np.bincount(place[index], weight, len(states)).astype(np.float64)
    if not inside.all():
        jumps = sparse.csr_array((1.0 / graph.n_active[states[rows]], (rows, columns)), shape=(len(states),) * 2)
        mass = _absorbed(jumps, mass, inside)
    return _stationary(graph, states, rows, columns, part, mass)


def _reachable(graph: StateGraph, index: Ints) -> Ints:
    seen = np.zeros(graph.n_states, bool)
    front = np.unique(index)
    seen[front] = True
    while len(front):
        _, ends = graph.edges(front)
        front = np.unique(ends[~seen[ends]])
        seen[front] = True
    return np.flatnonzero(seen)


def _absorbed(jumps: sparse.csr_array, mass: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Return the ``mass`` [n] after all of it has entered the states ``inside``: a solve for the expected visits."""
    outside = np.flatnonzero(~inside)
    among = jumps[outside][:, outside]
    system = (sparse.eye_array(len(outside), format="csr") - among).T.tocsr()
    visits = Solver(system).solve(mass[outside])
    after: Floats = np.where(inside, mass + jumps[outside].T @ visits, 0.0)
    if abs(after.sum() - mass.sum()) > 1e-6:
        raise UserError("exact probabilities: the solve did not converge; use method=search")
    return after.clip(0.0, 1.0)


def _stationary(
    graph: StateGraph, states: Ints, rows: Ints, columns: Ints, part: Ints, mass: Floats
) -> tuple[Ints, Floats]:
    """Spread the mass that entered each attractor over its states by its stationary distribution."""
    moves = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(states),) * 2)
    hit = np.unique(part[mass > 0])
    spread = np.zeros(len(states))
    for k in hit:
        members = np.flatnonzero(part == k)
        total = mass[members].sum()
        spread[members] = total if len(members) == 1 else total * _steady(moves[members][:, members], graph.n_genes)
    kept = np.flatnonzero(spread > 0)
    return states[kept], spread[kept]


def _steady(moves: sparse.csr_array, n_genes: int) -> Floats:
    """Return the stationary distribution of the asynchronous chain on one attractor; ``moves`` [m, m] are its edges."""
    rates = moves / n_genes
    leaving = np.asarray(rates.sum(axis=1)).ravel()
    generator = (rates - sparse.diags_array(leaving)).T.tolil()
    generator[-1] = 1.0  # the balance of one state follows from the others'; the sum is 1 instead
    rhs = np.zeros(moves.shape[0])
    rhs[-1] = 1.0
    steady: Floats = np.asarray(spsolve(generator.tocsc(), rhs)).clip(0.0, None)
    steady /= steady.sum()
    return steady
