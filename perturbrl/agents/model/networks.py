"""Layers for S networks at once, with hand-written derivatives.

Each layer offers ``forward`` (y and what the derivatives need), ``vjp`` (pull dL/dy back to the parameters and the
input) and ``jvp`` (push a change of parameters forward). PPO needs the first two, TRPO's Fisher-vector
product all three. The parameters of all layers of run k are row k of one tensor ``theta`` [S, n], so an optimiser or a
conjugate gradient sees plain vectors.

Letters: S runs, M rows of a batch, I inputs, O outputs, n parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from perturbrl.agents import kernels
from perturbrl.agents.kernels.chain import Chain

# Run k of a population must be run k alone, bit for bit, and on a CPU both BLAS and the tails of vectorised loops round
# by where a number stands in memory. So every row starts on a cache line, in floats.
CACHE_LINE = 16
ACTIVATIONS = ("tanh", "relu")


def aligned(width: int) -> int:
    """Return the first width from ``width`` on that keeps the rows of a tensor [S, width] on cache lines."""
    return -(-width // CACHE_LINE) * CACHE_LINE


class Layer(Protocol):
    """A differentiable map whose parameters are columns ``start:start + n_params`` of ``theta``."""

    n_in: int
    n_out: int
    n_params: int

    def place(self, start: int) -> int:
        """Take the parameter columns from ``start`` on; return the first free column after them."""
        ...

    def columns(self) -> tuple[slice, ...]:
        """Return the columns of each parameter tensor: weights and biases."""
        ...

    def init(self, row: Tensor, generator: torch.Generator) -> None:
        """Fill this layer's part of one run's parameters ``row`` [n]."""
        ...

    def cache_views(self, flat: Tensor) -> None:
        """Keep this layer's views of a tensor [S, n] that will be used again and again (parameters, their gradient)."""
        ...

    def forward(self, theta: Tensor, x: Tensor) -> tuple[Tensor, Any]:
        """Map ``x`` [S, M, I] to y [S, M, O]; also return what ``vjp`` and ``jvp`` need."""
        ...

    def vjp(self, theta: Tensor, cache: Any, dy: Tensor, grad: Tensor, need_dx: bool) -> Tensor | None:
        """Write dL/dtheta into ``grad`` [S, n]; return dL/dx [S, M, I] if ``need_dx``."""
        ...

    def jvp(self, theta: Tensor, cache: Any, v: Tensor, dx: Tensor | None) -> Tensor:
        """Return the change of y [S, M, O] when theta moves along ``v`` [S, n] and x along ``dx``."""
        ...


@dataclass(frozen=True)
class Dense:
    """y = activation(x W + b), activation ``identity``, ``tanh`` or ``relu``; orthogonal W of ``gain``, zero b."""

    n_in: int
    n_out: int
    gain: float
    activation: str = "identity"


class Mlp:
    """Dense layers one after another, for each run its own: what ``kernels`` computes in one call."""

    def __init__(self, layers: Sequence[Dense]) -> None:
        self.layers = tuple(layers)
        self.n_in, self.n_out = self.layers[0].n_in, self.layers[-1].n_out
        self.n_params = sum((layer.n_in + 1) * layer.n_out for layer in self.layers)
        self.arithmetic = kernels.current()
        self.place(0)

    def place(self, start: int) -> int:
        sizes = (self.n_in, *(layer.n_out for layer in self.layers))
        self.chain = Chain(start, sizes, tuple(layer.activation for layer in self.layers))
        return self.chain.stop

    def columns(self) -> tuple[slice, ...]:
        return self.chain.columns

    def cache_views(self, flat: Tensor) -> None:
        self.chain.cache_views(flat)

    def init(self, row: Tensor, generator: torch.Generator) -> None:
        for layer, (weight, bias) in zip(self.layers, self.chain.views(row[None]), strict=True):
            drawn = torch.empty(layer.n_out, layer.n_in)
            torch.nn.init.orthogonal_(drawn, layer.gain, generator=generator)
            weight[0].copy_(drawn.T)
            bias.zero_()

    def forward(self, theta: Tensor, x: Tensor) -> tuple[Tensor, Any]:
        return self.arithmetic.mlp_forward(self.chain, theta, x)

    def vjp(self, theta: Tensor, cache: Any, dy: Tensor, grad: Tensor, need_dx: bool) -> Tensor | None:
        return self.arithmetic.mlp_vjp(self.chain, theta, cache, dy, grad, need_dx)

    def jvp(self, theta: Tensor, cache: Any, v: Tensor, dx: Tensor | None) -> Tensor:
        return self.arithmetic.mlp_jvp(self.chain, theta, cache, v, dx)


class Sequential:
    """Layers one after another."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = tuple(layers)
        self.n_in, self.n_out = self.layers[0].n_in, self.layers[-1].n_out
        self.n_params = sum(layer.n_params for layer in self.layers)

    def place(self, start: int) -> int:
        for layer in self.layers:
            start = layer.place(start)
        return start

    def columns(self) -> tuple[slice, ...]:
        return tuple(part for layer in self.layers for part in layer.columns())

    def init(self, row: Tensor, generator: torch.Generator) -> None:
        for layer in self.layers:
            layer.init(row, generator)

    def cache_views(self, flat: Tensor) -> None:
        for layer in self.layers:
            layer.cache_views(flat)

    def forward(self, theta: Tensor, x: Tensor) -> tuple[Tensor, list[Any]]:
        caches = []
        for layer in self.layers:
            x, cache = layer.forward(theta, x)
            caches.append(cache)
        return x, caches

    def vjp(self, theta: Tensor, cache: list[Any], dy: Tensor, grad: Tensor, need_dx: bool) -> Tensor | None:
        for i in range(len(self.layers) - 1, -1, -1):
            dx = self.layers[i].vjp(theta, cache[i], dy, grad, need_dx or i > 0)
            if dx is None:
                return None
            dy = dx
        return dy

    def jvp(self, theta: Tensor, cache: list[Any], v: Tensor, dx: Tensor | None) -> Tensor:
        for layer, part_cache in zip(self.layers, cache, strict=True):
            dx = layer.jvp(theta, part_cache, v, dx)
        assert dx is not None
        return dx


class Branches:
    """One network for each slice of the input (a modality); their outputs stand side by side."""

    def __init__(self, slices: Sequence[slice], networks: Sequence[Layer]) -> None:
        self.slices, self.networks = tuple(slices), tuple(networks)
        self.n_in = max(s.stop for s in self.slices)
        self.n_out = sum(network.n_out for network in self.networks)
        self.n_params = sum(network.n_params for network in self.networks)

    def place(self, start: int) -> int:
        for network in self.networks:
            start = network.place(start)
        return start

    def columns(self) -> tuple[slice, ...]:
        return tuple(part for network in self.networks for part in network.columns())

    def init(self, row: Tensor, generator: torch.Generator) -> None:
        for network in self.networks:
            network.init(row, generator)

    def cache_views(self, flat: Tensor) -> None:
        for network in self.networks:
            network.cache_views(flat)

    def forward(self, theta: Tensor, x: Tensor) -> tuple[Tensor, list[Any]]:
        outputs = [n.forward(theta, x[..., s]) for s, n in zip(self.slices, self.networks, strict=True)]
        return torch.cat([y for y, _ in outputs], -1), [cache for _, cache in outputs]

    def vjp(self, theta: Tensor, cache: list[Any], dy: Tensor, grad: Tensor, need_dx: bool) -> Tensor | None:
        widths = [network.n_out for network in self.networks]
        dx = dy.new_zeros(*dy.shape[:-1], self.n_in) if need_dx else None
        for s, network, part_cache, part in zip(
            self.slices, self.networks, cache, torch.split(dy, widths, -1), strict=True
        ):
            branch = network.vjp(theta, part_cache, part, grad, need_dx)
            if dx is not None and branch is not None:
                dx[..., s] += branch
        return dx

    def jvp(self, theta: Tensor, cache: list[Any], v: Tensor, dx: Tensor | None) -> Tensor:
        parts = [
            network.jvp(theta, part_cache, v, None if dx is None else dx[..., s])
            for s, network, part_cache in zip(self.slices, self.networks, cache, strict=True)
        ]
        return torch.cat(parts, -1)


def hidden_layers(n_in: int, widths: Sequence[int], activation: str) -> list[Dense]:
    """Hidden layers as Stable-Baselines3 initialises them: orthogonal, gain sqrt(2)."""
    sizes = [n_in, *widths]
    return [Dense(i, o, math.sqrt(2), activation) for i, o in zip(sizes, widths, strict=False)]
