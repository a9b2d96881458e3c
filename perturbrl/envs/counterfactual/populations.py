"""The cells of one part of a split as tensors, by condition: what an agent that generates cells learns from.

Letters: S runs, P conditions of the part, N perturbed cells, M control cells, G genes, K numbers known of a condition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl.envs.counterfactual.dynamics import Dynamics
from perturbrl.envs.counterfactual.parts import part_of
from perturbrl.screens.schema import PerturbationTable, Rows


@dataclass(frozen=True)
class Populations:
    """Cells of P conditions, those with fewest targets first, and control cells of their contexts.

    Those of condition i are ``cells[first[i] : first[i] + count[i]]`` ([N, G], log-normalised); the control cells of
    its context ``controls[control_first[i] : control_first[i] + control_count[i]]`` ([M, G]). ``known`` and
    ``known_control`` [P, K] are the standardised numbers of the condition, and of the control of its context.
    ``begin`` [P, G] is the change that a baseline predicts (``env.residual``; 0 without). Run k may use the first
    ``allowed[k]`` conditions ([S, 1] int64).
    """

    cells: Tensor
    first: Tensor
    count: Tensor
    controls: Tensor
    control_first: Tensor
    control_count: Tensor
    known: Tensor
    known_control: Tensor
    begin: Tensor
    allowed: Tensor


def populations(
    table: PerturbationTable, controls: Rows, dynamics: Dynamics, allowed: Tensor, most: int
) -> Populations:
    """Gather the part of the split that ``controls`` belong to; at most ``most`` cells of each group, evenly spaced.

    Raises
    ------
    UserError
        As ``parts.part_of``.
    """
    part, device = part_of(table, controls, most), dynamics.device
    sizes = np.array([len(rows) for rows in part.population], dtype=np.int64)
    condition = torch.as_tensor(part.conditions, device=device)
    control = torch.as_tensor([table.screen.control_of(int(c)) for c in part.conditions], device=device)

    def dense(rows: Rows) -> Tensor:
        return torch.as_tensor(table.screen.x[rows].toarray(), dtype=torch.float32, device=device)

    def index(values: NDArray[np.int64]) -> Tensor:
        return torch.as_tensor(values, device=device)

    return Populations(
        cells=dense(np.concatenate(part.population)),
        first=index(np.cumsum(sizes) - sizes),
        count=index(sizes),
        controls=dense(part.cells),
        control_first=index(part.first),
        control_count=index(part.count),
        known=dynamics.known(condition),
        known_control=dynamics.known(control),
        begin=torch.as_tensor(dynamics.residual[part.conditions], dtype=torch.float32, device=device),
        allowed=allowed,
    )
