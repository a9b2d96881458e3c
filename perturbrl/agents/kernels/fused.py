"""A whole epoch of PPO in one native call: for each minibatch gradients of both networks, clipping, Adam."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from perturbrl.agents.kernels.chain import Chain, Moments
from perturbrl.agents.kernels.native import Native


class _Settings(ctypes.Structure):
    """The struct ``ppo`` of ppo.c."""

    _fields_ = (
        ("chain", ctypes.c_void_p * 2),
        *((name, ctypes.c_long) for name in ("runs", "width", "split", "log_std")),
        *((name, ctypes.c_void_p) for name in ("theta", "grad")),
        *((name, ctypes.c_void_p * 2) for name in ("m", "v", "t", "lr")),
        *((name, ctypes.c_void_p) for name in ("clip", "vf_coef", "ent_coef", "max_norm")),
        *((name, ctypes.c_float) for name in ("b1", "b2", "eps")),
    )


class FusedPPO:
    """Steps of eq. 8 for S runs whose policy is a Gaussian with one chain, and whose value network is one chain.

    ``theta`` and ``grad`` [S, n] are written in place, as are the moments of the optimisers of the columns before, and
    from, ``value.start`` on. ``clip``, ``vf_coef``, ``ent_coef`` and ``max_norm`` are [S, 1]; ``log_std`` is the first
    column of that vector.
    """

    def __init__(
        self,
        native: Native,
        policy: Chain,
        value: Chain,
        log_std: int,
        theta: Tensor,
        grad: Tensor,
        optimisers: tuple[Moments, Moments],
        clip: Tensor,
        vf_coef: Tensor,
        ent_coef: Tensor,
        max_norm: Tensor,
    ) -> None:
        tensors = {"theta": theta, "grad": grad, "clip": clip, "vf_coef": vf_coef, "ent_coef": ent_coef}
        tensors["max_norm"] = max_norm
        settings = _Settings(
            runs=theta.shape[0],
            width=theta.shape[1],
            split=value.start,
            log_std=log_std,
            **dict(zip(("b1", "b2", "eps"), optimisers[0].betas_eps, strict=True)),
            **{name: tensor.data_ptr() for name, tensor in tensors.items()},
        )
        for k, chain in enumerate((policy, value)):
            settings.chain[k] = ctypes.addressof(chain.as_c)
        for k, one in enumerate(optimisers):
            for name in ("m", "v", "t", "lr"):
                getattr(settings, name)[k] = getattr(one, name).data_ptr()
        self._native, self._settings = native, settings
        self._alive = (tensors, optimisers, policy, value)  # the struct holds their addresses

    def epoch(
        self,
        obs: Tensor,
        action: Tensor,
        log_prob: Tensor,
        advantage: Tensor,
        ret: Tensor,
        minibatch: int,
        bf16: bool,
    ) -> tuple[Tensor, Tensor]:
        """Take a step on each ``minibatch`` rows of ``obs`` [S, M, G], ``action`` [S, M, A] and the others [S, M].

        Return ratios and values [S, M], each as it was before its step.
        """
        ratio, value = torch.empty_like(ret), torch.empty_like(ret)
        self._native.ppo_steps(
            ctypes.byref(self._settings),
            *(bf16, minibatch, ret.shape[1], obs.data_ptr(), action.data_ptr(), log_prob.data_ptr()),
            *(advantage.data_ptr(), ret.data_ptr(), ratio.data_ptr(), value.data_ptr()),
        )
        return ratio, value
