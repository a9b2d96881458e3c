"""What a generator of cells is to those who score it. Letters: S runs, B cells, G genes, K numbers of a condition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

EFFECTS = ("paired", "direct")


@dataclass(frozen=True)
class Request:
    """For which cells samples are wanted.

    ``control`` [B, G] are real control cells (log-normalised). ``known`` and ``known_control`` [B, K] are what is
    known of the condition that each is to come to, and of the control condition of the same context. ``noise`` [B, G]
    is standard normal.
    """

    control: Tensor
    known: Tensor
    known_control: Tensor
    noise: Tensor


class CellGenerator(ABC):
    """Generates cells of S runs; it takes the place of a policy where runs are scored.

    ``effect``: ``paired`` measures an effect by two samples from the same noise and the same control cell, with the
    description of the perturbation and with that of the control, so that the generator's own bias cancels; ``direct``
    by the perturbed sample against real controls. ``shrinkage`` is the factor of a paired difference; None: it is
    chosen on validation conditions.
    """

    n_runs: int
    theta: Tensor
    effect: str
    shrinkage: float | None

    @abstractmethod
    def sample(self, request: Request) -> Tensor:
        """Return perturbed cells [S, B, G], log-normalised, without what a baseline predicts (``env.residual``)."""

    @abstractmethod
    def sample_controls(self, request: Request) -> Tensor:
        """Return cells [S, B, G] from the same noise with the description of the control."""
