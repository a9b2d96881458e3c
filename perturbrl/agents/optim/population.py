"""Any optimiser of ``perturbrl.optim`` for S parameter vectors at once; Adam has a faster class of its own.

Letters: S runs, n parameters, K tensors (weights and biases of layers, log_std).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perturbrl.agents.optim.state import copy_into
from perturbrl.optim.formulas import formula
from perturbrl.optim.settings import OptimizerConfig
from perturbrl.optim.switch import switch

SWITCHED = "switched"


class PopulationOptimiser:
    """Steps of one optimiser for S runs, each with its own learning rate; runs are independent.

    Parameters
    ----------
    theta
        Parameters, [S, n]; changed in place by ``step``.
    lr
        Learning rate of each run, S numbers; of ASGD the larger one.
    settings
        Of the optimiser, shared by the runs.
    columns
        The columns of each parameter tensor, what "per tensor" refers to; columns in none are padding, always zero.
    label
        What the parameters belong to, for the log.
    """

    def __init__(
        self, theta: Tensor, lr: Sequence[float], settings: OptimizerConfig, columns: Sequence[slice], label: str
    ) -> None:
        self.theta, self.settings, self._columns, self._label = theta, settings, tuple(columns), label
        self._formula, self._switch = formula(settings), switch(settings)
        self._rates = torch.tensor(lr, dtype=theta.dtype, device=theta.device).unsqueeze(1)
        runs = theta.shape[0]
        self._state = {name: torch.zeros_like(theta) for name in self._formula.tensors}
        self._state["t"] = torch.zeros(runs, device=theta.device)
        if self._switch is not None:  # tensors at lr_max and all tensors, in the steps since the last log
            self._state[SWITCHED] = torch.zeros(runs, 2, device=theta.device)

    @torch.no_grad()
    def step(self, grad: Tensor, mask: Tensor | None = None, scale: Tensor | None = None) -> None:
        """See ``Adam.step``."""
        if scale is not None:
            grad.mul_(scale)
        changed = [self.theta, *self._state.values()]
        before = None if mask is None else [tensor.clone() for tensor in changed]
        self._step(grad)
        if mask is not None and before is not None:
            for tensor, old in zip(changed, before, strict=True):
                tensor.copy_(torch.where(mask.view(-1, *(1,) * (tensor.dim() - 1)), tensor, old))

    def _step(self, grad: Tensor) -> None:
        t = self._state["t"].add_(1)
        direction = self._formula.direction(self.theta, grad, self._state, t.double().unsqueeze(1))
        if self._switch is None:
            direction.mul_(self._rates)
        else:
            at_max = self._switch.at_max(self._switch.votes(self._state, self._columns))
            counts = at_max.sum(1), torch.full_like(t, at_max.shape[1])
            self._state[SWITCHED] += torch.stack(counts, 1)
            rates = self._switch.rates(at_max, self._rates)
            for k, part in enumerate(self._columns):
                direction[:, part].mul_(rates[:, k : k + 1])
        self.theta.sub_(direction)

    def optimiser_log(self) -> dict[str, Tensor]:
        """Return the share of steps of tensors taken at lr_max since the last call, [S], if there is a switch.

        It is NaN where no step was taken.
        """
        counts = self._state.get(SWITCHED)
        if counts is None:
            return {}
        share = counts[:, 0] / counts[:, 1]
        counts.zero_()
        return {f"{self._label}_lr_max_share": share}

    def state(self) -> dict[str, Tensor]:
        """Return the moments and step counts."""
        return dict(self._state)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        copy_into(self._state, state)
