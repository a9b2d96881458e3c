"""Who computes the inner loops of a model, and how products are rounded: fixed when the model is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from perturbrl.agents.kernels import reference
from perturbrl.agents.kernels.chain import Chain, Moments, followed
from perturbrl.agents.kernels.native import Native

P = ParamSpec("P")
T = TypeVar("T")


class Arithmetic:
    """The functions of ``reference``, computed natively where that can be had.

    Parameters
    ----------
    native
        The native kernels, or None: torch computes everything.
    precision
        Of matrix products: ``float32``, ``tf32`` (on a GPU) or ``bf16``.
    """

    def __init__(self, native: Native | None, precision: str) -> None:
        self.native, self.precision = native, precision
        self.bf16 = precision == "bf16"
        self.name = "torch" if native is None else "native"
        self.matmul = "high" if precision == "tf32" else "highest"  # in torch's words

    def native_for(self, x: Tensor, products: bool = True) -> Native | None:
        """Return the native kernels, if they can take ``x`` (and multiply it in this precision)."""
        if self.native is None or not x.is_cpu or x.dtype is not torch.float32:
            return None
        return self.native if not (products and self.bf16) or self.native.has_bf16 else None

    def _by_torch(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` with torch's precision of products, a setting of the process, as this object has it."""
        before = torch.get_float32_matmul_precision()
        if before == self.matmul:
            return function(*args, **kwargs)
        torch.set_float32_matmul_precision(self.matmul)
        try:
            return function(*args, **kwargs)
        finally:
            torch.set_float32_matmul_precision(before)

    def mlp_forward(self, chain: Chain, theta: Tensor, x: Tensor) -> tuple[Tensor, Any]:
        """See ``reference.mlp_forward``; torch computes it where autograd follows."""
        if (native := self.native_for(x)) and not followed(theta, x):
            return native.mlp_forward(chain, theta, x, self.bf16)
        return self._by_torch(reference.mlp_forward, chain, theta, x, self.bf16)

    def mlp_jvp(self, chain: Chain, theta: Tensor, cache: Any, v: Tensor, dx: Tensor | None) -> Tensor:
        """See ``reference.mlp_jvp``."""
        if native := self.native_for(v):
            return native.mlp_jvp(chain, theta, cache, v, dx, self.bf16)
        return self._by_torch(reference.mlp_jvp, chain, theta, cache, v, dx, self.bf16)

    def mlp_vjp(
        self, chain: Chain, theta: Tensor, cache: Any, dy: Tensor, grad: Tensor, need_dx: bool
    ) -> Tensor | None:
        """See ``reference.mlp_vjp``."""
        if native := self.native_for(dy):
            return native.mlp_vjp(chain, theta, cache, dy, grad, need_dx, self.bf16)
        return self._by_torch(reference.mlp_vjp, chain, theta, cache, dy, grad, need_dx, self.bf16)

    def gaussian_log_prob(self, mean: Tensor, action: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
        """See ``reference.gaussian_log_prob``; torch computes it where autograd follows."""
        native = None if followed(mean, log_std) else self.native_for(mean, False)
        return (native or reference).gaussian_log_prob(mean, action, log_std)

    def gaussian_vjp(self, z: Tensor, log_std: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """See ``reference.gaussian_vjp``."""
        return (self.native_for(z, False) or reference).gaussian_vjp(z, log_std, weight)

    def clip_scale(self, grad: Tensor, limit: Tensor) -> Tensor:
        """See ``reference.clip_scale``."""
        return (self.native_for(grad, False) or reference).clip_scale(grad, limit)

    def adam(self, theta: Tensor, grad: Tensor, moments: Moments, scale: Tensor | None, mask: Tensor | None) -> bool:
        """Take a step of Adam natively and return True, or return False: the caller has torch's own."""
        native = self.native_for(theta, False)
        if native is not None:
            native.adam(theta, grad, moments, scale, mask)
        return native is not None

    def value_epoch(
        self, chain: Chain, theta: Tensor, grad: Tensor, moments: Moments, obs: Tensor, ret: Tensor, minibatch: int
    ) -> bool:
        """Fit a value network natively, one epoch of minibatches, and return True; or return False, as above."""
        native = self.native_for(theta)
        if native is not None:
            native.value_epoch(chain, theta, grad, moments, (obs, ret, minibatch), self.bf16)
        return native is not None
