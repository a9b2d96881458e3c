"""Names for cells, read off the levels of the marker genes of a network.

Letters: B cells, G regulators.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl.landscape.network import Markers, Network

UNDECIDED = "undecided"
PROGENITOR = "progenitor"
ON_ABOVE = 0.5
OFF_BELOW = 0.3
"""Protein levels at which a marker counts as on, or as off (1 is a gene that is fully on)."""


def fates(final: Tensor, network: Network) -> NDArray[np.str_]:
    """Return the fate of each cell, [B], from its final protein levels [B, G]; ``undecided`` where no markers hold."""
    return _first_match(final, network, network.fates, UNDECIDED)


def cell_types(protein: Tensor, network: Network) -> NDArray[np.str_]:
    """Return the type of each cell, [B], from its present protein levels [B, G]: a fate, a stage or ``progenitor``."""
    return _first_match(protein, network, {**network.fates, **network.stages}, PROGENITOR)


def _first_match(levels: Tensor, network: Network, markers: Mapping[str, Markers], otherwise: str) -> NDArray[np.str_]:
    names = np.array([*markers, otherwise])
    label = torch.full((len(levels),), len(markers), device=levels.device)
    for k, (present, absent) in reversed(list(enumerate(markers.values()))):
        on = (levels[:, [network.genes.index(gene) for gene in present]] > ON_ABOVE).all(dim=1)
        off = (levels[:, [network.genes.index(gene) for gene in absent]] < OFF_BELOW).all(dim=1)
        label[on & off] = k
    found: NDArray[np.str_] = names[label.cpu().numpy()]
    return found
