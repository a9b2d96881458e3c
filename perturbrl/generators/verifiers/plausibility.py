"""``plausibility``: whether this is a cell at all, and not a copy of one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from perturbrl import registry
from perturbrl.bounds import NonNegativeInt, PositiveInt
from perturbrl.config import require
from perturbrl.generators.training_cells import TrainingCells
from perturbrl.generators.verifiers.base import TopK, Verifier, VerifierConfig
from perturbrl.generators.verifiers.space import components, distances, project


@dataclass(frozen=True)
class PlausibilityConfig(VerifierConfig):
    """Settings; see conf/verifier/plausibility.yaml."""

    k: TopK
    cells: PositiveInt
    components: NonNegativeInt

    def check(self, where: str) -> None:
        """Raise ``UserError`` if fewer cells are compared than are asked for; a real cell has one neighbour less."""
        require(self.k < self.cells, f"{where}.k", f"{self.k} must be below {where}.cells = {self.cells}")


@registry.verifiers.register("plausibility", PlausibilityConfig)
class Plausibility(Verifier):
    """Minus |d(x) - m| / s, d the mean distance to the k nearest real cells, whatever their condition.

    m and s are mean and standard deviation of the same distance of real cells, each without itself. Too far is no cell;
    too near is a copy, or an average, which noise-free cells are. It reads no labels, so it scores held-out conditions.
    """

    needs_cells = False
    needs_controls = False

    def __init__(self, config: PlausibilityConfig) -> None:
        super().__init__(config)
        self.k, self._components, self.cells_compared = config.k, config.components, config.cells

    def _fit(self, cells: TrainingCells) -> None:
        n = min(self.cells_compared, len(cells.x))
        where = f"{self.key}.k"
        require(self.k < n, where, f"{self.k}, but there are {n} training cells; give at most {n - 1}")
        self._axes = components(cells, self._components, f"{self.key}.components")
        rows = torch.arange(n, device=cells.x.device) * len(cells.x) // n
        self._real = project(cells.x[rows], self._axes)
        apart = distances(self._real[None], self._real[None])[0].fill_diagonal_(torch.inf)
        near = apart.topk(self.k, dim=-1, largest=False).values.mean(-1)
        self._mean, self._sd = near.mean(), near.std().clamp(min=1e-6 * float(near.mean()) + 1e-12)

    def _score(self, x: Tensor, condition: Tensor) -> Tensor:
        far = distances(project(x, self._axes), self._real.expand(len(x), -1, -1))
        near = far.topk(self.k, dim=-1, largest=False).values.mean(-1)
        return -((near - self._mean) / self._sd).abs()
