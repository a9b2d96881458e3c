"""Velocity networks: where a cell moves at time t of the flow.

Letters: S runs, M cells, G genes, K numbers of a condition, H hidden units, E numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from perturbrl.generators.layout import Layout, Part, apply, linear
from perturbrl.generators.settings import NetworkConfig

FREQUENCIES = 16


class Velocity(Protocol):
    """The velocity of S runs, whose parameters are rows of a matrix."""

    layout: Layout

    def __call__(self, theta: Tensor, x: Tensor, t: Tensor, control: Tensor, known: Tensor) -> Tensor:
        """Return dx/dt [S, M, G] at ``x`` [S, M, G] and times ``t`` [S, M], of parameters ``theta`` [S, n].

        ``control`` [S, M, G] is the control cell, ``known`` [S, M, K] what is known of the condition.
        """
        ...


def conditions(n_known: int, size: int) -> dict[str, Part]:
    """Return the tensors of the embedding of time and condition."""
    return linear("time", 2 * FREQUENCIES, size) | linear("known", n_known, size)


def embedded(tensors: Mapping[str, Tensor], t: Tensor, known: Tensor) -> Tensor:
    """Return the embedding [S, M, E] of times [S, M] and conditions [S, M, K]."""
    return F.silu(apply(tensors, "time", waves(t)) + apply(tensors, "known", known))


def waves(t: Tensor) -> Tensor:
    """Return sines and cosines of times [S, M] at frequencies of 1 to exp(5), [S, M, 32]."""
    angle = t.unsqueeze(-1) * torch.linspace(0, 5, FREQUENCIES, device=t.device).exp()
    return torch.cat([angle.sin(), angle.cos()], -1)


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return the normalised features of ``x``, scaled by 1 + ``scale`` and moved by ``shift``."""
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


class MLP:
    """Residual blocks of two layers, each modulated by time and condition.

    ``film`` (Perez et al. 2018): scale and shift of the normalised features; ``adaln`` (adaLN-zero, Peebles & Xie
    2023): also a gate of what a block adds, which starts at 0. The condition enters the first layer too, linearly, so
    that descriptions of several targets can add up.
    """

    def __init__(self, config: NetworkConfig, n_genes: int, n_known: int) -> None:
        self.blocks, self._gated = config.blocks, config.conditioning == "adaln"
        hidden, size = config.hidden, config.embedding
        parts = conditions(n_known, size) | linear("cell", 2 * n_genes, hidden) | linear("start", size, hidden)
        parts |= linear("condition", n_known, hidden)
        for k in range(config.blocks):
            parts |= linear(f"{k}.modulation", size, (3 if self._gated else 2) * hidden, zero=True)
            parts |= linear(f"{k}.first", hidden, hidden) | linear(f"{k}.second", hidden, hidden)
        self.layout = Layout(parts | linear("velocity", hidden, n_genes, zero=True))

    def __call__(self, theta: Tensor, x: Tensor, t: Tensor, control: Tensor, known: Tensor) -> Tensor:
        """Return the velocity; see ``Velocity``."""
        w = self.layout.views(theta)
        e = embedded(w, t, known)
        h = apply(w, "cell", torch.cat([x, control], -1)) + apply(w, "start", e) + apply(w, "condition", known)
        for k in range(self.blocks):
            scale, shift, *gate = apply(w, f"{k}.modulation", e).chunk(3 if self._gated else 2, -1)
            u = F.silu(apply(w, f"{k}.first", modulated(h, scale, shift)))
            u = apply(w, f"{k}.second", u)
            h = h + (gate[0] * u if gate else u)
        return apply(w, "velocity", h)
