"""Adam for S parameter vectors at once (rows of [S, n]); runs are independent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perturbrl.agents import kernels
from perturbrl.agents.kernels.chain import Moments
from perturbrl.agents.optim.state import copy_into
from perturbrl.optim.settings import AdamConfig


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
    betas
        Decay of the first and of the second moment in one step.
    """

    def __init__(
        self, theta: Tensor, lr: Sequence[float], eps: float = 1e-5, betas: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        self.theta, self.lr, self.eps = theta, tuple(lr), eps
        self.beta1, self.beta2 = betas
        self._arithmetic = kernels.current()
        self.m, self.v = torch.zeros_like(theta), torch.zeros_like(theta)
        self.t = torch.zeros(theta.shape[0], device=theta.device)
        self._rates = torch.tensor(self.lr, device=theta.device)
        self.moments = Moments(self.m, self.v, self.t, self._rates, (self.beta1, self.beta2, eps))
        self._rows = tuple(x.unbind(0) for x in (theta, self.m, self.v, self.t))
        self._groups = _groups(self.lr)

    @staticmethod
    def of(theta: Tensor, lr: Sequence[float], settings: AdamConfig | None) -> Adam:
        """Return the optimiser for ``agent.optimizer``; None: the defaults."""
        if settings is None:
            return Adam(theta, lr)
        return Adam(theta, lr, settings.eps, (settings.beta1, settings.beta2))

    def set_rates(self, lr: Sequence[float]) -> None:
        """Take further steps with other learning rates, one for each of S runs."""
        self.lr, self._groups = tuple(lr), _groups(lr)
        self._rates.copy_(torch.tensor(self.lr))

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
        copy_into(self.state(), state)

    def optimiser_log(self) -> dict[str, Tensor]:
        """Return what a log should say of the steps: nothing."""
        return {}


def _groups(lr: Sequence[float]) -> list[tuple[float, slice]]:
    """Return the runs that share a learning rate: all of them, or each alone."""
    return [(lr[0], slice(None))] if len(set(lr)) == 1 else [(r, slice(k, k + 1)) for k, r in enumerate(lr)]
