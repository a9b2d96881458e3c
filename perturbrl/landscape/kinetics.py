"""The equations of the landscape, one function each, and the constants of its three-stage gene expression.

Every gene opens its chromatin (accessibility), is transcribed (mRNA) and translated (protein), each a first-order
response to the stage before, scaled so that 1 is the level of a gene that is fully on. Time is in units of the mRNA
lifetime of the regulators.

Letters: B cells, G regulators (transcription factors), R the largest number of regulators of a gene, M target genes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from perturbrl.landscape.network import Network

TAU_ACCESSIBILITY = 0.5
TAU_MRNA = 1.0
TAU_PROTEIN = 1.5


@dataclass(frozen=True)
class Circuit:
    """A Boolean network as tensors, every gene padded to R regulators.

    ``regulators`` [G, R] int64; ``thresholds`` [G, R]; ``tables`` [G, 2^R], where a padded regulator changes nothing;
    ``start`` [G].
    """

    regulators: Tensor
    thresholds: Tensor
    tables: Tensor
    start: Tensor


@dataclass(frozen=True)
class Targets:
    """Downstream genes, which drive nothing: ``weights`` [G, M] of the regulators, ``tau_mrna`` [M] mRNA lifetimes."""

    weights: Tensor
    tau_mrna: Tensor


def circuit(network: Network, device: torch.device | str = "cpu") -> Circuit:
    """Turn a Boolean network into the tensors of its continuous form."""
    genes, most = network.genes, max(len(names) for names in network.regulators)
    index = torch.zeros(len(genes), most, dtype=torch.int64)
    thresholds = torch.full((len(genes), most), network.default_threshold)
    tables = torch.empty(len(genes), 2**most)
    for g, (names, table) in enumerate(zip(network.regulators, network.truth_tables, strict=True)):
        for r, name in enumerate(names):
            index[g, r] = genes.index(name)
            thresholds[g, r] = network.threshold(genes[g], name)
        tables[g] = torch.tensor(table, dtype=torch.float32).repeat_interleave(2 ** (most - len(names)))
    start = torch.tensor([float(gene in network.start) for gene in genes])
    return Circuit(index.to(device), thresholds.to(device), tables.to(device), start.to(device))


def hill(level: Tensor, threshold: Tensor | float) -> Tensor:
    """Return level^4 / (level^4 + threshold^4), the occupancy of a site (Hill 1910, exponent 4); elementwise."""
    power = (level / threshold).square().square()
    return power / (1 + power)


def hill_cube(occupancy: Tensor, tables: Tensor) -> Tensor:
    """Return the multilinear interpolation of Boolean rules, [B, G], at ``occupancy`` [B, G, R]; ``tables`` [G, 2^R].

    The HillCube of Wittmann et al. 2009 (BMC Systems Biology 3:98): the sum over corners b of
    rule(b) prod_r h_r^b_r (1 - h_r)^(1 - b_r), contracted one regulator at a time.
    """
    value = tables
    for r in range(occupancy.shape[-1]):
        off, on = value.chunk(2, dim=-1)
        value = torch.lerp(off, on, occupancy[..., r : r + 1])
    return value[..., 0]


def network_production(protein: Tensor, net: Circuit) -> Tensor:
    """Return the target accessibility of the G regulators, [B, G] in [0, 1], given their ``protein`` [B, G]."""
    return hill_cube(hill(protein[:, net.regulators], net.thresholds), net.tables)


def target_production(protein: Tensor, weights: Tensor) -> Tensor:
    """Return the target accessibility of M target genes, [B, M] in (0, 1): logistic((h(p) - 1/2) W).

    ``protein`` [B, G], ``weights`` [G, M]: additive regulation through a sigmoid (Mjolsness, Sharp and Reinitz 1991).
    """
    return torch.sigmoid((hill(protein, 0.5) - 0.5) @ weights)


def langevin_amplitude(source: Tensor, level: Tensor, tau: float, noise: float) -> Tensor:
    """Return noise * sqrt((source + level) / tau), of the chemical Langevin equation (Gillespie 2000)."""
    return noise * torch.sqrt((source + level) / tau)
