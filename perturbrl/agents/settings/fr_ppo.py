"""The settings of Fisher-Rao PPO; meanings, units and defaults stand in ``conf/agent/fr_ppo.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl.agents.settings.ppo import MinibatchConfig
from perturbrl.bounds import OneOf, PerRun, PositiveFloat


@dataclass(frozen=True)
class FRPPOConfig(MinibatchConfig):
    """Settings of Fisher-Rao PPO; meanings and units stand in ``conf/agent/fr_ppo.yaml``."""

    tau: PerRun[PositiveFloat]
    distance: Annotated[str, OneOf("integral", "density")]
