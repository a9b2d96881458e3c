"""``rmse_topk``: whether a cell is near to real cells of the condition."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from perturbrl import registry
from perturbrl.generators.training_cells import TrainingCells
from perturbrl.generators.verifiers.base import RealCells, Verifier, require_cells
from perturbrl.generators.verifiers.pearson_topk import NearestConfig
from perturbrl.generators.verifiers.space import distances


@registry.verifiers.register("rmse_topk", NearestConfig)
class RMSETopK(Verifier):
    """Minus the mean of the k smallest root mean squared differences to real cells of the condition."""

    needs_controls = False

    def __init__(self, config: NearestConfig) -> None:
        super().__init__(config)
        self.k, self.cells_compared = config.k, config.cells

    def _fit(self, cells: TrainingCells) -> None:
        require_cells(self.k, cells, f"{self.key}.k")
        self._real = RealCells(cells, cells.x, self.cells_compared)

    def _score(self, x: Tensor, condition: Tensor) -> Tensor:
        real, counted = self._real.of(condition)
        far = distances(x, real).masked_fill(~counted, torch.inf)
        nearest = far.topk(self.k, dim=-1, largest=False).values
        return -nearest.mean(-1) / math.sqrt(x.shape[-1])
