"""The settings of PPO with a KL penalty; meanings, units and defaults stand in ``conf/agent/ppo_penalty.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl.agents.settings.ppo import EpochsConfig
from perturbrl.bounds import OneOf, PerRun, PositiveFloat


@dataclass(frozen=True)
class PPOPenaltyConfig(EpochsConfig):
    """Settings of PPO with a KL penalty; meanings and units stand in ``conf/agent/ppo_penalty.yaml``."""

    beta: PerRun[PositiveFloat]
    kl_target: PerRun[PositiveFloat]
    measure: bool
    kl: Annotated[str, OneOf("per_dimension", "summed")]
