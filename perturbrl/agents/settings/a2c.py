"""The settings of A2C; meanings, units and defaults stand in ``conf/agent/a2c.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl.agents.settings.base import ActorCriticConfig
from perturbrl.bounds import Number


@dataclass(frozen=True)
class A2CConfig(ActorCriticConfig):
    """Settings of A2C; meanings and units stand in ``conf/agent/a2c.yaml``."""

    rollout_steps: Annotated[int, Number(least=2)]  # advantages may be normalised within it
