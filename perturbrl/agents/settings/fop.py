"""The settings of PPO with first-order preconditioning; meanings and defaults stand in ``conf/agent/fop.yaml``."""

from __future__ import annotations

from dataclasses import dataclass

from perturbrl.agents.settings.ppo import PPOConfig
from perturbrl.bounds import NonNegativeFloat, PerRun


@dataclass(frozen=True)
class FOPConfig(PPOConfig):
    """Settings of first-order preconditioning; meanings and units stand in ``conf/agent/fop.yaml``."""

    hyper_lr: PerRun[NonNegativeFloat]
    normalised: bool
