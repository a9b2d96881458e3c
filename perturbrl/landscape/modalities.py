"""What is measured of a simulated cell: RNA, chromatin and surface protein, as counts.

Letters: B cells, G regulators, M target genes, K = G + M genes, Q features of a modality.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from perturbrl.landscape.kinetics import Targets

LEAK = 0.05
"""Expression of a gene that is fully off, relative to one that is fully on."""
ABUNDANCE_SD = 0.8
DEPTH_SD = 0.3
"""Standard deviations of the log abundance of features, and of the log depth of cells."""


@dataclass(frozen=True)
class Assay:
    """A modality: feature q reads gene ``gene[q]`` and has the signal ``abundance[q]`` when it is fully on."""

    gene: Tensor
    abundance: Tensor


def wire_targets(n_regulators: int, n_targets: int, generator: torch.Generator) -> Targets:
    """Draw M target genes: one to three regulators each, the first an activator, and mRNA lifetimes of 0.5 to 2."""
    most = min(3, n_regulators)
    first = torch.rand(n_targets, n_regulators, generator=generator).argsort(dim=1)[:, :most]
    size = 4.0 + 4.0 * torch.rand(n_targets, most, generator=generator)
    sign = torch.where(torch.rand(n_targets, most, generator=generator) < 0.5, 1.0, -1.0)
    sign[:, 0] = 1.0
    count = torch.randint(1, most + 1, (n_targets, 1), generator=generator)
    weights = torch.zeros(n_targets, n_regulators).scatter_(1, first, size * sign * (torch.arange(most) < count))
    lifetime = 0.5 * 4.0 ** torch.rand(n_targets, generator=generator)
    return Targets(weights.T.contiguous(), lifetime)


def all_genes(n_genes: int, generator: torch.Generator) -> Assay:
    """Return an assay of every gene, with log-normal abundances."""
    return Assay(torch.arange(n_genes), _abundance(n_genes, generator))


def peaks(n_peaks: int, n_genes: int, generator: torch.Generator) -> Assay:
    """Return an assay of ``n_peaks`` peaks spread as evenly as can be over randomly ordered genes, sorted by gene."""
    order = torch.randperm(n_genes, generator=generator)
    gene = order[torch.arange(n_peaks) % n_genes].sort().values
    return Assay(gene, _abundance(n_peaks, generator))


def surface_proteins(n_proteins: int, n_regulators: int, n_targets: int, generator: torch.Generator) -> Assay:
    """Return an assay of the proteins of ``n_proteins`` different target genes (regulators are not on the surface)."""
    gene = n_regulators + torch.randperm(n_targets, generator=generator)[:n_proteins].sort().values
    return Assay(gene, _abundance(n_proteins, generator))


def expected(level: Tensor, assay: Assay) -> Tensor:
    """Return the noise-free signal [B, Q] at gene levels [B, K]: abundance * (leak + (1 - leak) * level)."""
    return assay.abundance * (LEAK + (1.0 - LEAK) * level[:, assay.gene])


def counts(
    signal: Tensor, depth: float, dropout: float, batch: Tensor, batch_effect: float, generator: torch.Generator
) -> Tensor:
    """Measure a signal [B, Q]: Poisson counts, int32 [B, Q].

    A cell's depth is log-normal with the median ``depth``, the counts of an average cell before dropout. ``batch``
    int64 [B] numbers the batch of each cell; every feature of a batch is scaled by exp(N(0, ``batch_effect``^2)). Each
    entry is then lost with probability ``dropout``.
    """
    size = cell_sizes(len(signal), generator)
    shift = batch_shifts(batch, signal.shape[1], batch_effect, generator)
    return observe(signal * size * (depth / signal.sum(dim=1).mean()) * shift[batch], dropout, generator)


def cell_sizes(n_cells: int, generator: torch.Generator) -> Tensor:
    """Draw the depths of cells relative to the median, [B, 1]."""
    return torch.exp(DEPTH_SD * torch.randn(n_cells, 1, generator=generator))


def batch_shifts(batch: Tensor, n_features: int, batch_effect: float, generator: torch.Generator) -> Tensor:
    """Draw the factor of each feature in each batch that is among ``batch``, [batches, Q]."""
    return torch.exp(batch_effect * torch.randn(int(batch.max()) + 1, n_features, generator=generator))


def observe(rate: Tensor, dropout: float, generator: torch.Generator) -> Tensor:
    """Draw Poisson counts at ``rate`` [B, Q] and lose each entry with probability ``dropout``: int32 [B, Q]."""
    observed = torch.poisson(rate, generator=generator)
    captured = torch.rand(rate.shape, generator=generator) >= dropout
    return (observed * captured).to(torch.int32)


def _abundance(n: int, generator: torch.Generator) -> Tensor:
    return torch.exp(ABUNDANCE_SD * torch.randn(n, generator=generator))
