"""What a policy predicts of a condition: the mean change of control cells at the end of an episode towards it.

Letters: S policies, n conditions, G genes, A action size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

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
class PredictedChanges:
    """``change`` [S, n, G]: mean change of the cells, where the episode began included; ``mean_abs_action`` [S]."""

    change: Array
    mean_abs_action: Array


@dataclass(frozen=True, eq=False)
class Rollouts:
    """At most ``n_cells`` (None: all) of ``controls`` for each of ``conditions``, for a policy to change.

    A condition takes control cells of its own context, evenly spaced among them, the same for every policy.
    """

    dynamics: Dynamics
    table: PerturbationTable
    controls: Rows
    conditions: Sequence[int] | NDArray[np.int64]
    n_cells: int | None

    @torch.no_grad()
    def changes(self, act: PopulationAct, n_runs: int) -> PredictedChanges:
        """Let S = ``n_runs`` policies change the cells for a whole episode; not finite where an action is not."""
        dynamics, conditions = self.dynamics, np.asarray(self.conditions, dtype=np.int64)
        starts = self._starts
        cell, sizes = np.concatenate(starts), [len(rows) for rows in starts]
        goal = np.repeat(conditions, sizes)
        group = torch.as_tensor(np.repeat(np.arange(len(starts)), sizes))
        total = torch.zeros(n_runs, len(starts), dynamics.action_size, dtype=torch.float64)
        size = torch.zeros(n_runs, dtype=torch.float64)
        for k in range(0, len(cell), _CELLS):
            part = slice(k, k + _CELLS)
            states = dynamics.states(self.table.screen.x[cell[part]])
            moved, actions = _episode(act, n_runs, dynamics, states, goal[part])
            total.index_add_(1, group[part], moved.double().cpu())
            size += actions
        mean = total / torch.bincount(group, minlength=len(starts))[:, None]
        change = dynamics.residual[conditions] + dynamics.genes(mean)
        return PredictedChanges(change, (size / (len(cell) * dynamics.horizon)).numpy())

    @cached_property
    def _starts(self) -> list[Rows]:
        return starts(self.table, self.controls, self.conditions, self.n_cells)


def starts(
    table: PerturbationTable, controls: Rows, conditions: Sequence[int] | NDArray[np.int64], n_cells: int | None
) -> list[Rows]:
    """Return at most ``n_cells`` of ``controls`` of the context of each condition, evenly spaced."""
    context = table.screen.condition[controls]
    every = [controls[context == table.screen.control_of(int(condition))] for condition in conditions]
    return every if n_cells is None else [spread(rows, n_cells) for rows in every]


def _episode(
    act: PopulationAct, n_runs: int, dynamics: Dynamics, state: Tensor, condition: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """Return the coordinates of the change [S, B, A], and the sum over cells and steps of the mean |a|, [S]."""
    state = state.expand(n_runs, -1, -1)
    goal = torch.as_tensor(condition, device=dynamics.device).expand(n_runs, -1)
    change = torch.zeros(*goal.shape, dynamics.action_size, device=dynamics.device)
    size = torch.zeros(n_runs, dtype=torch.float64)
    for t in range(dynamics.horizon):
        action = act(dynamics.observe(state, goal, change, t))
        change = dynamics.advance(change, action)
        size += action.clamp(-1.0, 1.0).abs().mean(-1).sum(-1).double().cpu()
    return change, size
