"""Where low-rank adapters stand: their columns in the adapters of a run, and those of the layers in its networks.

Letters: S runs, I inputs, O outputs, r rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.agents.model.networks import Branches, Layer, Mlp, Sequential, aligned

LAYERS = ("all", "hidden", "output")
WHOLE = "whole"
Copied = tuple[slice, slice]
"""Columns of the networks, and of the adapters, that hold the same numbers."""

Dense = tuple[slice, slice, int, int]
"""Columns of W and of b of a dense layer, I and O."""


@dataclass(frozen=True)
class AdapterPlan:
    """What is trained instead of the networks themselves.

    Attributes
    ----------
    rank
        r of every adapter.
    policy, value
        Layers of each network that have adapters: ``all``, ``hidden`` or ``output``. ``whole``: the network has none,
        and all its parameters are trained.
    biases, log_std
        Whether the biases of adapted layers, and the standard deviation of box actions, are trained too.
    """

    rank: int
    policy: str
    value: str
    biases: bool
    log_std: bool


@dataclass(frozen=True)
class Factors:
    """Columns of one adapted layer: its W [I, O] in the networks, A and B in the adapters; ``a`` of the fixed A's."""

    weight: slice
    n_in: int
    n_out: int
    rank: int
    b: slice
    a: slice

    def of(self, b: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        """Return A [S, I, r] and B [S, r, O] from the tensors that hold them."""
        return a[:, self.a].view(-1, self.n_in, self.rank), b[:, self.b].view(-1, self.rank, self.n_out)

    def w(self, flat: Tensor) -> Tensor:
        """Return the columns of W as [S, I, O]."""
        return flat[:, self.weight].view(-1, self.n_in, self.n_out)


@dataclass(frozen=True)
class Part:
    """One network: its adapted layers, and what is trained whole."""

    factors: tuple[Factors, ...]
    whole: tuple[Copied, ...]


class _Columns:
    """Columns of a tensor, handed out in order."""

    def __init__(self) -> None:
        self.width = 0

    def take(self, size: int) -> slice:
        start, self.width = self.width, self.width + size
        return slice(start, start + size)

    def align(self) -> int:
        self.width = aligned(self.width)
        return self.width


class Layout:
    """Columns of the trained parameters of a plan: those of the policy, its standard deviation, the value network.

    Where A is not trained it has columns of its own, ``fixed_width`` in all.
    """

    def __init__(self, base: ActorCritic, plan: AdapterPlan, trains_a: bool) -> None:
        self._trained = _Columns()
        self._of_a = self._trained if trains_a else _Columns()
        width = base.theta.shape[1]
        self.policy = self._part(dense_layers(base.policy_net, width), plan, plan.policy)
        start = self._trained.width
        if plan.log_std:
            self.policy = Part(self.policy.factors, (*self.policy.whole, self._copied(base.log_std_columns)))
        self.log_std = slice(start, self._trained.width)
        self.policy_size = self._trained.align()
        self.value = self._part(dense_layers(base.value_net, width), plan, plan.value)
        self.width = self._trained.align()
        self.fixed_width = 0 if trains_a else self._of_a.align()

    def _part(self, layers: list[Dense], plan: AdapterPlan, chosen: str) -> Part:
        if chosen == WHOLE:
            return Part((), tuple(self._copied(slice(w.start, b.stop)) for w, b, _, _ in layers))
        adapted = {"all": layers, "hidden": layers[:-1], "output": layers[-1:]}[chosen]
        r = plan.rank
        factors = tuple(
            Factors(w, i, o, r, b=self._trained.take(r * o), a=self._of_a.take(i * r)) for w, _, i, o in adapted
        )
        return Part(factors, tuple(self._copied(b) for _, b, _, _ in adapted) if plan.biases else ())

    def _copied(self, columns: slice) -> Copied:
        return columns, self._trained.take(columns.stop - columns.start)


def dense_layers(network: Layer, width: int) -> list[Dense]:
    """Return the dense layers of a network whose parameters are columns of a row of ``width`` numbers."""
    match network:
        case Mlp():
            columns = network.chain.views(torch.arange(width).unsqueeze(0))
            return [(_range(w), _range(b), w.shape[1], w.shape[2]) for w, b in columns]
        case Sequential():
            return [layer for inner in network.layers for layer in dense_layers(inner, width)]
        case Branches():
            return [layer for inner in network.networks for layer in dense_layers(inner, width)]
    raise TypeError(network)


def _range(columns: Tensor) -> slice:
    return slice(int(columns.min()), int(columns.max()) + 1)
