"""Which sets of perturbations are tried: all of them, or those that extend the best smaller ones.

Letters: S sets, K outcomes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import comb
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from perturbrl import status
from perturbrl.landscape.plan.result import Perturbation


class Evaluator(Protocol):
    """What gives probabilities: ``exact.Exact`` or ``simulated.Simulated``."""

    exact: bool

    def shares(self, perturbations: Sequence[Perturbation]) -> NDArray[np.float64]:
        """Return the share of each outcome after each of S sets, [S, K]; the target is the first."""


@dataclass(frozen=True)
class Tried:
    """The S sets that were tried with their ``shares`` [S, K], and whether these are all there are."""

    sets: tuple[Perturbation, ...]
    shares: NDArray[np.float64]
    complete: bool

    def net(self, cost: float) -> NDArray[np.float64]:
        """Return for each set [S] the probability of the target minus ``cost`` for each gene."""
        net: NDArray[np.float64] = self.shares[:, 0] - cost * np.array([len(one) for one in self.sets])
        return net

    def worthwhile(self, cost: float) -> list[int]:
        """Return the places of the sets, best first, that are better than doing nothing and than all their subsets."""
        net = self.net(cost)
        value = {frozenset(one): float(v) for one, v in zip(self.sets, net, strict=True)}
        order = sorted(range(len(self.sets)), key=lambda s: (-net[s], len(self.sets[s]), self.sets[s]))
        return [s for s in order if self.sets[s] and not self._spoiled(self.sets[s], value)]

    def _spoiled(self, one: Perturbation, value: dict[frozenset[tuple[str, bool]], float]) -> bool:
        mine = value[frozenset(one)]
        subsets = (frozenset(part) for size in range(len(one)) for part in combinations(one, size))
        return any(value.get(subset, -np.inf) >= mine - 1e-12 for subset in subsets)


def n_sets(n_genes: int, max_perturb: int) -> int:
    """Return the number of sets of at most ``max_perturb`` of ``n_genes`` genes, each on or off, the empty one too."""
    return sum(comb(n_genes, size) * 2**size for size in range(max_perturb + 1))


def all_sets(genes: Sequence[str], max_perturb: int) -> Iterable[Perturbation]:
    """Yield every set of at most ``max_perturb`` of ``genes``, the empty one first."""
    for size in range(max_perturb + 1):
        for chosen in combinations(genes, size):
            for values in product((False, True), repeat=size):
                yield tuple(zip(chosen, values, strict=True))


def evaluate(evaluator: Evaluator, sets: Sequence[Perturbation], what: str) -> NDArray[np.float64]:
    """Return the shares [S, K] of ``sets``, with a line of status."""
    with status.step(f"{what}: {len(sets):,} sets of perturbations"):
        return evaluator.shares(sets)


def exhaustive(evaluator: Evaluator, genes: Sequence[str], max_perturb: int) -> Tried:
    """Try every set."""
    sets = tuple(all_sets(genes, max_perturb))
    return Tried(sets, evaluate(evaluator, sets, "trying"), complete=True)


def beam(evaluator: Evaluator, genes: Sequence[str], max_perturb: int, max_sets: int, width: int, cost: float) -> Tried:
    """Try every set up to the size at which there are more than ``max_sets``, and extend the best ``width`` beyond.

    What is found is a lower bound on what is possible: a set may need a part that is useless alone.
    """
    whole = max((size for size in range(1, max_perturb + 1) if n_sets(len(genes), size) <= max_sets), default=1)
    tried = exhaustive(evaluator, genes, whole)
    place = {gene: g for g, gene in enumerate(genes)}
    for size in range(whole + 1, max_perturb + 1):
        net = tried.net(cost)
        last = [s for s in range(len(tried.sets)) if len(tried.sets[s]) == size - 1]
        best = sorted(last, key=lambda s: (-net[s], tried.sets[s]))[:width]
        longer = {
            tuple(sorted((*tried.sets[s], (gene, on)), key=lambda change: place[change[0]]))
            for s in best
            for gene in genes
            for on in (False, True)
            if gene not in dict(tried.sets[s])
        }
        sets = sorted(longer, key=lambda one: [(place[gene], on) for gene, on in one])
        shares = np.concatenate([tried.shares, evaluate(evaluator, sets, f"extending to {size} genes")])
        tried = Tried((*tried.sets, *sets), shares, complete=False)
    return tried
