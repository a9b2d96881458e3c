"""The fates that a cell can end in, and the question that a plan answers.

Letters: n start states, G genes, K outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from perturbrl.landscape.fate_task import Fate
from perturbrl.landscape.network import Network
from perturbrl.landscape.plan.result import ELSEWHERE, Perturbation


@dataclass(frozen=True, eq=False)
class Question:
    """From ``start`` [n, G] uint8, with ``weights`` [n] that add up to 1, to the fate ``target``.

    ``fates`` are all fates that are told apart; a state belongs to the first one that contains it, the target before
    the others. ``n_cells`` is the number of cells that the start states are, None if they are no sample.
    """

    network: Network
    start: Tensor
    weights: Tensor
    source: str
    target: Fate
    fates: tuple[Fate, ...]
    n_cells: int | None = None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The K outcomes: the target, the other fates, and none of them."""
        return (*(fate.name for fate in self.ordered), ELSEWHERE)

    @cached_property
    def ordered(self) -> tuple[Fate, ...]:
        """The fates, the target first."""
        return (self.target, *(fate for fate in self.fates if fate.name != self.target.name))

    def outcome(self, states: Tensor) -> Tensor:
        """Return the outcome [...] int64 of each of ``states`` [..., G], its place in ``names``."""
        place = torch.full(states.shape[:-1], len(self.ordered), dtype=torch.int64, device=states.device)
        for k, fate in reversed(list(enumerate(self.ordered))):
            place[fate.contains(states)] = k
        return place

    def held(self, perturbations: Sequence[Perturbation]) -> Tensor:
        """Return the clamps [S, G] of S sets: 1, 0, or NaN for a free gene."""
        place = {gene: g for g, gene in enumerate(self.network.genes)}
        clamps = torch.full((len(perturbations), len(place)), torch.nan)
        for s, perturbation in enumerate(perturbations):
            for gene, on in perturbation:
                clamps[s, place[gene]] = float(on)
        return clamps


def question(
    network: Network,
    start: Tensor,
    source: str,
    target: Fate,
    fates: Sequence[Fate],
    n_cells: int | None = None,
) -> Question:
    """Return the question for start states [m, G] of equal weight; equal states become one with their weights."""
    states, counts = torch.unique(start.to(torch.uint8), dim=0, return_counts=True)
    return Question(network, states, counts.double() / len(start), source, target, tuple(fates), n_cells)
