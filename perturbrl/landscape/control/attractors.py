"""Exact control between attractors: flip up to k genes, let the network run to an attractor, flip again.

An action flips a set of 1 to k genes of a state drawn uniformly from the present attractor; the asynchronous network
then runs to an attractor. The value is the expected number of actions until the target attractor is reached, for the
best action in each attractor: the control problem of pbn-STAC (Mizera and Zarzycki, TCS 1049:115382) and GATTACA
(AAAI 2026), without their bound of 100 actions and with exact absorption probabilities.

Letters: G genes, A attractors, M actions, N = 2^G states.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from perturbrl.errors import UserError
from perturbrl.landscape.network import Network
from perturbrl.landscape.state_graph import Floats, Ints, absorption, bottoms, state_graph

Bools = NDArray[np.bool_]

_SURE = 1e-6  # actions; a probability of 1 is exact where one attractor only can be reached
_CHUNK = 1 << 22  # table entries gathered at once


@dataclass(frozen=True)
class AttractorControl:
    """The best control between all pairs of attractors of a network.

    ``attractors`` holds the sorted indices of the states of each of the A attractors, ``shares`` [A] the probability
    of each from uniform starts. ``actions`` are the M sets of genes to flip, smallest first; ``transitions`` [A, M, A]
    the probability of the next attractor. ``steps`` [A, A] is the least expected number of actions from a source (row)
    to a target (column): 0 on the diagonal, infinite where no policy reaches the target surely. ``policy`` [A, A] is
    the index of the best action, -1 where there is none.
    """

    attractors: tuple[Ints, ...]
    shares: Floats
    actions: tuple[tuple[str, ...], ...]
    transitions: Floats
    steps: Floats
    policy: Ints

    @cached_property
    def reachable(self) -> Bools:
        """Whether a policy leads surely from source to target, [A, A]; False on the diagonal."""
        return np.isfinite(self.steps) & ~np.eye(len(self.attractors), dtype=bool)

    @property
    def mean_steps(self) -> float:
        """The mean of ``steps`` over the pairs that can be reached; NaN where there is none."""
        return float(self.steps[self.reachable].mean()) if self.reachable.any() else float("nan")

    @property
    def n_sure(self) -> int:
        """The number of pairs that a single action solves with probability 1."""
        return int((self.steps[self.reachable] < 1 + _SURE).sum())


def attractor_control(network: Network, k: int) -> AttractorControl:
    """Return the exact optimum of control between the attractors of ``network`` by flips of 1 to ``k`` genes.

    Raises
    ------
    UserError
        ``k`` is not within 1..G, or the network is too big for the exact solver.
    """
    n_genes = len(network.genes)
    if not 1 <= k <= n_genes:
        raise UserError(f"k: {k} genes flipped at once; 1 to {n_genes} are possible in this network")
    graph = state_graph(network)
    attractors = bottoms(graph)
    reached = absorption(graph, attractors).probabilities
    sets = [genes for size in range(1, k + 1) for genes in combinations(range(n_genes), size)]
    masks = np.array([sum(1 << g for g in genes) for genes in sets], np.int64)
    transitions = np.stack([_after_flips(reached, states, masks) for states in attractors])
    columns = [shortest_paths(transitions, np.arange(len(attractors)) == a) for a in range(len(attractors))]
    return AttractorControl(
        attractors,
        reached.mean(0),
        tuple(tuple(network.genes[g] for g in genes) for genes in sets),
        transitions,
        np.stack([steps for steps, _ in columns], axis=1),
        np.stack([policy for _, policy in columns], axis=1),
    )


def _after_flips(reached: Floats, states: Ints, masks: Ints) -> Floats:
    """Return the probability [M, A] of each attractor after flipping ``masks`` [M] in a state drawn from ``states``."""
    total = np.zeros((len(masks), reached.shape[1]))
    block = max(1, _CHUNK // (len(masks) * reached.shape[1]))
    for first in range(0, len(states), block):
        total += reached[states[first : first + block, None] ^ masks].sum(0)
    return total / len(states)


def shortest_paths(transitions: Floats, target: Bools) -> tuple[Floats, Ints]:
    """Return the least expected number of actions [A] to the ``target`` attractors [A], and the best actions [A].

    A stochastic shortest path by policy iteration (Bertsekas and Tsitsiklis 1991), over the attractors from which
    some policy reaches the target with probability 1; the others have infinite steps and action -1.
    """
    usable, policy = _sure_policy(transitions > 0, target)
    inside = np.flatnonzero(usable.any(1) & ~target)
    steps = np.where(target, 0.0, np.inf)
    if not len(inside):
        return steps, np.full(len(target), -1)
    # A policy iteration that starts from a policy that surely arrives never leaves these, and ends.
    options = transitions[inside]
    finite = np.zeros(len(target))
    while True:
        chosen = options[np.arange(len(inside)), policy[inside]]
        finite[inside] = np.linalg.solve(np.eye(len(inside)) - chosen[:, inside], np.ones(len(inside)))
        costs = np.where(usable[inside], 1 + options @ finite, np.inf)
        better = costs.min(1) < finite[inside] - 1e-10
        if not better.any():
            break
        policy[inside[better]] = costs[better].argmin(1)
    # Among equally good actions the first: the fewest genes.
    policy[inside] = (costs <= costs.min(1, keepdims=True) + 1e-9).argmax(1)
    steps[inside] = finite[inside]
    return steps, np.where(np.isfinite(steps) & ~target, policy, -1)


def _sure_policy(support: Bools, target: Bools) -> tuple[Bools, Ints]:
    """Return which actions [A, M] keep the target surely within reach, and a policy [A] that surely arrives.

    The greatest set of attractors that can reach the target without the risk of leaving the set (de Alfaro 1997).
    """
    safe = np.ones(len(target), bool)
    while True:
        usable = ~(support & ~safe).any(2) & safe[:, None]
        near, policy = target.copy(), np.full(len(target), -1)
        while True:
            closer = usable & (support & near).any(2)
            new = closer.any(1) & ~near
            if not new.any():
                break
            policy[new] = closer[new].argmax(1)
            near |= new
        if np.array_equal(near, safe):
            return usable & ~target[:, None], policy
        safe = near
