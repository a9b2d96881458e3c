"""The settings of TRPO; meanings, units and defaults stand in ``conf/agent/trpo.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl.agents.settings.base import OnPolicyConfig
from perturbrl.bounds import (
    Fraction,
    NonNegativeFloat,
    Number,
    OneOf,
    PerRun,
    PositiveFloat,
    PositiveInt,
)


@dataclass(frozen=True)
class NaturalConfig(OnPolicyConfig):
    """What agents share that take the natural step of eq. 6."""

    target_kl: PerRun[PositiveFloat]
    kl: Annotated[str, OneOf("per_dimension", "summed")]
    cg_iterations: PositiveInt
    damping: PerRun[NonNegativeFloat]
    fisher_fraction: Annotated[float, Number(above=0, most=1)]
    critic_epochs: PositiveInt
    minibatch: PositiveInt


@dataclass(frozen=True)
class TRPOConfig(NaturalConfig):
    """Settings of TRPO; meanings and units stand in ``conf/agent/trpo.yaml``."""

    line_search_shrink: PerRun[Fraction]
    line_search_tries: PositiveInt
