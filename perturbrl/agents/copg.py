"""Clipped-objective policy gradients (Markowitz & Staley 2023, arXiv 2311.05846), reference [23] of arXiv 2510.13018.

PPO with the logarithm of the policy in place of the probability ratio: a plain policy gradient, clipped where PPO is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from perturbrl.agents.common.build import agent
from perturbrl.agents.common.losses import clip_fraction
from perturbrl.agents.common.rollout import Log, Rollout
from perturbrl.agents.ppo import PPO
from perturbrl.agents.settings.ppo import PPOConfig


@agent("copg", PPOConfig)
class COPG(PPO):
    """PPO whose surrogate has the gradient A grad log pi where PPO's has r A grad log pi, and 0 where PPO's is 0."""

    def surrogate(self, ratio: Tensor, batch: Rollout) -> tuple[Tensor, Log]:
        """Return E[min(log pi A, log(clip(r, 1 - clip, 1 + clip) pi_old) A)] - E[log pi_old A], [S].

        The last term, which the paper's objective lacks, is constant; with it the objective is 0 before the first step.
        """
        clip, advantage = self.c.clip, batch.advantage
        log = {"clip_fraction": clip_fraction(ratio, clip)}
        ratio = ratio.clamp_min(torch.finfo(ratio.dtype).tiny)  # log 0
        clipped = ratio.clamp(1 - clip, 1 + clip)
        return torch.minimum(ratio.log() * advantage, clipped.log() * advantage).mean(1), log
