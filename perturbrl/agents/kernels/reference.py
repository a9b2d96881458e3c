"""The arithmetic of ``kernels`` in plain torch: on every device, and what the native twin is tested against.

Letters: S runs, M rows of a batch, I inputs, O outputs, A action size, n parameters.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from perturbrl.agents.kernels.chain import Chain

# A vectorised loop of torch rounds its tail differently, so where a number stands must not decide how it is rounded.
VECTOR = 32  # floats
ONE, TWO = torch.tensor(1.0), torch.tensor(2.0)  # as tensors: torch converts a Python number anew at every call
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def mlp_forward(chain: Chain, theta: Tensor, x: Tensor, bf16: bool) -> tuple[Tensor, Any]:
    """Map ``x`` [S, M, I] to [S, M, O]; also return the inputs and values of every layer, for the derivatives."""
    values = [x]
    for (weight, bias), activation in zip(chain.views(theta), chain.activations, strict=True):
        values.append(_activate(_affine(values[-1], weight, bias, bf16), activation))
    return values[-1], values


def mlp_jvp(chain: Chain, theta: Tensor, cache: Any, v: Tensor, dx: Tensor | None, bf16: bool) -> Tensor:
    """Return the change of the output when parameters move along ``v`` [S, n] and x along ``dx`` [S, M, I] (or not)."""
    layers = zip(chain.views(theta), chain.views(v), chain.activations, cache, cache[1:], strict=False)
    for (weight, _), (v_weight, v_bias), activation, x, y in layers:
        dz = _affine(x, v_weight, v_bias, bf16)
        dx = _times_slope(dz if dx is None else dz + _product(dx, weight, bf16), y, activation)
    assert dx is not None
    return dx


def mlp_vjp(
    chain: Chain, theta: Tensor, cache: Any, dy: Tensor, grad: Tensor, need_dx: bool, bf16: bool
) -> Tensor | None:
    """Pull ``dy`` [S, M, O] back: write the parameters' gradient into ``grad``, return dL/dx if ``need_dx``."""
    weights, grads = chain.views(theta), chain.views(grad)
    for k in range(len(weights) - 1, -1, -1):
        x, (weight, _), (to_weight, to_bias) = cache[k], weights[k], grads[k]
        dz = _times_slope(dy, cache[k + 1], chain.activations[k])
        if dz.shape[2] == 1:
            torch.sum(x * dz, 1, out=to_weight.squeeze(-1))
        elif bf16 and x.shape[2] > 1:
            to_weight.copy_(_rounded_product(x.mT, dz))
        else:
            torch.bmm(x.mT, dz, out=to_weight)
        torch.sum(dz, 1, keepdim=True, out=to_bias)
        if k == 0 and not need_dx:
            return None
        dy = dz * weight.mT if dz.shape[2] == 1 else _product(dz, weight.mT, bf16)
    return dy


def gaussian_log_prob(mean: Tensor, action: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
    """Return log pi(a|s) [S, M] and z = (a - mean) / std [S, M, A]; ``log_std`` is [S, A]."""
    z = (action - mean).mul_(log_std.neg().exp_().unsqueeze(1))
    constant = log_std.sum(1, keepdim=True).add_(HALF_LOG_2PI * mean.shape[-1])
    if z.requires_grad:  # autograd needs what the operations in place would overwrite
        return z.square().sum(-1).mul(-0.5).sub(constant), z
    return torch.linalg.vector_norm(z, dim=-1).square_().mul_(-0.5).sub_(constant), z


def gaussian_vjp(z: Tensor, log_std: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Differentiate sum_m weight_m log pi(a_m|s_m): by the mean [S, M, A] and by log_std [S, A]; ``weight`` [S, M]."""
    weighted = z * weight.unsqueeze(-1)
    to_log_std = (z * weighted).sum(1).sub_(weight.sum(1, keepdim=True))
    return weighted.mul_(log_std.neg().exp_().unsqueeze(1)), to_log_std


def clip_scale(grad: Tensor, limit: Tensor) -> Tensor:
    """Return min(1, limit / norm) for each row of ``grad`` [S, n], [S, 1]; ``limit`` is [S, 1]."""
    norm: Tensor = torch.linalg.vector_norm(grad, dim=1, keepdim=True)
    return (limit / (norm + 1e-6)).clamp_(max=1.0)


def _activate(z: Tensor, activation: str) -> Tensor:
    if activation == "tanh":
        # torch's vectorised logistic function takes half the time of its tanh on a CPU; they agree to 2e-7
        fast = z.device.type == "cpu" and z.shape[1] * z.shape[2] % VECTOR == 0 and not z.requires_grad
        return z.mul_(TWO).sigmoid_().mul_(TWO).sub_(ONE) if fast else z.tanh_()
    return z.relu_() if activation == "relu" else z


def _affine(x: Tensor, weight: Tensor, bias: Tensor, bf16: bool) -> Tensor:
    if weight.shape[2] > 1 and not bf16:
        return torch.baddbmm(bias, x, weight)
    return _product(x, weight, bf16).add_(bias)


def _product(a: Tensor, b: Tensor, bf16: bool) -> Tensor:
    if b.shape[2] == 1:  # BLAS rounds a product with a vector differently for one run and for many
        return (a * b.mT).sum(-1, keepdim=True)
    return _rounded_product(a, b) if bf16 and a.shape[2] > 1 else torch.bmm(a, b)


def _rounded_product(a: Tensor, b: Tensor) -> Tensor:
    """Round both to bfloat16; sum in float32."""
    if a.is_cuda:
        return torch.bmm(a.bfloat16(), b.bfloat16(), out_dtype=torch.float32)
    return torch.bmm(a.bfloat16().float(), b.bfloat16().float())  # torch's own on a CPU would round the sums too


def _times_slope(d: Tensor, y: Tensor, activation: str) -> Tensor:
    if activation == "tanh":
        product: Tensor = torch.ops.aten.tanh_backward.default(d, y)
        return product
    return d * (y > 0) if activation == "relu" else d
