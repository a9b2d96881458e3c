"""What a policy sees and what its actions do, the same in training and in evaluation.

Letters: S runs, B cells, G genes, A action size, K numbers of the observed state, P conditions of the screen, O
numbers of an observation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from perturbrl.envs.counterfactual.projections import Geometry
from perturbrl.screens.schema import PerturbationTable


class Dynamics:
    """Observations, and how a change grows.

    An observation is [state of the changed cell K | description | covariates | time left], the last only where the
    horizon is above 1. Descriptions and covariates are standardised over training conditions; a number that they all
    share is left as it is. One step adds ``step_size * reach * clip(a, -1, 1)`` to the coordinates of the change.
    """

    def __init__(
        self,
        table: PerturbationTable,
        geometry: Geometry,
        residual: NDArray[np.float64],
        train: NDArray[np.int64],
        step_size: Sequence[float],
        horizon: int,
        device: torch.device,
    ) -> None:
        """``residual`` [P, G]: what each condition of the screen begins with; ``train``: its training conditions."""
        self.horizon, self.device = horizon, device
        self.geometry, self.residual = geometry, residual
        self._offset = geometry.centre @ geometry.state
        self._push = _tensor(geometry.change.T @ geometry.state, device).expand(len(step_size), -1, -1)
        self._begin = _tensor(residual @ geometry.state, device)
        reach = _tensor(geometry.reach, device)
        self._stride = torch.tensor(step_size, dtype=torch.float32, device=device)[:, None, None] * reach
        known = [_standardised(block, train) for block in (table.description, table.covariates)]
        self._known = _tensor(np.concatenate(known, axis=1), device)
        widths = {"state": geometry.state.shape[1], "description": known[0].shape[1], "covariates": known[1].shape[1]}
        self.slices = _slices(widths | {"time": int(horizon > 1)})
        self.obs_dim = sum(s.stop - s.start for s in self.slices.values())
        self.action_size = geometry.change.shape[1]

    def states(self, x: sparse.csr_matrix) -> Tensor:
        """Return how cells ``x`` [n, G] are observed before any change, [n, K]."""
        return _tensor(np.asarray(x @ self.geometry.state) - self._offset, self.device)

    def known(self, condition: Tensor) -> Tensor:
        """Return the standardised description and covariates of conditions (indices in the screen), [..., K]."""
        return self._known[condition]

    def observe(self, state: Tensor, condition: Tensor, change: Tensor, t: int) -> Tensor:
        """Return observations [S, B, O] after t steps.

        ``state`` [S, B, K] of the unchanged cells, ``condition`` [S, B] indices in the screen, ``change`` [S, B, A].
        """
        now = state + self._begin[condition] + torch.bmm(change, self._push[: len(change)])
        parts = [now, self._known[condition]]
        if self.horizon > 1:
            parts.append(torch.full_like(now[..., :1], 1 - t / self.horizon))
        return torch.cat(parts, -1)

    def advance(self, change: Tensor, action: Tensor) -> Tensor:
        """Return the coordinates of the change after one more action, both [S, B, A]."""
        return change + action.clamp(-1.0, 1.0) * self._stride

    def towards(self, goal: Tensor, change: Tensor, t: int) -> Tensor:
        """Return the action that leads evenly from ``change`` after t steps to ``goal`` at the end, all [S, B, A]."""
        return ((goal - change) / (self._stride * (self.horizon - t))).clamp(-1.0, 1.0)

    def genes(self, change: Tensor) -> NDArray[np.float64]:
        """Return coordinates [..., A] as a change of genes [..., G], without what the condition begins with."""
        return np.asarray(change.double().cpu().numpy() @ self.geometry.change.T)


def _standardised(block: NDArray[np.float32], train: NDArray[np.int64]) -> NDArray[np.float64]:
    wide = block.astype(np.float64)
    mean, sd = wide[train].mean(axis=0), wide[train].std(axis=0)
    varies = sd > 1e-6
    return np.asarray(np.where(varies, (wide - mean) / np.where(varies, sd, 1.0), wide))


def _slices(widths: Mapping[str, int]) -> dict[str, slice]:
    out, start = {}, 0
    for name, width in widths.items():
        if width:
            out[name] = slice(start, start + width)
        start += width
    return out


def _tensor(values: NDArray[np.float64], device: torch.device) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32, device=device)
