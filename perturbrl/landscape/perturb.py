"""Genetic perturbations as clamps: a number holds a gene's mRNA and protein at that level, NaN leaves the gene free.

Letters: P perturbations, G regulators.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from perturbrl.landscape.network import Network

CONTROL = "control"
KNOCK_OUT = "ko"
OVER_EXPRESSION = "oe"


def clamp(network: Network, name: str, level: float) -> Tensor:
    """Return the clamps [G] of a perturbation by name: ``control``, ``Gata1_ko``, ``Pu1_oe`` or a combination ``A+B``.

    A knock-out holds the gene at 0, an over-expression at ``level`` (1 is a gene that is fully on).
    """
    clamps = torch.full((len(network.genes),), torch.nan)
    if name == CONTROL:
        return clamps
    for part in name.split("+"):
        gene, _, kind = part.rpartition("_")
        clamps[network.genes.index(gene)] = {KNOCK_OUT: 0.0, OVER_EXPRESSION: level}[kind]
    return clamps


def single_perturbations(network: Network) -> tuple[str, ...]:
    """Return the names of the control and of every single knock-out and over-expression: 1 + 2 G names."""
    return CONTROL, *(f"{gene}_{kind}" for kind in (KNOCK_OUT, OVER_EXPRESSION) for gene in network.genes)


def double_perturbations(network: Network) -> tuple[str, ...]:
    """Return the names of ``single_perturbations`` and of every pair of two genes: 1 + 2 G + 2 G (G - 1) names."""
    singles = single_perturbations(network)
    pairs = combinations(sorted(singles[1:]), 2)
    return *singles, *(f"{a}+{b}" for a, b in pairs if a.rpartition("_")[0] != b.rpartition("_")[0])
