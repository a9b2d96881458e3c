"""One step of each optimiser, as arithmetic on tensors of any shape; both forms of an optimiser use it.

theta <- theta - lr d, with the direction d of a formula. Letters: g gradient, m and v means of g and of its square, t
number of steps with this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from perturbrl.optim.settings import (
    AdamwConfig,
    AmsgradConfig,
    AsgdConfig,
    MomentsConfig,
    OptimizerConfig,
    PadamConfig,
    RmspropConfig,
    SgdConfig,
)

State = Mapping[str, Tensor]


class Formula(Protocol):
    """How an optimiser turns gradients into a direction."""

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors that it needs from step to step, each shaped like theta, at first zero."""
        ...

    def direction(self, theta: Tensor, grad: Tensor, state: State, t: Tensor) -> Tensor:
        """Return the direction down which theta moves, and write the new ``state`` in place.

        Parameters
        ----------
        theta, grad
            Parameters and gradient, of one shape; both stay as they are.
        state
            The tensors named by ``tensors``.
        t
            Steps with this one, float64, of a shape that broadcasts to theta's.
        """
        ...


@dataclass(frozen=True)
class Moments:
    """Adam and its kin: d = m_hat / (sqrt(v_hat) + eps)^(2 partial) + weight_decay theta.

    Adam: partial = 1/2 (Kingma & Ba 2015, Algorithm 1). AMSGrad: v is the largest so far, ``largest`` (Reddi et al.
    2018, Algorithm 2). Padam: AMSGrad with a smaller partial (Chen et al. 2020, Algorithm 1, p). AdamW: weight decay
    outside the moments (Loshchilov & Hutter 2019, Algorithm 2). m_hat and v_hat are divided by 1 - beta^t, unless
    ``bias_correction`` is off.
    """

    beta1: float
    beta2: float
    eps: float
    largest: bool = False
    partial: float = 0.5
    weight_decay: float = 0.0
    bias_correction: bool = True

    @property
    def tensors(self) -> tuple[str, ...]:
        """See ``Formula``."""
        return ("m", "v", "v_max") if self.largest else ("m", "v")

    def direction(self, theta: Tensor, grad: Tensor, state: State, t: Tensor) -> Tensor:
        """See ``Formula``."""
        m, v = state["m"], state["v"]
        m.mul_(self.beta1).add_(grad, alpha=1 - self.beta1)
        v.mul_(self.beta2).addcmul_(grad, grad, value=1 - self.beta2)
        if self.largest:
            v = torch.maximum(state["v_max"], v, out=state["v_max"])
        if self.bias_correction:  # in float64: 1 - beta^t loses digits
            m = m / (1 - self.beta1**t).to(m.dtype)
            v = v / (1 - self.beta2**t).to(m.dtype)
        root = v.sqrt().add_(self.eps)
        d = m / (root if self.partial == 0.5 else root.pow_(2 * self.partial))
        return d.add_(theta, alpha=self.weight_decay) if self.weight_decay else d


@dataclass(frozen=True)
class RootMeanSquare:
    """RMSprop without momentum: d = g / (sqrt(v) + eps), v <- alpha v + (1 - alpha) g^2 (Mnih et al. 2016, eq. 1).

    eps is outside the root, as in ``torch.optim.RMSprop``.
    """

    alpha: float
    eps: float

    @property
    def tensors(self) -> tuple[str, ...]:
        """See ``Formula``."""
        return ("v",)

    def direction(self, theta: Tensor, grad: Tensor, state: State, t: Tensor) -> Tensor:
        """See ``Formula``."""
        v = state["v"].mul_(self.alpha).addcmul_(grad, grad, value=1 - self.alpha)
        return grad / v.sqrt().add_(self.eps)


@dataclass(frozen=True)
class Momentum:
    """Gradient descent with momentum, b <- momentum b + g: d = b, or d = g + momentum b (Nesterov).

    Sutskever et al. 2013, eqs. 1 to 4, as ``torch.optim.SGD`` has them.
    """

    momentum: float
    nesterov: bool

    @property
    def tensors(self) -> tuple[str, ...]:
        """See ``Formula``."""
        return ("b",)

    def direction(self, theta: Tensor, grad: Tensor, state: State, t: Tensor) -> Tensor:
        """See ``Formula``."""
        b = state["b"].mul_(self.momentum).add_(grad)
        return grad.add(b, alpha=self.momentum) if self.nesterov else b.clone()


def formula(c: OptimizerConfig) -> Formula:
    """Return the formula of an optimiser."""
    match c:
        case RmspropConfig():
            return RootMeanSquare(c.alpha, c.eps)
        case SgdConfig():
            return Momentum(c.momentum, c.nesterov)
        case PadamConfig():
            return Moments(c.beta1, c.beta2, c.eps, largest=True, partial=c.partial)
        case AdamwConfig():
            return Moments(c.beta1, c.beta2, c.eps, weight_decay=c.weight_decay)
        case AsgdConfig():
            largest = c.name == "asgd_amsgrad"
            return Moments(c.beta1, c.beta2, c.eps, largest, bias_correction=c.bias_correction)
        case MomentsConfig():
            return Moments(c.beta1, c.beta2, c.eps, largest=isinstance(c, AmsgradConfig))
    raise TypeError(f"no formula for {c}")
