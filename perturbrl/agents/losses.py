"""The objectives of PPO, each with its gradient in closed form. Equation numbers are those of arXiv 2510.13018.

Letters: S runs, M transitions of a minibatch. Every average is over the minibatch of one run.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def importance_ratio(log_prob: Tensor, old_log_prob: Tensor) -> Tensor:
    """Return r = pi(a|s) / pi_old(a|s), [S, M]."""  # eq. 1
    return (log_prob - old_log_prob).exp_()


def surrogate(ratio: Tensor, advantage: Tensor) -> Tensor:
    """Return L_surr = E[r A], [S]."""  # eq. 2
    return (ratio * advantage).mean(1)


def clipped_surrogate(ratio: Tensor, advantage: Tensor, clip: Tensor) -> Tensor:
    """Return L_CLIP of each transition, [S, M]; ``clip`` is [S, 1]."""  # eq. 7
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def clipped_surrogate_score(ratio: Tensor, advantage: Tensor, clip: Tensor) -> Tensor:
    """Differentiate L_CLIP by log pi(a|s), [S, M]: r A, or nothing where the clipped term is the smaller."""
    weighted = ratio * advantage
    return weighted.mul_(ratio.clamp(1 - clip, 1 + clip).mul_(advantage) >= weighted)


def value_loss(value: Tensor, ret: Tensor) -> Tensor:
    """E[(V - R)^2], [S] (without the half of eq. 8, as in Algorithm 1 and in Stable-Baselines3)."""
    return (value - ret).square().mean(1)


def value_loss_score(value: Tensor, ret: Tensor) -> Tensor:
    """Differentiate ``value_loss`` by V, [S, M]."""
    return (value - ret).mul_(2 / value.shape[1])


def normalise(advantage: Tensor, size: int | None = None) -> Tensor:
    """Advantages with mean 0 and standard deviation 1 in each run, or in each ``size`` transitions of a run, [S, M]."""
    parts = advantage.reshape(len(advantage), -1, size or advantage.shape[1])
    std, mean = torch.std_mean(parts, 2, keepdim=True)
    return (parts - mean).div_(std.add_(1e-8)).flatten(1)


@dataclass(frozen=True)
class PolicyChange:
    """How far a policy has moved on a batch: one number a run, each [S]."""

    approx_kl: Tensor
    clip_fraction: Tensor


def policy_change(ratio: Tensor, clip: Tensor) -> PolicyChange:
    """Estimate KL(old || new) as E[r - 1 - log r] (joschu.net/blog/kl-approx.html), and the share of ratios clipped."""
    return PolicyChange((ratio - 1 - ratio.log()).mean(1), ((ratio - 1).abs() > clip).float().mean(1))
