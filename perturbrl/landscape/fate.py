"""Fates: named sets of states of a network. Letters: G genes, K patterns of a fate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from perturbrl.errors import choice, did_you_mean, one_of, require
from perturbrl.landscape.network import Network


@dataclass(frozen=True, eq=False)
class Fate:
    """A set of states by name: those that agree with one of K patterns.

    ``patterns`` [K, G] int8: 1 where a gene must be on, 0 where it must be off, -1 where it may be either.

    Raises
    ------
    UserError
        No pattern, or patterns that are not [K, G] of -1, 0 and 1.
    """

    name: str
    patterns: Tensor

    def __post_init__(self) -> None:
        """Check shape and values."""
        valid = self.patterns.ndim == 2 and bool(((self.patterns >= -1) & (self.patterns <= 1)).all())
        require(valid, f"fate {self.name!r}", "patterns must be [K, G] of -1, 0 and 1")
        require(len(self.patterns) > 0, f"fate {self.name!r}", "is empty: no state belongs to it")

    @staticmethod
    def of(network: Network, name: str, on: Sequence[str] = (), off: Sequence[str] = ()) -> Fate:
        """Return the states in which the genes ``on`` are on and the genes ``off`` are off.

        Raises
        ------
        UserError
            A gene that the network does not have, a gene both on and off, or no gene at all.
        """
        pattern = torch.full((1, len(network.genes)), -1, dtype=torch.int8)
        for genes, value in ((on, 1), (off, 0)):
            for gene in genes:
                require_gene(network, gene, f"fate {name!r}")
                pattern[0, network.genes.index(gene)] = value
        both = sorted(set(on) & set(off))
        require(not both, f"fate {name!r}", f"is empty: {''.join(both[:1])} must be both on and off")
        require(
            bool(on) or bool(off), f"fate {name!r}", "names no gene: every state belongs to it; give genes on or off"
        )
        return Fate(name, pattern)

    @staticmethod
    def named(network: Network, name: str) -> Fate:
        """Return a fate or stage that ``network`` names; ``UserError`` if it names no such one."""
        markers = {**network.stages, **network.fates}
        on, off = markers[choice(name, markers, "fate")]
        return Fate.of(network, name, on, off)

    def contains(self, states: Tensor) -> Tensor:
        """Return which ``states`` [..., G] belong to the fate, bool [...]; a level above 1/2 is on."""
        return (self._mismatches(states) == 0).any(-1)

    def distance(self, states: Tensor) -> Tensor:
        """Return the smallest share of a pattern's genes that disagree with ``states`` [..., G]: [...] in [0, 1]."""
        fixed = (self.patterns >= 0).sum(-1).clamp(min=1).to(states.device)
        return (self._mismatches(states) / fixed).amin(-1)

    def _mismatches(self, states: Tensor) -> Tensor:
        """Return how many genes of each pattern disagree with ``states`` [..., G], [..., K] float."""
        signs, n_on = self._weights
        # A gene that is on adds 1 where it must be off, and takes 1 from the number of those that must be on.
        return n_on.to(states.device) - (states > 0.5).float() @ signs.to(states.device)

    @cached_property
    def _weights(self) -> tuple[Tensor, Tensor]:
        on, off = (self.patterns == 1).float(), (self.patterns == 0).float()
        return (on - off).T.contiguous(), on.sum(-1)


def require_gene(network: Network, gene: str, where: str) -> None:
    """Raise ``UserError`` if ``network`` has no such gene."""
    known = f"genes are {one_of(network.genes[:20])}" if len(network.genes) <= 20 else f"{len(network.genes)} genes"
    message = f"{gene!r} is not a gene of the network{did_you_mean(gene, network.genes)}; {known}"
    require(gene in network.genes, where, message)
