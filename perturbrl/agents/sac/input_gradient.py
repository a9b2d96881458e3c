"""The gradient of a network's input alone: what improving a policy through its critics needs, and no more.

``Layer.vjp`` gives that of all parameters, too, which is as much work again. Letters: S networks, M rows, I inputs, O
outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from perturbrl.agents.kernels.chain import Chain
from perturbrl.agents.model.networks import Layer, Mlp, aligned


class InputGradient:
    """dL/dx of ``net``, for the columns of its input from ``start`` on."""

    def __init__(self, net: Layer, parameters: Tensor, start: int) -> None:
        self.net, self.parameters, self.start = net, parameters, start
        self._scratch = torch.zeros_like(parameters)
        self._turned: dict[int, tuple[Chain, Tensor]] = {}
        net.cache_views(self._scratch)

    def __call__(self, cache: Any, dy: Tensor) -> Tensor:
        """Return dL/dx [S, M, I - start] for ``dy`` [S, M, O]; ``cache`` is that of ``net.forward``."""
        net = self.net
        if not isinstance(net, Mlp):
            dx = net.vjp(self.parameters, cache, dy, self._scratch, need_dx=True)
            assert dx is not None
            return dx[..., self.start :]
        weights, values = net.chain.views(self.parameters), layer_values(net.chain, cache)
        for k in range(len(weights) - 1, -1, -1):
            dy = times_slope(dy, values[k], net.chain.activations[k])
            weight = weights[k][0] if k else weights[k][0][:, self.start :]
            dy = dy * weight.mT if weight.shape[2] == 1 else self._product(k, dy, weight)
        return dy

    def _product(self, k: int, dy: Tensor, weight: Tensor) -> Tensor:
        """Multiply by ``weight`` [S, I, O] turned: as a layer without bias, in the precision of the others."""
        runs, size, width = weight.shape
        if k not in self._turned:
            chain = Chain(0, (width, size), ("identity",))
            self._turned[k] = chain, weight.new_zeros(runs, aligned(chain.stop))
            chain.cache_views(self._turned[k][1])
        chain, turned = self._turned[k]
        chain.views(turned)[0][0].copy_(weight.mT)
        assert isinstance(self.net, Mlp)
        return self.net.arithmetic.mlp_forward(chain, turned, dy)[0]


def layer_values(chain: Chain, cache: Any) -> list[Tensor]:
    """Return what each layer gave, [S, M, O], from what either twin of ``mlp_forward`` kept."""
    if isinstance(cache, list):
        return cache[1:]
    return chain.split_values(cache[1])


def times_slope(dy: Tensor, y: Tensor, activation: str) -> Tensor:
    """Return ``dy`` times the slope of an activation, from its value ``y``."""
    if activation == "identity":
        return dy
    backward = torch.ops.aten
    pulled: Tensor = (
        backward.tanh_backward.default(dy, y)
        if activation == "tanh"
        else backward.threshold_backward.default(dy, y, 0.0)
    )
    return pulled
