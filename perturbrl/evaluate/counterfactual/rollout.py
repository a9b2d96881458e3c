"""What a policy predicts: control cells, changed by it for a whole episode, towards each condition asked for.

Letters: S policies, n conditions, G genes, A action size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl.envs.counterfactual.dynamics import Dynamics
from perturbrl.envs.counterfactual.parts import spread
from perturbrl.evaluate.actions import PopulationAct
from perturbrl.screens.schema import PerturbationTable, Rows

Array = NDArray[np.float64]
_CELLS = 4096  # changed at a time


@dataclass(frozen=True)
class Rolled:
    """``change`` [S, n, G]: mean change of the cells, where the episode began included; ``mean_abs_action`` [S]."""

    change: Array
    mean_abs_action: Array


@torch.no_grad()
def rolled(
    act: PopulationAct,
    n_runs: int,
    dynamics: Dynamics,
    table: PerturbationTable,
    controls: Rows,
    conditions: Sequence[int] | NDArray[np.int64],
    n_cells: int | None,
) -> Rolled:
    """Let S policies change at most ``n_cells`` (None: all) of ``controls`` for each of ``conditions``, to the end.

    A condition takes control cells of its own context, evenly spaced among them, the same for every policy. Where an
    action is not finite, so is the change.
    """
    starts = [_starts(table, controls, int(condition), n_cells) for condition in conditions]
    cell = np.concatenate(starts)
    asked = np.repeat(np.asarray(conditions, dtype=np.int64), [len(rows) for rows in starts])
    group = torch.as_tensor(np.repeat(np.arange(len(starts)), [len(rows) for rows in starts]))
    total = torch.zeros(n_runs, len(starts), dynamics.action_size, dtype=torch.float64)
    size = torch.zeros(n_runs, dtype=torch.float64)
    for k in range(0, len(cell), _CELLS):
        part = slice(k, k + _CELLS)
        change, moved = _episode(act, n_runs, dynamics, dynamics.states(table.screen.x[cell[part]]), asked[part])
        total.index_add_(1, group[part], change.double().cpu())
        size += moved
    mean = total / torch.bincount(group, minlength=len(starts))[:, None]
    begun = dynamics.residual[np.asarray(conditions, dtype=np.int64)]
    return Rolled(begun + dynamics.genes(mean), (size / (len(cell) * dynamics.horizon)).numpy())


def _episode(
    act: PopulationAct, n_runs: int, dynamics: Dynamics, state: Tensor, condition: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """Return the coordinates of the change [S, B, A], and the sum over cells and steps of the mean |a|, [S]."""
    state = state.expand(n_runs, -1, -1)
    asked = torch.as_tensor(condition, device=dynamics.device).expand(n_runs, -1)
    change = torch.zeros(*asked.shape, dynamics.action_size, device=dynamics.device)
    size = torch.zeros(n_runs, dtype=torch.float64)
    for t in range(dynamics.horizon):
        action = act(dynamics.observe(state, asked, change, t))
        change = dynamics.advance(change, action)
        size += action.clamp(-1.0, 1.0).abs().mean(-1).sum(-1).double().cpu()
    return change, size


def _starts(table: PerturbationTable, controls: Rows, condition: int, n_cells: int | None) -> Rows:
    own = controls[table.screen.condition[controls] == table.screen.control_of(condition)]
    return own if n_cells is None else spread(own, n_cells)
