"""The settings of PPO; meanings, units and defaults stand in ``conf/agent/ppo.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl.agents.settings.base import ActorCriticConfig
from perturbrl.bounds import (
    Number,
    PerRun,
    PositiveFloat,
    PositiveInt,
    Probability,
)


@dataclass(frozen=True)
class EpochsConfig(ActorCriticConfig):
    """Settings of agents that pass over a rollout several times, minibatch by minibatch."""

    epochs: PositiveInt
    minibatch: Annotated[int, Number(least=2)]  # advantages are normalised within it


@dataclass(frozen=True)
class MinibatchConfig(EpochsConfig):
    """What PPO shares with agents that only limit the change of the policy in another way."""

    target_kl: PositiveFloat | None


@dataclass(frozen=True)
class PPOConfig(MinibatchConfig):
    """Settings of PPO; meanings and units stand in ``conf/agent/ppo.yaml``."""

    clip: PerRun[Probability]
