"""The equations of the landscape, one function each, and the constants of its three-stage gene expression.

Every gene opens its chromatin (accessibility), is transcribed (mRNA) and translated (protein), each a first-order
response to the stage before, scaled so that 1 is the level of a gene that is fully on. Time is in units of the mRNA
lifetime of the regulators.

Letters: B cells, G regulators (transcription factors), U binding sites, M target genes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from perturbrl.landscape.diagrams import Diagram, diagram
from perturbrl.landscape.network import Network

TAU_ACCESSIBILITY = 0.5
TAU_MRNA = 1.0
TAU_PROTEIN = 1.5
CELLS = 2048
CELLS_ELSEWHERE = 1 << 17
"""Cells computed together on a processor, where all of their levels then stay in the cache of a core from one operation
to the next, and on other devices, where that only bounds memory."""


@dataclass(frozen=True)
class Circuit:
    """A Boolean network as tensors; a binding site is a regulator with a threshold, and may serve several genes.

    ``regulators`` [U] int64 and ``thresholds`` [U] are those of the U sites; ``rules`` has one entry for each gene;
    ``start`` [G].
    """

    regulators: Tensor
    thresholds: Tensor
    rules: tuple[Diagram, ...]
    start: Tensor


@dataclass(frozen=True)
class Targets:
    """Downstream genes, which drive nothing: ``weights`` [G, M] of the regulators, ``tau_mrna`` [M] mRNA lifetimes."""

    weights: Tensor
    tau_mrna: Tensor


def circuit(network: Network, device: torch.device | str = "cpu") -> Circuit:
    """Turn a Boolean network into the tensors of its continuous form."""
    genes, column = network.genes, {gene: k for k, gene in enumerate(network.genes)}
    number: dict[tuple[int, float], int] = {}  # of a site, by regulator and threshold
    sites = [
        [number.setdefault((column[name], network.threshold(gene, name)), len(number)) for name in names]
        for gene, names in zip(genes, network.regulators, strict=True)
    ]
    rules = tuple(diagram(table, row) for table, row in zip(network.truth_tables, sites, strict=True))
    regulators = torch.tensor([regulator for regulator, _ in number], dtype=torch.int64)
    thresholds = torch.tensor([threshold for _, threshold in number], dtype=torch.float32)
    start = torch.tensor([float(gene in network.start) for gene in genes])
    return Circuit(regulators.to(device), thresholds.to(device), rules, start.to(device))


def blocks(cells: Tensor) -> Iterator[slice]:
    """Yield the rows of ``cells`` [B, ...] some at a time."""
    size = CELLS if cells.device.type == "cpu" else CELLS_ELSEWHERE
    for first in range(0, len(cells), size):
        yield slice(first, first + size)


def hill(level: Tensor, threshold: Tensor | float) -> Tensor:
    """Return level^4 / (level^4 + threshold^4), the occupancy of a site (Hill 1910, exponent 4); elementwise."""
    power = (level / threshold).square().square()
    return power / (1 + power)


def network_production(protein: Tensor, net: Circuit) -> Tensor:
    """Return the target accessibility of the G regulators, [B, G] in [0, 1], given their ``protein`` [B, G]."""
    parts = []
    for rows in blocks(protein):
        # Sites as rows: each is then read and written in one go.
        level = protein[rows].T.contiguous()
        occupancy = hill(level.index_select(0, net.regulators), net.thresholds[:, None]).unbind(0)
        answers = torch.zeros_like(level[0]), torch.ones_like(level[0])
        parts.append(torch.stack([rule.evaluate(occupancy, answers) for rule in net.rules], dim=1))
    return parts[0] if len(parts) == 1 else torch.cat(parts or [protein])


def target_production(protein: Tensor, weights: Tensor) -> Tensor:
    """Return the target accessibility of M target genes, [B, M] in (0, 1): logistic((h(p) - 1/2) W).

    ``protein`` [B, G], ``weights`` [G, M]: additive regulation through a sigmoid (Mjolsness, Sharp and Reinitz 1991).
    """
    return torch.sigmoid((hill(protein, 0.5) - 0.5) @ weights)


def langevin_amplitude(source: Tensor, level: Tensor, tau: float, noise: float) -> Tensor:
    """Return noise * sqrt((source + level) / tau), of the chemical Langevin equation (Gillespie 2000)."""
    return (source + level).div_(tau).sqrt_().mul_(noise)
