"""Small training cells with known structure."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perturbrl.generators.training_cells import TrainingCells, training_cells

NAMES = ("control|a", "control|b", "A|a", "A|b", "B|a", "C|a")
TARGETS = ((), (), ("A",), ("A",), ("B",), ("C",))
CONTEXTS = ("a", "b", "a", "b", "a", "a")
HELD_OUT = 5  # C|a has no training cell
SIZES = (14, 12, 9, 8, 11, 0)


def toy_cells(
    n_genes: int = 12, seed: int = 0, sizes: tuple[int, ...] = SIZES, genes: Sequence[str] = ()
) -> TrainingCells:
    """Cells of five conditions in two contexts, in mixed order; each condition shifts the mean."""
    draw = torch.Generator().manual_seed(seed)
    centre = 1.0 + torch.rand(2, n_genes, generator=draw)
    shift = torch.randn(len(NAMES), n_genes, generator=draw)
    shift[:2] = 0.0
    condition = torch.repeat_interleave(torch.arange(len(NAMES)), torch.tensor(sizes))
    condition = condition[torch.randperm(len(condition), generator=draw)]
    context = torch.tensor([CONTEXTS.index(c) for c in CONTEXTS])[condition]
    x = centre[context] + shift[condition] + 0.5 * torch.randn(len(condition), n_genes, generator=draw)
    return training_cells(
        x,
        condition,
        names=NAMES,
        targets=TARGETS,
        genes=genes or [f"g{k}" for k in range(n_genes)],
        contexts=CONTEXTS,
    )


def candidates(n_groups: int, size: int, n_genes: int = 12, seed: int = 1) -> Tensor:
    """Groups of candidates [Q, B, G]."""
    return 1.5 + torch.randn(n_groups, size, n_genes, generator=torch.Generator().manual_seed(seed))


def with_x(cells: TrainingCells, x: Tensor, genes: Sequence[str] = ()) -> TrainingCells:
    """The same cells with other values."""
    named = genes or cells.genes
    return training_cells(x, cells.condition, names=NAMES, targets=TARGETS, genes=named, contexts=CONTEXTS)
