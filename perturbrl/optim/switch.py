"""Adaptive switching gradient descent (ASGD): one of two learning rates, chosen at each step from a moment.

A parameter tensor has n coordinates with the second moment v (the largest so far in ASGDAMSGrad):

    lr_min  if  count(v > mean(v)) < adaptive * count(v < mean(v))  else  lr_max

The paper's pseudo-code compares mean(|v|) with mean(v). As v >= 0 these are the same number, so that form never
switches; the comparison of coordinates above is the one that works. ``scope=tensor``: each tensor decides for itself
(as released); ``global``: counts are summed over all tensors (as the paper says).

The authors' notebooks of 2026 read the first moment instead (``moment=first``): lr_min if mean(m) > 0; with
``scope=global`` the last tensor decides for all, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perturbrl.optim.formulas import State
from perturbrl.optim.settings import AsgdConfig, OptimizerConfig


@dataclass(frozen=True)
class Switch:
    """The rule above. Letters: S runs, n coordinates, K tensors."""

    lr_min: float
    adaptive: float
    scope: str
    moment: str

    def votes(self, state: State, columns: Sequence[slice]) -> Tensor:
        """Return one number for each tensor, [S, K] float64: negative for lr_min.

        Parameters
        ----------
        state
            The moments, each [S, n].
        columns
            The coordinates of each tensor.
        """
        if self.moment == "first":
            return torch.stack([-state["m"][:, part].mean(1, dtype=torch.float64) for part in columns], 1)
        v = state.get("v_max", state["v"])
        return torch.stack([self._excess(v[:, part]) for part in columns], 1)

    def _excess(self, v: Tensor) -> Tensor:
        """Return count(v > mean(v)) - adaptive * count(v < mean(v)) of a tensor, [S]."""
        mean = v.mean(1, keepdim=True, dtype=torch.float64).to(v.dtype)  # exact where all are equal
        side = torch.sign(v - mean)  # two sums of it take half the time of two comparisons
        difference, both = (x.sum(1, dtype=torch.float32).double() for x in (side, side.abs()))
        return (both + difference) / 2 - self.adaptive * (both - difference) / 2

    def at_max(self, votes: Tensor) -> Tensor:
        """Return which tensors take lr_max, bool [S, K], from the votes of all of them."""
        if self.scope == "global":
            decisive = votes[:, -1:] if self.moment == "first" else votes.sum(1, keepdim=True)
            votes = decisive.expand_as(votes)
        return votes >= 0

    def rates(self, at_max: Tensor, lr: Tensor) -> Tensor:
        """Return the learning rate of each tensor, [S, K]; ``lr`` [S, 1] is lr_max."""
        return torch.where(at_max, lr, self.lr_min)


def switch(c: OptimizerConfig) -> Switch | None:
    """Return the switch of an optimiser, if it has one."""
    return Switch(c.lr_min, c.adaptive, c.scope, c.moment) if isinstance(c, AsgdConfig) else None
