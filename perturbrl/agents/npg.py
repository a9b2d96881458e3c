"""Natural policy gradient (Kakade 2001), scaled as in arXiv 2510.13018, eq. 6: TRPO without its line search."""

from __future__ import annotations

from torch import Tensor

from perturbrl.agents.common.build import agent
from perturbrl.agents.common.losses import importance_ratio, surrogate
from perturbrl.agents.common.natural import OldPolicy, mean_kl
from perturbrl.agents.common.rollout import Log
from perturbrl.agents.settings.npg import NPGConfig
from perturbrl.agents.trpo import TRPO


@agent("npg", NPGConfig)
class NPG(TRPO):
    """The step of eq. 6 is taken whole, whatever it does to the surrogate; its KL is ``target_kl`` to second order."""

    def move(self, old: OldPolicy, step: Tensor) -> Log:
        """Add a step [S, n] to the policy; log what TRPO's line search would have judged."""
        model, batch = self.model, old.batch
        model.theta[:, : model.policy_size] += step
        new, _ = model.policy(batch.obs)
        ratio = importance_ratio(new.log_prob(batch.action)[0], batch.log_prob)
        return {
            "kl": mean_kl(old.distribution, new, old.scale),
            "improvement": surrogate(ratio, batch.advantage) - batch.advantage.mean(1),
            "entropy": old.distribution.entropy(),
        }
