"""The equations of the landscape, one function each, and the constants of its three-stage gene expression.

Every gene opens its chromatin (accessibility), is transcribed (mRNA) and translated (protein), each a first-order
response to the stage before, scaled so that 1 is the level of a gene that is fully on. Time is in units of the mRNA
lifetime of the regulators.

Letters: B cells, G regulators (transcription factors), R regulators of a gene, U binding sites, M target genes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from perturbrl.landscape.network import Network

TAU_ACCESSIBILITY = 0.5
TAU_MRNA = 1.0
TAU_PROTEIN = 1.5
CELLS, ENTRIES = 1024, 2**24
"""The most cells whose rules are evaluated at a time, and entries of one table for them: these bound what lies between
rules and result."""


@dataclass(frozen=True)
class RuleGroup:
    """The rules of k genes that have R regulators each.

    ``genes`` [k] int64, columns of the network; ``sites`` [k, R] int64, numbers of binding sites of the circuit, the
    first regulator first; ``tables`` [k, 2^R], the rule over all states of the regulators, the first varying slowest.
    """

    genes: Tensor
    sites: Tensor
    tables: Tensor


@dataclass(frozen=True)
class Circuit:
    """A Boolean network as tensors; a binding site is a regulator with a threshold, and may serve several genes.

    ``regulators`` [U] int64 and ``thresholds`` [U] are those of the U sites; ``rules`` has one entry for each number of
    regulators, so that a gene with many costs nothing to the others; ``start`` [G].
    """

    regulators: Tensor
    thresholds: Tensor
    rules: tuple[RuleGroup, ...]
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
    rules = []
    for r in sorted({len(row) for row in sites}):
        members = [g for g, row in enumerate(sites) if len(row) == r]
        index = torch.tensor([sites[g] for g in members], dtype=torch.int64).reshape(len(members), r)
        tables = torch.tensor([network.truth_tables[g] for g in members], dtype=torch.float32)
        rules.append(RuleGroup(torch.tensor(members).to(device), index.to(device), tables.to(device)))
    regulators = torch.tensor([regulator for regulator, _ in number], dtype=torch.int64)
    thresholds = torch.tensor([threshold for _, threshold in number], dtype=torch.float32)
    start = torch.tensor([float(gene in network.start) for gene in genes])
    return Circuit(regulators.to(device), thresholds.to(device), tuple(rules), start.to(device))


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
    production = torch.empty_like(protein)
    size = max(1, min(CELLS, ENTRIES // max(rules.tables.numel() for rules in net.rules)))
    for first in range(0, len(protein), size):
        cells = slice(first, first + size)
        occupancy = hill(protein[cells, net.regulators], net.thresholds)
        for rules in net.rules:
            production[cells, rules.genes] = hill_cube(occupancy[:, rules.sites], rules.tables)
    return production


def target_production(protein: Tensor, weights: Tensor) -> Tensor:
    """Return the target accessibility of M target genes, [B, M] in (0, 1): logistic((h(p) - 1/2) W).

    ``protein`` [B, G], ``weights`` [G, M]: additive regulation through a sigmoid (Mjolsness, Sharp and Reinitz 1991).
    """
    return torch.sigmoid((hill(protein, 0.5) - 0.5) @ weights)


def langevin_amplitude(source: Tensor, level: Tensor, tau: float, noise: float) -> Tensor:
    """Return noise * sqrt((source + level) / tau), of the chemical Langevin equation (Gillespie 2000)."""
    return noise * torch.sqrt((source + level) / tau)
