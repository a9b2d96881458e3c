"""Trust region policy optimisation (Schulman et al. 2015), the arm "TRPO" of arXiv 2510.13018."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perturbrl.agents.common.build import agent
from perturbrl.agents.common.critic import Critic
from perturbrl.agents.common.natural import OldPolicy, conjugate_gradient, line_search, natural_step
from perturbrl.agents.common.recipe import Recipe
from perturbrl.agents.common.rollout import Log, Rollout
from perturbrl.agents.model.heads import Model
from perturbrl.agents.optim import asked
from perturbrl.agents.settings.trpo import TRPOConfig
from perturbrl.rng import Streams


@agent("trpo", TRPOConfig)
class TRPO(Recipe[TRPOConfig]):
    """A natural step of the policy, then epochs of Adam on the value network, for S runs; settings ``c`` are [S, 1]."""

    def __init__(self, configs: Sequence[TRPOConfig], model: Model, streams: Streams) -> None:
        super().__init__(configs, model, streams)
        self.critic = Critic(model, [config.lr for config in configs], self.c.minibatch, asked(configs))
        self.stateful = {"": self.critic.adam}
        self.executor_name = self.critic.executor_name
        # sb3-contrib averages the KL over action dimensions too, which widens its trust region A times
        averaged = self.c.kl == "per_dimension" and model.actions.kind == "box"
        self.kl_scale = 1 / model.actions.size if averaged else 1.0

    def update(self, batch: Rollout, iteration: int) -> Log:
        """Improve every policy and value network on its batch."""
        return self.policy_step(batch) | self.critic.fit(batch, self.orders(batch, iteration, self.c.critic_epochs))

    @torch.no_grad()
    def policy_step(self, batch: Rollout) -> Log:
        """Take the natural step of the policy: eqs. 3 to 6, then the line search of section III-C."""
        old = self.old_policy(batch)
        g = old.gradient()  # eq. 3
        d = self.direction(old, g)
        step = natural_step(g, d, self.c.target_kl)  # eq. 6
        return self.move(old, step)

    def old_policy(self, batch: Rollout) -> OldPolicy:
        """Return the policy that collected a batch, with what the derivatives need."""
        c = self.c
        return OldPolicy(
            self.model, batch.normalised() if c.normalise_advantage else batch, self.kl_scale, c.fisher_fraction
        )

    def direction(self, old: OldPolicy, g: Tensor) -> Tensor:
        """Solve (H + damping) d = g, [S, n]; H v is a product with the Fisher matrix."""  # eq. 5
        return conjugate_gradient(lambda v: old.fisher_product(v, self.c.damping), g, self.c.cg_iterations)

    def move(self, old: OldPolicy, step: Tensor) -> Log:
        """Take the longest part of a step [S, n] that the line search accepts."""
        c = self.c
        search = line_search(old, old.batch, step, c.target_kl, c.line_search_shrink, c.line_search_tries)
        return {
            "kl": search.kl,
            "accepted": search.accepted.float(),
            "step_size": search.step,
            "backtracks": search.backtracks,
            "improvement": search.improvement,
            "entropy": old.distribution.entropy(),
        }
