"""Layers for S networks at once, with hand-written derivatives.

Each layer offers ``forward`` (y and what the derivatives need), ``vjp`` (pull dL/dy back to the parameters and the
input) and ``jvp`` (push a change of parameters forward). PPO needs the first two, TRPO's Fisher-vector
product all three. The parameters of all layers of run k are row k of one tensor ``theta`` [S, n], so an optimiser or a
conjugate gradient sees plain vectors.

Letters: S runs, B rows of a batch, I inputs, O outputs, n parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

# Run k of a population must be run k alone, bit for bit, and on a CPU both BLAS and the tails of vectorised loops round
# by where a number stands in memory. So every row starts on a cache line, in floats; a vectorised loop takes VECTOR.
CACHE_LINE, VECTOR = 16, 32
ONE, TWO = torch.tensor(1.0), torch.tensor(2.0)  # as tensors: torch converts a Python number anew at every call


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

    def init(self, row: Tensor, generator: torch.Generator) -> None:
        """Fill this layer's part of one run's parameters ``row`` [n]."""
        ...

    def remember(self, flat: Tensor) -> None:
        """Keep this layer's views of a tensor [S, n] that will be used again and again (parameters, their gradient)."""
        ...

    def forward(self, theta: Tensor, x: Tensor) -> tuple[Tensor, Any]:
        """Map ``x`` [S, B, I] to y [S, B, O]; also return what ``vjp`` and ``jvp`` need."""
        ...

    def vjp(self, theta: Tensor, cache: Any, dy: Tensor, grad: Tensor, need_dx: bool) -> Tensor | None:
        """Write dL/dtheta into ``grad`` [S, n]; return dL/dx [S, B, I] if ``need_dx``."""
        ...

    def jvp(self, theta: Tensor, cache: Any, v: Tensor, dx: Tensor | None) -> Tensor:
        """Return the change of y [S, B, O] when theta moves along ``v`` [S, n] and x along ``dx``."""
        ...


class Linear:
    """y = x W + b for each run: one batched matrix product over S. Orthogonal weights of gain ``gain``, zero bias."""

    def __init__(self, n_in: int, n_out: int, gain: float) -> None:
        self.n_in, self.n_out, self.gain = n_in, n_out, gain
        self.n_params = (n_in + 1) * n_out
        self.start = 0
        self._kept: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def place(self, start: int) -> int:
        self.start = start
        return start + self.n_params

    def views(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """W [S, I, O] and b [S, 1, O] within ``flat`` [S, n]."""
        kept = self._kept.get(id(flat))
        if kept is not None and kept[0] is flat:
            return kept[1], kept[2]
        middle, end = self.start + self.n_in * self.n_out, self.start + self.n_params
        weight = flat[:, self.start : middle].view(-1, self.n_in, self.n_out)
        return weight, flat[:, middle:end].unsqueeze(1)

    def remember(self, flat: Tensor) -> None:
        self._kept[id(flat)] = (flat, *self.views(flat))

    def init(self, row: Tensor, generator: torch.Generator) -> None:
        drawn = torch.empty(self.n_out, self.n_in)
        torch.nn.init.orthogonal_(drawn, self.gain, generator=generator)
        weight, bias = self.views(row[None])
        weight[0].copy_(drawn.T)
        bias.zero_()

    def forward(self, theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        weight, bias = self.views(theta)
        if self.n_out == 1:  # BLAS rounds a product with a vector differently for one run and for many
            return (x * weight.mT).sum(-1, keepdim=True).add_(bias), x
        return torch.baddbmm(bias, x, weight), x

    def vjp(self, theta: Tensor, cache: Tensor, dy: Tensor, grad: Tensor, need_dx: bool) -> Tensor | None:
        to_weight, to_bias = self.views(grad)
        if self.n_out == 1:
            torch.sum(cache * dy, 1, out=to_weight.squeeze(-1))
        else:
            torch.bmm(cache.mT, dy, out=to_weight)
        torch.sum(dy, 1, keepdim=True, out=to_bias)
        if not need_dx:
            return None
        weight = self.views(theta)[0]
        return (dy * weight).sum(-1, keepdim=True) if self.n_in == 1 else torch.bmm(dy, weight.mT)

    def jvp(self, theta: Tensor, cache: Tensor, v: Tensor, dx: Tensor | None) -> Tensor:
        dy, _ = self.forward(v, cache)
        if dx is None:
            return dy
        weight = self.views(theta)[0]
        return dy.add_((dx * weight.mT).sum(-1, keepdim=True)) if self.n_out == 1 else dy.baddbmm_(dx, weight)


class Activation:
    """An elementwise function without parameters, in place: x is the fresh output of the layer before."""

    n_params = 0

    def __init__(self, width: int) -> None:
        self.n_in = self.n_out = width

    def place(self, start: int) -> int:
        return start

    def init(self, row: Tensor, generator: torch.Generator) -> None:
        pass

    def remember(self, flat: Tensor) -> None:
        pass

    def forward(self, theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.value_(x)
        return y, y

    def vjp(self, theta: Tensor, cache: Tensor, dy: Tensor, grad: Tensor, need_dx: bool) -> Tensor | None:
        return self.times_slope(dy, cache)

    def jvp(self, theta: Tensor, cache: Tensor, v: Tensor, dx: Tensor | None) -> Tensor:
        assert dx is not None
        return self.times_slope(dx, cache)

    def value_(self, x: Tensor) -> Tensor:
        """Return the function's value, written over ``x``."""
        raise NotImplementedError

    def times_slope(self, d: Tensor, y: Tensor) -> Tensor:
        """Return ``d`` times the derivative where the value is ``y``."""
        raise NotImplementedError


class Tanh(Activation):
    """y = tanh(x)."""

    def value_(self, x: Tensor) -> Tensor:
        # torch's vectorised logistic function takes half the time of its tanh on a CPU; they agree to 2e-7
        fast = x.device.type == "cpu" and x.shape[1] * x.shape[2] % VECTOR == 0
        return x.mul_(TWO).sigmoid_().mul_(TWO).sub_(ONE) if fast else x.tanh_()

    def times_slope(self, d: Tensor, y: Tensor) -> Tensor:
        product: Tensor = torch.ops.aten.tanh_backward.default(d, y)
        return product


class ReLU(Activation):
    """y = max(x, 0)."""

    def value_(self, x: Tensor) -> Tensor:
        return x.relu_()

    def times_slope(self, d: Tensor, y: Tensor) -> Tensor:
        return d * (y > 0)


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

    def init(self, row: Tensor, generator: torch.Generator) -> None:
        for layer in self.layers:
            layer.init(row, generator)

    def remember(self, flat: Tensor) -> None:
        for layer in self.layers:
            layer.remember(flat)

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
        for layer, kept in zip(self.layers, cache, strict=True):
            dx = layer.jvp(theta, kept, v, dx)
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

    def init(self, row: Tensor, generator: torch.Generator) -> None:
        for network in self.networks:
            network.init(row, generator)

    def remember(self, flat: Tensor) -> None:
        for network in self.networks:
            network.remember(flat)

    def forward(self, theta: Tensor, x: Tensor) -> tuple[Tensor, list[Any]]:
        outputs = [n.forward(theta, x[..., s]) for s, n in zip(self.slices, self.networks, strict=True)]
        return torch.cat([y for y, _ in outputs], -1), [cache for _, cache in outputs]

    def vjp(self, theta: Tensor, cache: list[Any], dy: Tensor, grad: Tensor, need_dx: bool) -> Tensor | None:
        widths = [network.n_out for network in self.networks]
        dx = dy.new_zeros(*dy.shape[:-1], self.n_in) if need_dx else None
        for s, network, kept, part in zip(self.slices, self.networks, cache, torch.split(dy, widths, -1), strict=True):
            branch = network.vjp(theta, kept, part, grad, need_dx)
            if dx is not None and branch is not None:
                dx[..., s] += branch
        return dx

    def jvp(self, theta: Tensor, cache: list[Any], v: Tensor, dx: Tensor | None) -> Tensor:
        parts = [
            network.jvp(theta, kept, v, None if dx is None else dx[..., s])
            for s, network, kept in zip(self.slices, self.networks, cache, strict=True)
        ]
        return torch.cat(parts, -1)


ACTIVATIONS: dict[str, type[Activation]] = {"tanh": Tanh, "relu": ReLU}


def mlp(n_in: int, hidden: Sequence[int], activation: str) -> list[Layer]:
    """Hidden layers as Stable-Baselines3 initialises them: orthogonal, gain sqrt(2)."""
    layers: list[Layer] = []
    for width in hidden:
        layers += [Linear(n_in, width, math.sqrt(2)), ACTIVATIONS[activation](width)]
        n_in = width
    return layers
