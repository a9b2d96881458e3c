"""The arithmetic of ``kernels`` on one core: dense.c and ppo.c behind the signatures of ``reference``."""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from perturbrl.agents.kernels import build, reference
from perturbrl.agents.kernels.build import Unavailable
from perturbrl.agents.kernels.chain import Chain, Metric, Moments

_LOADING = threading.Lock()


class Native:
    """The functions of ``reference`` for float32 tensors on the CPU."""

    def __init__(self, library: ctypes.CDLL) -> None:
        number, address, real, flag = ctypes.c_long, ctypes.c_void_p, ctypes.c_float, ctypes.c_int
        head = [address, flag, number, number, address, number, number, address, number, address]
        pulled = [address, number, number, address, number, address]
        self._forward = _function(library.chain_forward, head)
        self._jvp = _function(library.chain_jvp, [*head, address, number, address, number, number, address])
        self._vjp = _function(library.chain_vjp, [*head, *pulled])
        self._fisher = _function(
            library.fisher_product,
            [*head, address, number, flag, address, number, number, real, address, address],
        )
        self._clip = _function(library.clip_scale, [number, number, address, number, address, address])
        self._adam = _function(
            library.adam,
            [number, number, address, number, address, address, address, number, *[address] * 3, *[real] * 3, address],
        )
        self._log_prob = _function(library.gaussian_log_prob, [*[number] * 3, *[address, number] * 3, address, address])
        self._log_prob_vjp = _function(
            library.gaussian_vjp, [*[number] * 3, address, address, number, address, address, address]
        )
        self._value_steps = _function(
            library.value_steps,
            [
                *(address, flag, number, number, number, address, address, address, number, address, number),
                *(address, address, number, address, address, real, real, real),
            ],
        )
        self.ppo_steps = _function(library.ppo_steps, [address, flag, number, number, *[address] * 7])
        self.has_bf16 = bool(library.has_bf16())

    def mlp_forward(self, chain: Chain, theta: Tensor, x: Tensor, bf16: bool) -> tuple[Tensor, Any]:
        """See ``reference.mlp_forward``."""
        x = _rows(x)
        runs, batch, _ = x.shape
        values = torch.empty(runs, batch * chain.n_values)
        self._forward(*self._head(chain, theta, x, values, bf16))
        return values[:, -batch * chain.sizes[-1] :].view(runs, batch, -1), (x, values)

    def mlp_jvp(self, chain: Chain, theta: Tensor, cache: Any, v: Tensor, dx: Tensor | None, bf16: bool) -> Tensor:
        """See ``reference.mlp_jvp``."""
        x, values = cache
        moved = x if dx is None else _rows(dx)
        out = torch.empty(*x.shape[:2], chain.sizes[-1])
        self._jvp(
            *self._head(chain, theta, x, values, bf16),
            *(v.data_ptr() + 4 * chain.start, v.stride(0)),
            *(None if dx is None else moved.data_ptr(), *moved.stride()[:2], out.data_ptr()),
        )
        return out

    def mlp_vjp(
        self, chain: Chain, theta: Tensor, cache: Any, dy: Tensor, grad: Tensor, need_dx: bool, bf16: bool
    ) -> Tensor | None:
        """See ``reference.mlp_vjp``."""
        x, values = cache
        dy = _rows(dy)
        dx = torch.empty(x.shape) if need_dx else None
        self._vjp(
            *self._head(chain, theta, x, values, bf16),
            *(dy.data_ptr(), *dy.stride()[:2]),
            *(grad.data_ptr() + 4 * chain.start, grad.stride(0), None if dx is None else dx.data_ptr()),
        )
        return dx

    def fisher_product(self, chain: Chain, theta: Tensor, cache: Any, v: Tensor, metric: Metric, bf16: bool) -> Tensor:
        """Return scale J' F J v + damping v, [S, n], for the columns of a policy: ``chain``, log_std, padding.

        J is the Jacobian of the outputs by ``v`` [S, n], and F the Hessian of the mean KL in the outputs; see
        ``Metric``.
        """
        x, values = cache
        out = torch.empty(v.shape)
        of = metric.of.contiguous()
        self._fisher(
            *self._head(chain, theta, x, values, bf16),
            *(v.data_ptr(), v.stride(0), metric.categorical, of.data_ptr(), metric.n_log_std, v.shape[1]),
            *(metric.scale, metric.damping.data_ptr(), out.data_ptr()),
        )
        return out

    @staticmethod
    def _head(chain: Chain, theta: Tensor, x: Tensor, values: Tensor, bf16: bool) -> tuple[Any, ...]:
        shape, strides = x.shape, x.stride()
        return (
            *(ctypes.byref(chain.as_c), bf16, shape[0], shape[1], x.data_ptr(), strides[0], strides[1]),
            *(theta.data_ptr() + 4 * chain.start, theta.stride(0), values.data_ptr()),
        )

    def gaussian_log_prob(self, mean: Tensor, action: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
        """See ``reference.gaussian_log_prob``."""
        mean, action = _matrices(mean), _matrices(action)
        shape = mean.shape
        z, log_prob = torch.empty(shape), torch.empty(shape[:2])
        self._log_prob(
            *shape,
            *(mean.data_ptr(), mean.stride(0), action.data_ptr(), action.stride(0)),
            *(log_std.data_ptr(), log_std.stride(0), z.data_ptr(), log_prob.data_ptr()),
        )
        return log_prob, z

    def gaussian_vjp(self, z: Tensor, log_std: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """See ``reference.gaussian_vjp``."""
        weight = weight.contiguous()
        to_mean, to_log_std = torch.empty_like(z), z.new_empty(z.shape[0], z.shape[2])
        self._log_prob_vjp(
            *z.shape,
            *(z.data_ptr(), log_std.data_ptr(), log_std.stride(0), weight.data_ptr()),
            *(to_mean.data_ptr(), to_log_std.data_ptr()),
        )
        return to_mean, to_log_std

    def clip_scale(self, grad: Tensor, limit: Tensor) -> Tensor:
        """See ``reference.clip_scale``."""
        scale = torch.empty_like(limit)
        self._clip(*grad.shape, grad.data_ptr(), grad.stride(0), limit.data_ptr(), scale.data_ptr())
        return scale

    def adam(self, theta: Tensor, grad: Tensor, moments: Moments, scale: Tensor | None, mask: Tensor | None) -> None:
        """Step every run, or those of ``mask`` [S]; ``theta``, ``grad`` may be columns of wider tensors."""
        m, v, t, lr = moments.m, moments.v, moments.t, moments.lr
        self._adam(
            *theta.shape,
            *(theta.data_ptr(), theta.stride(0), m.data_ptr(), v.data_ptr(), grad.data_ptr(), grad.stride(0)),
            *(None if scale is None else scale.data_ptr(), lr.data_ptr(), t.data_ptr(), *moments.betas_eps),
            None if mask is None else mask.data_ptr(),
        )

    def value_epoch(
        self, chain: Chain, theta: Tensor, grad: Tensor, moments: Moments, batch: tuple[Tensor, Tensor, int], bf16: bool
    ) -> None:
        """Take a step of Adam on E[(V - ret)^2] for each minibatch of ``batch``: obs [S, M, G], ret [S, M], size."""
        obs, ret, size = batch
        runs, n = ret.shape
        self._value_steps(
            *(ctypes.byref(chain.as_c), bf16, runs, size, n, obs.data_ptr(), ret.data_ptr()),
            *(theta.data_ptr() + 4 * chain.start, theta.stride(0), grad.data_ptr() + 4 * chain.start, grad.stride(0)),
            *(moments.m.data_ptr(), moments.v.data_ptr(), moments.m.stride(0), moments.lr.data_ptr()),
            *(moments.t.data_ptr(), *moments.betas_eps),
        )


def _rows(x: Tensor) -> Tensor:
    """Return ``x`` [S, M, I] with the numbers of a row side by side."""
    return x if x.stride(2) == 1 or (x.shape[2] == 1 and x.stride(1) == 1) else x.contiguous()


def _matrices(x: Tensor) -> Tensor:
    """Return ``x`` [S, M, A] with the numbers of a run side by side."""
    return x if x.stride()[1:] == (x.shape[2], 1) else x.contiguous()


def _function(entry: ctypes._NamedFuncPointer, arguments: Sequence[Any]) -> ctypes._NamedFuncPointer:
    entry.argtypes, entry.restype = arguments, None
    return entry


def load() -> Native:
    """Build (once a machine and version), load and check.

    Raises
    ------
    Unavailable
        No compiler, a compiler that fails, or results that differ from the reference.
    """
    with _LOADING:
        return _load()


@functools.cache
def _load() -> Native:
    native = Native(build.library())
    _compare(native)
    return native


def _compare(native: Native) -> None:
    """Refuse a library that a compiler has got wrong."""
    generator = torch.Generator().manual_seed(0)
    chain = Chain(3, (37, 45, 5), ("tanh", "identity"))
    x = torch.randn(2, 11, 37, generator=generator)
    theta = torch.randn(2, chain.stop, generator=generator) / 6
    results = []
    for twin in (native, reference):
        y, cache = twin.mlp_forward(chain, theta, x, False)
        grad = torch.zeros_like(theta)
        dx = twin.mlp_vjp(chain, theta, cache, y, grad, True, False)
        assert dx is not None
        results.append({"values": y, "gradient": grad, "input gradient": dx})
    for name, expected in results[1].items():
        if not torch.allclose(results[0][name], expected, rtol=1e-4, atol=1e-4):
            raise Unavailable(
                f"its {name} differs from torch's by {float((results[0][name] - expected).abs().max()):.2g}"
            )
