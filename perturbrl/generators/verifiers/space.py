"""Coordinates for distances between cells: all genes, or principal components of training cells."""

from __future__ import annotations

import torch
from torch import Tensor

from perturbrl.config import require
from perturbrl.envs.counterfactual.projections import FITTED_CELLS
from perturbrl.generators.training_cells import TrainingCells


def components(cells: TrainingCells, k: int, key: str) -> Tensor | None:
    """Return the first ``k`` principal axes of training cells [G, k]; None, for all genes, where k is 0.

    Raises
    ------
    UserError
        There are fewer genes or cells than ``k``.
    """
    if k == 0:
        return None
    most = min(cells.x.shape)
    require(
        k <= most, key, f"{k}, but {most} is the most that {cells.x.shape[0]} cells of {cells.x.shape[1]} genes have"
    )
    n = min(FITTED_CELLS, len(cells.x))
    x = cells.x[torch.arange(n, device=cells.x.device) * len(cells.x) // n].double()
    centred = x - x.mean(0)
    vectors: Tensor = torch.linalg.eigh(centred.T @ centred)[1]
    return vectors[:, -k:].flip(1).to(cells.x.dtype).contiguous()


def project(x: Tensor, axes: Tensor | None) -> Tensor:
    """Return cells [..., G] in these axes, [..., K]."""
    return x if axes is None else x @ axes
