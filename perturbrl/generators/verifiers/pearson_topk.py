"""``pearson_topk``: whether a cell moves in the direction in which real cells of the condition moved."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from perturbrl import registry
from perturbrl.bounds import PositiveInt
from perturbrl.config import require
from perturbrl.generators.training_cells import TrainingCells
from perturbrl.generators.verifiers.base import RealCells, TopK, Verifier, VerifierConfig, require_cells
from perturbrl.generators.verifiers.space import products


@dataclass(frozen=True)
class NearestConfig(VerifierConfig):
    """Settings of the verifiers that compare with the k most similar real cells."""

    k: TopK
    cells: PositiveInt

    def check(self, where: str) -> None:
        """Raise ``UserError`` if fewer cells are compared than are asked for."""
        require(self.k <= self.cells, f"{where}.k", f"{self.k} is above {where}.cells = {self.cells}")


@registry.verifiers.register("pearson_topk", NearestConfig)
class PearsonTopK(Verifier):
    """Mean of the k largest Pearson(x - mu_c, y - mu_c), y real cells of the condition, mu_c the mean control.

    k > 1 makes copying one cell pay less; a large k pays for being near the centre.
    """

    def __init__(self, config: NearestConfig) -> None:
        super().__init__(config)
        self.k, self.cells_compared = config.k, config.cells

    def _fit(self, cells: TrainingCells) -> None:
        require_cells(self.k, cells, f"{self.key}.k")
        self._unit = RealCells(
            cells, unit(cells.x - cells.mean_control[cells.context[cells.condition]]), self.cells_compared
        )

    def _score(self, x: Tensor, condition: Tensor) -> Tensor:
        real, counted = self._unit.of(condition)
        similarity = products(unit(x - self.control(condition)), real)
        return similarity.masked_fill(~counted, -torch.inf).topk(self.k, dim=-1).values.mean(-1)


def unit(x: Tensor) -> Tensor:
    """Centre over the last axis and scale to length 1; products are then Pearson correlations. A constant becomes 0."""
    return torch.nn.functional.normalize(x - x.mean(-1, keepdim=True), dim=-1)
