"""The settings of TRGPPO; meanings, units and defaults stand in ``conf/agent/trgppo.yaml``."""

from __future__ import annotations

from dataclasses import dataclass

from perturbrl.agents.settings.ppo import MinibatchConfig
from perturbrl.bounds import Fraction, PerRun, PositiveFloat


@dataclass(frozen=True)
class TRGPPOConfig(MinibatchConfig):
    """Settings of TRGPPO; meanings and units stand in ``conf/agent/trgppo.yaml``."""

    clip: PerRun[Fraction]
    delta: PositiveFloat | None
    delta_discrete: PositiveFloat
