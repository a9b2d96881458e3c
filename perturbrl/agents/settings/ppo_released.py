"""The settings of PPO as the second release runs it; their meanings stand in ``conf/agent/ppo_released.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl.agents.settings.base import ActorCriticConfig
from perturbrl.bounds import Number


@dataclass(frozen=True)
class PPOReleasedConfig(ActorCriticConfig):
    """Settings of one PPO step a rollout; meanings and units stand in ``conf/agent/ppo_released.yaml``."""

    minibatch: Annotated[int, Number(least=2)]  # advantages are normalised within it
