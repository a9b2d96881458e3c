"""RMSprop for S parameter vectors at once (rows of [S, n]); runs are independent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class RMSprop:
    """RMSprop without momentum, as A2C uses it (Mnih et al. 2016, eq. 1), with eps outside the root as in torch.

    g <- alpha g + (1 - alpha) (dL/dtheta)^2; theta <- theta - lr dL/dtheta / (sqrt(g) + eps).

    Parameters
    ----------
    theta
        Parameters, [S, n]; changed in place by ``step``.
    lr
        Learning rate of each run, S numbers.
    alpha
        Decay of the mean of the squared gradient in one step.
    eps
        Added to the root of that mean.
    """

    def __init__(self, theta: Tensor, lr: Sequence[float], alpha: float = 0.99, eps: float = 1e-5) -> None:
        self.theta, self.alpha, self.eps = theta, alpha, eps
        self.g = torch.zeros_like(theta)
        self._rates = torch.tensor(tuple(lr), device=theta.device, dtype=theta.dtype).unsqueeze(1)
        self._change = torch.empty_like(theta)

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
        if scale is not None:
            grad.mul_(scale)
        before = None if mask is None else (self.g.clone(), self.theta.clone())
        self.g.mul_(self.alpha).addcmul_(grad, grad, value=1 - self.alpha)
        change = torch.sqrt(self.g, out=self._change).add_(self.eps)
        self.theta.sub_(torch.div(grad, change, out=change).mul_(self._rates))
        if mask is not None and before is not None:
            for tensor, old in zip((self.g, self.theta), before, strict=True):
                tensor.copy_(torch.where(mask.unsqueeze(1), tensor, old))

    def state(self) -> dict[str, Tensor]:
        """Return the mean of the squared gradient."""
        return {"g": self.g}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        self.g.copy_(state["g"])
