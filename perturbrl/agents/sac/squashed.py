"""Normals squashed into (-1, 1) by tanh, with a standard deviation that depends on the state.

Haarnoja et al. 2018b (arXiv 1812.05905), appendix C. Letters: S runs, M states, A action size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

LEAST, MOST = -20.0, 2.0  # limits of the log standard deviation, as in Stable-Baselines3
LOG_2, HALF_LOG_2PI = math.log(2), 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Squashed:
    """The distribution of a = tanh(u), u = mean + std x noise, from the ``outputs`` [S, M, 2 A] of a network.

    The first A outputs are the mean of u, the others its log standard deviation before it is clamped.
    """

    outputs: Tensor

    def mode(self) -> Tensor:
        """Return the squashed mean, [S, M, A]."""
        return self._parts()[0].tanh()

    def sample(self, noise: Tensor) -> Sample:
        """Turn standard normals [S, M, A] into actions with their log-probabilities."""
        mean, raw = self._parts()
        log_std = raw.clamp(LEAST, MOST)
        spread = log_std.exp().mul_(noise)
        u = mean + spread
        # log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u)), exact where tanh rounds to 1
        shrunk = softplus(u * -2).add_(u).sub_(LOG_2).mul_(2)
        log_prob = (shrunk - log_std).addcmul_(noise, noise, value=-0.5).sum(-1).sub_(HALF_LOG_2PI * noise.shape[-1])
        inside = raw == log_std
        return Sample(u.tanh(), log_prob, spread, inside)

    def _parts(self) -> tuple[Tensor, Tensor]:
        mean, raw = self.outputs.chunk(2, -1)
        return mean, raw


@dataclass(frozen=True)
class Sample:
    """Actions [S, M, A] and log-probabilities in nats [S, M]; ``spread`` is std x noise.

    ``inside`` says where the log standard deviation is not clamped, [S, M, A].
    """

    action: Tensor
    log_prob: Tensor
    spread: Tensor
    inside: Tensor

    def pull_back(self, d_action: Tensor, d_log_prob: Tensor) -> Tensor:
        """Return the gradient of the outputs [S, M, 2 A], the noise being fixed.

        Parameters
        ----------
        d_action
            Gradient of the actions, [S, M, A].
        d_log_prob
            Gradient of the log-probabilities, [S, M].
        """
        weight = d_log_prob.unsqueeze(-1)
        slope = 1 - self.action.square()
        d_u = (slope * d_action).add_(self.action * (2 * weight))  # d log pi / du = 2 tanh(u)
        d_log_std = (self.spread * d_u).sub_(weight).mul_(self.inside)
        return torch.cat([d_u, d_log_std], -1)
