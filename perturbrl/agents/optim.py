"""Adam for S parameter vectors at once (rows of [S, n]); runs are independent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from perturbrl.agents import kernels
from perturbrl.agents.kernels.chain import Moments
from perturbrl.agents.model.heads import Model


class Adam:
    """Adam (Kingma & Ba 2015) with bias correction.

    The native kernel takes the step if it is available, else torch's fused step. With a mask of runs and no native
    kernel, the same formula is written out in torch.

    Parameters
    ----------
    theta
        Parameters, [S, n]; changed in place by ``step``.
    lr
        Learning rate of each run, S numbers.
    eps
        Added to the root of the second moment.
    """

    beta1, beta2 = 0.9, 0.999

    def __init__(self, theta: Tensor, lr: Sequence[float], eps: float = 1e-5) -> None:
        self.theta, self.lr, self.eps = theta, tuple(lr), eps
        self._arithmetic = kernels.current()
        self.m, self.v = torch.zeros_like(theta), torch.zeros_like(theta)
        self.t = torch.zeros(theta.shape[0], device=theta.device)
        self._rates = torch.tensor(self.lr, device=theta.device)
        self.moments = Moments(self.m, self.v, self.t, self._rates, (self.beta1, self.beta2, eps))
        self._rows = tuple(x.unbind(0) for x in (theta, self.m, self.v, self.t))
        one_rate = len(set(lr)) == 1
        self._groups = [(lr[0], slice(None))] if one_rate else [(r, slice(k, k + 1)) for k, r in enumerate(lr)]

    @torch.no_grad()
    def step(self, grad: Tensor, mask: Tensor | None = None, scale: Tensor | None = None) -> None:
        """Take one step down a gradient.

        Parameters
        ----------
        grad
            dL/dtheta, [S, n]; may be overwritten.
        mask
            Runs that take the step, bool [S]. Default: all.
        scale
            Factor of the gradient before the step, [S, 1].
        """
        if self._arithmetic.adam(self.theta, grad, self.moments, scale, mask):
            return
        if scale is not None:
            grad.mul_(scale)
        if mask is not None:
            self._masked_step(grad, mask)
            return
        rows = grad.unbind(0)
        for lr, runs in self._groups:
            theta, m, v, t = (list(field[runs]) for field in self._rows)
            torch._foreach_add_(t, 1)
            torch._fused_adam_(
                theta,
                list(rows[runs]),
                m,
                v,
                [],
                t,
                lr=lr,
                beta1=self.beta1,
                beta2=self.beta2,
                weight_decay=0.0,
                eps=self.eps,
                amsgrad=False,
                maximize=False,
            )

    def _masked_step(self, grad: Tensor, mask: Tensor) -> None:
        on = mask.unsqueeze(1)
        self.t += mask
        self.m.copy_(torch.where(on, self.beta1 * self.m + (1 - self.beta1) * grad, self.m))
        self.v.copy_(torch.where(on, self.beta2 * self.v + (1 - self.beta2) * grad.square(), self.v))
        t = self.t.clamp(min=1).unsqueeze(1)
        m_hat, v_hat = self.m / (1 - self.beta1**t), self.v / (1 - self.beta2**t)
        lr = self._rates.unsqueeze(1)
        self.theta.copy_(torch.where(on, self.theta - lr * m_hat / (v_hat.sqrt() + self.eps), self.theta))

    def state(self) -> dict[str, Tensor]:
        """Return the moments and step counts."""
        return {"m": self.m, "v": self.v, "t": self.t}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


class TorchOptimiser:
    """The state of an optimiser of ``torch.optim`` for checkpoints: an entry of ``Recipe.stateful``.

    Its tensors need the leading axis S, as they have where it optimises ``model.theta`` [S, n]. What schedulers change
    is not part of it.
    """

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        self.optimiser = optimiser

    def state(self) -> dict[str, Tensor]:
        """Return its tensors as ``<number of the parameter>/<name>``; none before the first step."""
        parts = self.optimiser.state_dict()["state"].items()
        return {f"{k}/{name}": x for k, part in parts for name, x in part.items() if isinstance(x, Tensor)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        parts: dict[int, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            k, _, name = key.partition("/")
            parts.setdefault(int(k), {})[name] = tensor.clone()
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": parts})


class PolicyValueAdam:
    """One Adam for the policy and one for the value network, so that a warm start can hand over the moments of one."""

    def __init__(self, theta: Tensor, policy_size: int, lr: Sequence[float]) -> None:
        self._split = policy_size
        self.policy, self.value = Adam(theta[:, :policy_size], lr), Adam(theta[:, policy_size:], lr)

    def step(self, grad: Tensor, mask: Tensor | None = None, scale: Tensor | None = None) -> None:
        """See ``Adam.step``."""
        self.policy.step(grad[:, : self._split], mask, scale)
        self.value.step(grad[:, self._split :], mask, scale)

    def state(self) -> dict[str, Tensor]:
        """Return the moments and step counts, under ``policy/`` and ``value/``."""
        return with_prefix("policy", self.policy.state()) | with_prefix("value", self.value.state())

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        self.policy.load_state(strip_prefix("policy", state))
        self.value.load_state(strip_prefix("value", state))


def network_optimiser(model: Model, configs: Sequence[Any]) -> PolicyValueAdam:
    """Return the optimiser that the configs of S runs ask for, of both networks of a model."""
    return PolicyValueAdam(model.theta, model.policy_size, [config.lr for config in configs])


def with_prefix(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put ``prefix/`` before every name."""
    return {f"{prefix}/{name}": tensor for name, tensor in state.items()}


def strip_prefix(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries under ``prefix/``, without it."""
    return {k.removeprefix(f"{prefix}/"): v for k, v in state.items() if k.startswith(f"{prefix}/")}
