"""The settings of PPO with a KL penalty; meanings, units and defaults stand in ``conf/agent/ppo_penalty.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl.agents.settings.base import OnPolicyConfig
from perturbrl.bounds import NonNegativeFloat, Number, OneOf, PerRun, PositiveFloat, PositiveInt


@dataclass(frozen=True)
class PPOPenaltyConfig(OnPolicyConfig):
    """Settings of PPO with a KL penalty; meanings and units stand in ``conf/agent/ppo_penalty.yaml``."""

    epochs: PositiveInt
    minibatch: Annotated[int, Number(least=2)]  # advantages are normalised within it
    beta: PerRun[PositiveFloat]
    kl_target: PerRun[PositiveFloat]
    measure: bool
    kl: Annotated[str, OneOf("per_dimension", "summed")]
    vf_coef: PerRun[NonNegativeFloat]
    ent_coef: PerRun[float]
    max_grad_norm: PerRun[Annotated[float, Number(above=0, finite=False)]]
