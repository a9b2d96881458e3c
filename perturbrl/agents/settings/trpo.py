"""The settings of TRPO; meanings, units and defaults stand in ``conf/agent/trpo.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl.agents.common.learner import check_rollout
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
