"""The settings of PPO; meanings, units and defaults stand in ``conf/agent/ppo.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl.agents.settings.base import OnPolicyConfig
from perturbrl.bounds import (
    NonNegativeFloat,
    Number,
    PerRun,
    PositiveFloat,
    PositiveInt,
    Probability,
)


@dataclass(frozen=True)
class MinibatchConfig(OnPolicyConfig):
    """What PPO shares with agents that only limit the change of the policy in another way."""

    epochs: PositiveInt
    minibatch: Annotated[int, Number(least=2)]  # advantages are normalised within it
    vf_coef: PerRun[NonNegativeFloat]
    ent_coef: PerRun[float]
    max_grad_norm: PerRun[Annotated[float, Number(above=0, finite=False)]]
    target_kl: PositiveFloat | None


@dataclass(frozen=True)
class PPOConfig(MinibatchConfig):
    """Settings of PPO; meanings and units stand in ``conf/agent/ppo.yaml``."""

    clip: PerRun[Probability]
