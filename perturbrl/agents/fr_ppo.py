"""Fisher-Rao PPO (Lascu, Šiška & Szpruch 2025, arXiv 2506.03757), reference [21] of arXiv 2510.13018.

PPO with a penalty on the squared Fisher-Rao distance, FR^2(pi, pi_old) = 4 int (sqrt pi - sqrt pi_old)^2, in place of
clipping.
"""

from __future__ import annotations

import torch
from torch import Tensor

from perturbrl.agents.common.build import agent
from perturbrl.agents.common.losses import surrogate
from perturbrl.agents.common.rollout import Log, Rollout
from perturbrl.agents.ppo import PPO
from perturbrl.agents.settings.fr_ppo import FRPPOConfig


@agent("fr_ppo", FRPPOConfig)
class FRPPO(PPO):
    """PPO that maximises E[r A] - FR^2 / (2 tau), without a clip."""

    def surrogate(self, ratio: Tensor, batch: Rollout) -> tuple[Tensor, Log]:
        """Return what the policy maximises, [S].

        Actions come from pi_old, so the integral is 4 E[(sqrt r - 1)^2] (``distance=integral``). The authors' code
        averages 4 (sqrt pi - sqrt pi_old)^2 (``density``), which weights an action once more by its density pi_old, a
        number that depends on the unit and the number of action dimensions.
        """
        change = (ratio.clamp_min(torch.finfo(ratio.dtype).tiny).sqrt() - 1).square()  # sqrt has no slope at 0
        if self.c.distance == "density":
            change = change * batch.log_prob.exp()
        distance = 4 * change.mean(1)
        return surrogate(ratio, batch.advantage) - distance / (2 * self.c.tau.squeeze(1)), {"fisher_rao": distance}
