"""Group relative policy optimisation (Shao et al. 2024, DeepSeekMath, arXiv 2402.03300, section 4.1 and Algorithm 1).

A group (one question and G answers there) are K episodes from the same start; every step of an episode has the return
of the episode, relative to its group, as advantage. There is no critic: the value network stays as it was drawn.
Evaluation acts with the policy alone, so nothing of it is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from perturbrl.agents.common.build import agent
from perturbrl.agents.common.groups import Episodes, Groups
from perturbrl.agents.common.losses import clipped_surrogate, group_relative, importance_ratio, reference_kl
from perturbrl.agents.common.recipe import LossRecipe
from perturbrl.agents.common.rollout import Log, Rollout
from perturbrl.agents.model.heads import Heads, Model
from perturbrl.agents.settings.episodes import GRPOConfig
from perturbrl.rng import Streams


@agent("grpo", GRPOConfig)
class GRPO(LossRecipe[GRPOConfig]):
    """Epochs of minibatches on the clipped surrogate of whole episodes, with a KL penalty to a reference policy."""

    trains_critic = False

    def __init__(self, configs: Sequence[GRPOConfig], model: Model, streams: Streams) -> None:
        super().__init__(configs, model, streams)
        self.groups = Groups(self.c.group, group_relative, by_length=True)  # section 4.1.2, 1 / |o_i| of eq. 3
        self.reference = Reference(model, self.c.reference_every)
        self.stateful["reference"] = self.reference

    def update(self, batch: Rollout, iteration: int) -> Log:
        """Improve every policy on its episodes (Algorithm 1, lines 3 to 11)."""
        assert isinstance(batch, Episodes)
        self.reference.follow()
        batch = replace(batch, reference=self.reference.log_prob(batch))
        log = super().update(batch, iteration)
        now = self.model.policy(batch.obs)[0].log_prob(batch.action)[0]
        return log | {"reference_kl": reference_kl(now, batch.reference).mean(1)}

    def loss(self, heads: Heads, batch: Rollout) -> Tensor:
        """Return the negative of eq. 3, [S]. Weights are not negative, so that they may stand within the minimum."""
        assert isinstance(batch, Episodes)
        ratio = importance_ratio(heads.log_prob, batch.log_prob)
        surrogate = clipped_surrogate(ratio, batch.weight * batch.advantage, self.c.clip)
        kl = (batch.weight * reference_kl(heads.log_prob, batch.reference)).mean(1)  # eq. 4
        loss: Tensor = self.c.kl_coef.squeeze(1) * kl - surrogate  # eq. 3
        return loss


class Reference:
    """The policy that the KL penalty holds on to: pi itself, as it was at the start of every ``every`` rollouts."""

    def __init__(self, model: Model, every: int | None) -> None:
        self.model, self.every = model, every
        self.theta = model.theta.detach().clone()
        self.age = torch.full((len(model.theta),), -1, device=model.theta.device)

    @torch.no_grad()
    def follow(self) -> None:
        """Count a rollout, and take the present policy when it is time (Algorithm 1, line 3)."""
        self.age += 1
        age = int(self.age[0])
        if age == 0 or age == self.every:
            self.theta.copy_(self.model.theta)
            self.age.zero_()

    @torch.no_grad()
    def log_prob(self, batch: Rollout) -> Tensor:
        """Return log pi_ref of the actions of a batch, [S, M]."""
        return self.model.policy(batch.obs, self.theta)[0].log_prob(batch.action)[0]

    def state(self) -> dict[str, Tensor]:
        """Return the parameters and the number of rollouts since they were taken."""
        return {"theta": self.theta, "age": self.age}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        self.theta.copy_(state["theta"])
        self.age.copy_(state["age"])
