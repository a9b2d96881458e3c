"""Trust region policy optimisation (Schulman et al. 2015), the arm "TRPO" of arXiv 2510.13018."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch

from perturbrl.agents.build import agent
from perturbrl.agents.critic import Critic
from perturbrl.agents.learner import check_rollout
from perturbrl.agents.model.heads import Model
from perturbrl.agents.natural import OldPolicy, conjugate_gradient, line_search, natural_step
from perturbrl.agents.recipe import Recipe
from perturbrl.agents.rollout import Log, Rollout
from perturbrl.bounds import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    OneOf,
    PerRun,
    PositiveFloat,
    PositiveInt,
    Probability,
)
from perturbrl.rng import Streams


@dataclass(frozen=True)
class TRPOConfig:
    """Settings of TRPO; meanings and units stand in ``conf/agent/trpo.yaml``."""

    name: str
    total_steps: PositiveInt
    rollout_steps: PositiveInt
    n_envs: PositiveInt
    lr: PerRun[PositiveFloat]
    gamma: PerRun[Probability]
    gae_lambda: PerRun[Probability]
    target_kl: PerRun[PositiveFloat]
    kl: Annotated[str, OneOf("per_dimension", "summed")]
    cg_iterations: PositiveInt
    damping: PerRun[NonNegativeFloat]
    line_search_shrink: PerRun[Fraction]
    line_search_tries: PositiveInt
    critic_epochs: PositiveInt
    minibatch: PositiveInt
    normalise_advantage: bool
    clone_steps: NonNegativeInt
    clone_lr: PositiveFloat

    def check(self, where: str) -> None:
        """Raise ``UserError`` for sizes that do not divide."""
        check_rollout(where, self.rollout_steps, self.n_envs, self.minibatch)


@agent("trpo", TRPOConfig)
class TRPO(Recipe[TRPOConfig]):
    """A natural step of the policy, then epochs of Adam on the value network, for S runs; settings ``c`` are [S, 1]."""

    def __init__(self, configs: Sequence[TRPOConfig], model: Model, streams: Streams) -> None:
        super().__init__(configs, model, streams)
        self.critic = Critic(model, [config.lr for config in configs], self.c.minibatch)
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
        """Take the natural step: lines 4 to 8 of Algorithm 1, with the optional line search of section III-C."""
        c = self.c
        if c.normalise_advantage:
            batch = batch.normalised()
        old = OldPolicy(self.model, batch, self.kl_scale)
        g = old.gradient()  # line 4, eq. 3
        d = conjugate_gradient(lambda v: old.fisher_product(v, c.damping), g, c.cg_iterations)  # lines 5, 6
        step = natural_step(g, d, c.target_kl)  # line 7, eq. 6
        # line 8, where the step is accepted
        search = line_search(old, batch, step, c.target_kl, c.line_search_shrink, c.line_search_tries)
        return {
            "kl": search.kl,
            "accepted": search.accepted.float(),
            "step_size": search.step,
            "backtracks": search.backtracks,
            "improvement": search.improvement,
            "entropy": old.distribution.entropy(),
        }
