"""The training cells of a screen as tensors: all that a generator or a verifier may be fitted on.

Letters: N cells, G genes, P conditions of the screen (controls among them), C contexts, M cells of a condition.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perturbrl.errors import require

Names = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class TrainingCells:
    """Cells of the training part of a split, and which conditions of the screen they show.

    Parameters
    ----------
    x
        Log-normalised expression [N, G], float32; perturbed and control cells.
    condition
        Index [N] int64 of each cell's condition among the P of the screen.
    names, targets
        The name of each condition and what it perturbs (nothing for a control), P of each. Conditions that are held
        out are listed too; they have no cells here.
    genes
        The names of the G genes.
    context
        Index [P] int64 of each condition's context.
    contexts
        The names of the C contexts.
    controls
        Rows of x that hold control cells, for each of C contexts; empty where a context does not train.
    mean_control
        Mean of the control cells of each context [C, G]; NaN where there are none.
    """

    x: Tensor
    condition: Tensor
    names: Names
    targets: tuple[Names, ...]
    genes: Names
    context: Tensor
    contexts: Names
    controls: tuple[Tensor, ...]
    mean_control: Tensor

    @property
    def counts(self) -> Tensor:
        """Number of training cells of each condition, [P]."""
        return torch.bincount(self.condition, minlength=len(self.names))

    @property
    def perturbed(self) -> Tensor:
        """Indices of the perturbed conditions that have training cells, sorted."""
        is_perturbed = torch.tensor([len(t) > 0 for t in self.targets], device=self.x.device)
        return torch.nonzero((self.counts > 0) & is_perturbed)[:, 0]

    def rows(self, condition: int) -> Tensor:
        """Return the rows of x of a condition."""
        return torch.nonzero(self.condition == condition)[:, 0]

    def spread(self, most: int) -> tuple[Tensor, Tensor]:
        """Return rows of x of each condition, at most ``most`` and evenly spaced, and how many each has.

        Returns
        -------
        rows
            [P, M] int64; a condition with fewer than M cells repeats its first, one without any holds zeros.
        n
            [P] int64, the number of rows that count.
        """
        counts = self.counts
        n = counts.clamp(max=most)
        order = torch.argsort(self.condition, stable=True)
        first = counts.cumsum(0) - counts
        place = torch.arange(int(n.max()), device=self.x.device)
        step = place * counts[:, None] // n.clamp(min=1)[:, None]
        at = torch.where(place < n[:, None], step, 0) + first[:, None]
        return torch.where(n[:, None] > 0, order[at.clamp(max=len(order) - 1)], 0), n

    def means(self) -> Tensor:
        """Return the mean cell of each condition, [P, G]; NaN for a condition without training cells."""
        return _means(self.x, self.condition, len(self.names))

    def subset(self, rows: Tensor) -> TrainingCells:
        """Return some of the cells; conditions and genes stay."""
        return training_cells(
            self.x[rows],
            self.condition[rows],
            names=self.names,
            targets=self.targets,
            genes=self.genes,
            contexts=[self.contexts[k] for k in self.context.tolist()],
        )

    def labelled(self, condition: Tensor) -> TrainingCells:
        """Return the same cells under other conditions [N]; control cells must remain so."""
        return dataclasses.replace(self, condition=condition)


def training_cells(
    x: Tensor,
    condition: Tensor,
    *,
    names: Sequence[str],
    targets: Sequence[Names],
    genes: Sequence[str],
    contexts: Sequence[str],
) -> TrainingCells:
    """Gather the controls of each context, and their mean.

    Parameters
    ----------
    x, condition, names, targets, genes
        As of ``TrainingCells``; ``x`` and ``condition`` must hold training cells only.
    contexts
        The context of each of the P conditions.

    Raises
    ------
    UserError
        The sizes do not agree, or a value of x is not finite.
    """
    where = "training cells"
    require(x.ndim == 2 and len(x) > 0, where, f"need a tensor [cells, genes] with at least one cell, got {[*x.shape]}")
    require(x.shape[1] == len(genes), where, f"{x.shape[1]} columns, but {len(genes)} names of genes")
    require(len(condition) == len(x), where, f"{len(x)} cells, but conditions of {len(condition)}")
    require(len(names) == len(targets) == len(contexts), where, "names, targets and contexts must be one per condition")
    require(bool(((condition >= 0) & (condition < len(names))).all()), where, "a condition is out of range")
    require(bool(torch.isfinite(x).all()), where, "a value of x is not finite")
    unique = tuple(sorted(set(contexts)))
    context = torch.tensor([unique.index(c) for c in contexts], device=x.device)
    is_control = torch.tensor([len(t) == 0 for t in targets], device=x.device)
    cell_context = torch.where(is_control[condition], context[condition], -1)
    controls = tuple(torch.nonzero(cell_context == c)[:, 0] for c in range(len(unique)))
    kept = torch.cat(controls)
    mean = _means(x[kept], cell_context[kept], len(unique))
    return TrainingCells(x, condition, tuple(names), tuple(targets), tuple(genes), context, unique, controls, mean)


def _means(x: Tensor, group: Tensor, n: int) -> Tensor:
    """Return the mean of the rows of x [N, G] of each of n groups, [n, G]; NaN for a group without any."""
    sums = torch.zeros(n, x.shape[1], dtype=torch.float64, device=x.device).index_add_(0, group, x.double())
    return (sums / torch.bincount(group, minlength=n)[:, None]).to(x.dtype)
