"""Named tensors of S networks within one matrix of parameters. Letters: S runs, n parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """A tensor of a network: its ``shape``, and the ``bound`` of the uniform draw that it starts from (0: zeros)."""

    shape: tuple[int, ...]
    bound: float = 0.0


def linear(name: str, n_in: int, n_out: int, zero: bool = False) -> dict[str, Part]:
    """Return weights and bias of a linear layer, drawn as ``torch.nn.Linear`` does; ``zero``: both start at 0."""
    bound = 0.0 if zero else 1 / math.sqrt(n_in)
    return {f"{name}.weight": Part((n_in, n_out), bound), f"{name}.bias": Part((1, n_out), bound)}


class Layout:
    """Where each tensor of a network stands in a row of ``theta`` [S, n]."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self.parts = dict(parts)
        self.columns: dict[str, slice] = {}
        at = 0
        for name, part in self.parts.items():
            self.columns[name] = slice(at, at + math.prod(part.shape))
            at = self.columns[name].stop
        self.size = at

    def views(self, theta: Tensor) -> dict[str, Tensor]:
        """Return each tensor as a view [S, *shape] of ``theta``."""
        return {name: theta[:, self.columns[name]].view(-1, *part.shape) for name, part in self.parts.items()}

    def initialise(self, row: Tensor, generator: torch.Generator) -> None:
        """Draw the parameters [n] of one run, on the CPU."""
        for name, part in self.parts.items():
            drawn = torch.rand(math.prod(part.shape), generator=generator).mul_(2 * part.bound).sub_(part.bound)
            row[self.columns[name]] = drawn.to(row.device)


def apply(tensors: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Return the linear layer ``name`` of ``x`` [S, M, I], [S, M, O]."""
    return torch.baddbmm(tensors[f"{name}.bias"], x, tensors[f"{name}.weight"])
