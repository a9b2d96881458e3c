"""The inner loops of every agent, each in two twins: ``native`` (C, one core) and ``reference`` (torch, any device).

``configure`` chooses for the process; what cannot be had natively is done by torch. Products take float32, on a GPU
also tf32, or bfloat16 rounded from float32 and summed in float32; parameters, activations and optimisers stay float32.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import torch
from torch import Tensor

from perturbrl.agents.kernels import native, reference
from perturbrl.agents.kernels.build import Unavailable
from perturbrl.agents.kernels.chain import Chain, Moments
from perturbrl.config import choice
from perturbrl.errors import UserError

KERNELS = ("auto", "native", "torch")
PRECISIONS = ("float32", "tf32", "bf16")

_native: native.Native | None = None
_bf16 = False


def begin(chosen: str) -> None:
    """Start building what ``configure`` will ask for, if need be, so that reading data does not wait for a compiler."""

    def build() -> None:
        with contextlib.suppress(Unavailable):  # configure meets it again, and says so
            native.load()

    if chosen != "torch":
        threading.Thread(target=build, daemon=True).start()


def configure(kernels: str, precision: str) -> str:
    """Choose the arithmetic of this process; return ``native`` or ``torch``.

    Raises
    ------
    UserError
        An unknown choice, or ``kernels=native`` where it cannot be had (the message says why).
    """
    global _native, _bf16
    choice(kernels, KERNELS, "kernels")
    choice(precision, PRECISIONS, "precision")
    _native, _bf16 = None, precision == "bf16"
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    if kernels != "torch":
        try:
            _native = native.load()
        except Unavailable as error:
            if kernels == "native":
                raise UserError(f"kernels: native cannot be had here: {error}; use kernels=auto or torch") from None
    return "torch" if _native is None else "native"


def _twin(x: Tensor, products: bool = False) -> native.Native | None:
    """Return the native twin if it can take ``x``."""
    if _native is None or not x.is_cpu or x.dtype is not torch.float32:
        return None
    return _native if not (products and _bf16) or _native.has_bf16 else None


def mlp_forward(chain: Chain, theta: Tensor, x: Tensor) -> tuple[Tensor, Any]:
    """See ``reference.mlp_forward``."""
    return (_twin(x, True) or reference).mlp_forward(chain, theta, x, _bf16)


def mlp_jvp(chain: Chain, theta: Tensor, cache: Any, v: Tensor, dx: Tensor | None) -> Tensor:
    """See ``reference.mlp_jvp``."""
    return (_twin(v, True) or reference).mlp_jvp(chain, theta, cache, v, dx, _bf16)


def mlp_vjp(chain: Chain, theta: Tensor, cache: Any, dy: Tensor, grad: Tensor, need_dx: bool) -> Tensor | None:
    """See ``reference.mlp_vjp``."""
    return (_twin(dy, True) or reference).mlp_vjp(chain, theta, cache, dy, grad, need_dx, _bf16)


def gaussian_log_prob(mean: Tensor, action: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
    """See ``reference.gaussian_log_prob``."""
    return (_twin(mean) or reference).gaussian_log_prob(mean, action, log_std)


def gaussian_vjp(z: Tensor, log_std: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """See ``reference.gaussian_vjp``."""
    return (_twin(z) or reference).gaussian_vjp(z, log_std, weight)


def clip_scale(grad: Tensor, limit: Tensor) -> Tensor:
    """See ``reference.clip_scale``."""
    return (_twin(grad) or reference).clip_scale(grad, limit)


def adam(theta: Tensor, grad: Tensor, moments: Moments, scale: Tensor | None, mask: Tensor | None) -> bool:
    """Take a step of Adam natively and return True, or return False: the caller has torch's own."""
    twin = _twin(theta)
    if twin is not None:
        twin.adam(theta, grad, moments, scale, mask)
    return twin is not None


def value_epoch(
    chain: Chain, theta: Tensor, grad: Tensor, moments: Moments, obs: Tensor, ret: Tensor, minibatch: int
) -> bool:
    """Fit a value network natively, one epoch of minibatches, and return True; or return False, as above."""
    twin = _twin(theta, True)
    if twin is not None:
        twin.value_epoch(chain, theta, grad, moments, (obs, ret, minibatch), _bf16)
    return twin is not None


def native_for(theta: Tensor) -> native.Native | None:
    """Return the native twin, if it is the one that products on ``theta`` go to."""
    return _twin(theta, True)


def bf16() -> bool:
    """Whether products are rounded to bfloat16."""
    return _bf16
