"""``energy_witness``: a cell's part in the energy distance between generated and real cells of the condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from perturbrl import registry
from perturbrl.bounds import NonNegativeInt, Number, PositiveInt
from perturbrl.generators.training_cells import TrainingCells
from perturbrl.generators.verifiers.base import RealCells, Verifier, VerifierConfig
from perturbrl.generators.verifiers.space import components, distances, project


@dataclass(frozen=True)
class EnergyWitnessConfig(VerifierConfig):
    """Settings; see conf/verifier/energy_witness.yaml."""

    components: NonNegativeInt
    cells: PositiveInt
    repulsion: Annotated[float, Number(least=0)]


@registry.verifiers.register("energy_witness", EnergyWitnessConfig)
class EnergyWitness(Verifier):
    """r(x_i) = c mean_{j != i} |x_i - x_j| - mean_j |x_i - y_j|, x a group of candidates, y real cells.

    With c = ``repulsion`` = 1 this is minus the witness of the energy distance (Szekely and Rizzo 2013), half its first
    variation: raising the mean reward with the other cells held fixed lowers the distance. Summed over a group of B,

        D = 2 E|X - Y| - E|X - X'| - E|Y - Y'| = -(2 / B) sum_i r(x_i) + (2 c - 1) E|X - X'| - E|Y - Y'|,

    where E|X - X'| is the mean over pairs of different candidates (the U-statistic). So with c = 1/2 the sum is the
    U-statistic itself, up to E|Y - Y'|, which no candidate changes.
    """

    needs_controls = False
    least_group = 2

    def __init__(self, config: EnergyWitnessConfig) -> None:
        super().__init__(config)
        self._components, self._repulsion, self.cells_compared = config.components, config.repulsion, config.cells

    def _fit(self, cells: TrainingCells) -> None:
        self._axes = components(cells, self._components, f"{self.key}.components")
        self._real = RealCells(cells, project(cells.x, self._axes), self.cells_compared)

    def _score(self, x: Tensor, condition: Tensor) -> Tensor:
        z = project(x, self._axes)
        real, counted = self._real.of(condition)
        to_real = torch.where(counted, distances(z, real), 0.0).sum(-1) / counted.sum(-1)
        itself = torch.eye(z.shape[1], dtype=torch.bool, device=z.device)
        among = torch.where(itself, 0.0, distances(z, z)).sum(-1) / (z.shape[1] - 1)
        return self._repulsion * among - to_real
