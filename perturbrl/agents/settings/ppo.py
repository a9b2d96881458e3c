"""The settings of PPO; meanings, units and defaults stand in ``conf/agent/ppo.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl.agents.common.learner import check_rollout
from perturbrl.bounds import (
    NonNegativeFloat,
    NonNegativeInt,
    Number,
    PerRun,
    PositiveFloat,
    PositiveInt,
    Probability,
)


@dataclass(frozen=True)
class PPOConfig:
    """Settings of PPO; meanings and units stand in ``conf/agent/ppo.yaml``."""

    name: str
    total_steps: PositiveInt
    rollout_steps: PositiveInt
    n_envs: PositiveInt
    epochs: PositiveInt
    minibatch: Annotated[int, Number(least=2)]  # advantages are normalised within it
    lr: PerRun[PositiveFloat]
    gamma: PerRun[Probability]
    gae_lambda: PerRun[Probability]
    clip: PerRun[Probability]
    vf_coef: PerRun[NonNegativeFloat]
    ent_coef: PerRun[float]
    max_grad_norm: PerRun[Annotated[float, Number(above=0, finite=False)]]
    normalise_advantage: bool
    target_kl: PositiveFloat | None
    clone_steps: NonNegativeInt
    clone_lr: PositiveFloat

    def check(self, where: str) -> None:
        """Raise ``UserError`` for sizes that do not divide."""
        check_rollout(where, self.rollout_steps, self.n_envs, self.minibatch)
