"""The best set of at most ``max_perturb`` genes for every state at once.

Letters: G genes, N = 2^G states, m the most genes of a decision, C a set of genes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import comb

import numpy as np

from perturbrl.landscape.state_graph import Floats, Words, flipped

_TIE = 1e-12  # of the largest value: a gain below is none, so that ties go to fewer genes


@dataclass(frozen=True)
class Choice:
    """A set of genes for each state: bit g of ``genes`` [N] if gene g is chosen, and of ``values`` [N] if it is put on.

    Bits of ``values`` outside ``genes`` are 0.
    """

    genes: Words
    values: Words


def best_flips(after: Floats, cost: float, m: int, controllable: Sequence[int]) -> tuple[Floats, Choice]:
    """Return the best value [N] and choice if a perturbed state is worth ``after`` [N], however it was come by.

    The set is chosen gene by gene: with U_0 = after, U_j(s) = max(U_{j-1}(s), max_g U_{j-1}(s with g flipped) - cost)
    is the best of all sets of at most j genes. m G passes over N states replace an enumeration of all sets; a gene
    flipped twice costs and changes nothing, so it is never better than the set without it.
    """
    best, genes = after, np.zeros(len(after), np.uint32)
    margin = _TIE * (float(np.abs(after).max(initial=0.0)) + cost)
    for _ in range(m):
        values, masks = best.copy(), genes.copy()
        for g in controllable:
            candidate = flipped(best, g) - cost
            better = candidate > values + margin
            values[better] = candidate[better]
            masks[better] = flipped(genes, g)[better] ^ np.uint32(1 << g)
        best, genes = values, masks
    states = np.arange(len(after), dtype=np.uint32)
    return best, Choice(genes, ~states & genes)


def best_holds(
    after: Mapping[int, Floats], held: int, cost: float, sets: Sequence[tuple[int, ...]], *, flips: bool
) -> tuple[Floats, Choice]:
    """Return the best value [N] and choice where the value depends on which genes are held.

    Parameters
    ----------
    after
        For each set of held genes (a bit mask) the value [N] of a perturbed state.
    held
        The genes that are held already.
    cost
        Of one gene.
    sets
        The sets to choose from, smallest first.
    flips
        Whether a chosen gene changes its value; else it may also be held as it is.
    """
    n_states = len(next(iter(after.values())))
    states = np.arange(n_states, dtype=np.uint32)
    best = np.full(n_states, -np.inf)
    genes, values = np.zeros(n_states, np.uint32), np.zeros(n_states, np.uint32)
    for chosen in sets:
        mask = sum(1 << g for g in chosen)
        worth = after[held | mask]
        for on in [None] if flips else product((0, 1), repeat=len(chosen)):
            put = ~states & mask if on is None else np.uint32(sum(v << g for g, v in zip(chosen, on, strict=True)))
            candidate = worth[(states & ~np.uint32(mask)) | put] - cost * len(chosen)
            better = candidate > best + _TIE * (1 + np.abs(candidate))
            best = np.where(better, candidate, best)
            genes = np.where(better, np.uint32(mask), genes)
            values = np.where(better, put, values)
    return best, Choice(genes, values)


def perturbed(states: Words, choice: Choice) -> Words:
    """Return ``states`` with the chosen genes at their new values."""
    return (states & ~choice.genes) | choice.values


def mean_over_random_sets(after: Floats, cost: float, m: int, controllable: Sequence[int], *, flips: bool) -> Floats:
    """Return the mean value [N] if each choice is drawn uniformly from the actions left and "done", until done or m.

    All sets of j genes are equally likely, so with p_j the probability of choosing j genes it is the sum over j of
    p_j (mean of ``after`` over the states that j choices give - j cost). The sums over sets follow gene by gene. An
    action flips a gene, or (not ``flips``) sets it to a drawn value.
    """
    n, n_values = len(controllable), 1 if flips else 2
    sums = [after, *(np.zeros_like(after) for _ in range(m))]
    for g in controllable:
        for j in range(m, 0, -1):
            other = flipped(sums[j - 1], g)
            sums[j] = sums[j] + (other if flips else (other + sums[j - 1]) / 2)
    total, going = np.zeros_like(after), 1.0
    for j, values in enumerate(sums):
        stop = 1.0 if j == m else 1.0 / (n_values * (n - j) + 1)
        total += going * stop * (values / comb(n, j) - j * cost)
        going *= 1.0 - stop
    return total


def gene_sets(genes: Sequence[int], m: int) -> tuple[tuple[int, ...], ...]:
    """Return all sets of at most ``m`` of ``genes``, smallest first, the empty one among them."""
    return tuple(chosen for size in range(m + 1) for chosen in combinations(genes, size))
