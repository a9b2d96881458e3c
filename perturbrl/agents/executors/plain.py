"""Steps one after another, as the page of the recipe says; and what every executor offers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from perturbrl.agents.common.rollout import Log, Rollout

Step = Callable[[Rollout, Tensor | None], tuple[Log, Tensor | None]]
"""Take one step on a minibatch in the runs of a mask [S] (None: all); return what to log, each [S], and the mask."""

Epoch = tuple[Log, Tensor | None]
"""What an epoch logs, each [S, number of minibatches], and the mask of runs that go on."""


class Executor(Protocol):
    """Takes the steps of an epoch."""

    name: str

    def epoch(self, batch: Rollout, active: Tensor | None, logged: bool) -> Epoch:
        """Take a step on each minibatch of a shuffled batch; nothing is logged unless ``logged``."""
        ...


class PlainSteps:
    """Every step as the recipe says it, in torch (its networks may still be computed by native kernels)."""

    name = "torch"

    def __init__(self, step: Step, minibatch: int) -> None:
        self._step, self._minibatch = step, minibatch

    def epoch(self, batch: Rollout, active: Tensor | None, logged: bool) -> Epoch:
        """See ``Executor``."""
        logs = []
        for part in batch.minibatches(self._minibatch):
            log, active = self._step(part, active)
            logs.append(log)
        return stacked(logs) if logged else {}, active


def stacked(logs: Sequence[Log]) -> Log:
    """Put what the steps of an epoch log side by side, each [S, number of steps]."""
    return {key: torch.stack([log[key] for log in logs], 1) for key in logs[0]}
