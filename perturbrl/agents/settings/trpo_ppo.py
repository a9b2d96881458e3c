"""The settings of TRPO -> PPO; meanings and defaults stand in ``conf/agent/trpo_ppo.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl.agents.settings.base import SAME_IN_STAGES, STATED_ONCE
from perturbrl.agents.settings.ppo import PPOConfig
from perturbrl.agents.settings.trpo import TRPOConfig
from perturbrl.bounds import NonNegativeInt, OneOf, PositiveFloat
from perturbrl.config import require


@dataclass(frozen=True)
class TRPOPPOConfig:
    """Settings of the two stages; meanings stand in ``conf/agent/trpo_ppo.yaml``."""

    name: str
    mode: Annotated[str, OneOf("stages", "interleaved")]
    handover: Annotated[str, OneOf("parameters", "parameters_and_moments")]
    clone_steps: NonNegativeInt
    clone_lr: PositiveFloat
    trpo: TRPOConfig
    ppo: PPOConfig

    def check(self, where: str) -> None:
        """Raise ``UserError`` for stages that do not fit each other."""
        once = ("total_steps", "gamma", "gae_lambda") if self.mode == "interleaved" else ()
        for key in (*SAME_IN_STAGES, *once):
            a, b = getattr(self.trpo, key), getattr(self.ppo, key)
            require(a == b, f"{where}.ppo.{key}", f"is {b} but {where}.trpo.{key} is {a}; both stages need the same")
        for key in STATED_ONCE:
            common = getattr(self, key)
            for stage, config in (("trpo", self.trpo), ("ppo", self.ppo)):
                message = f"is {getattr(config, key)} but {where}.{key} is {common}; set {where}.{key} alone"
                require(getattr(config, key) == common, f"{where}.{stage}.{key}", message)

    @property
    def n_envs(self) -> int:
        """B, the number of cells stepped together."""
        return self.trpo.n_envs
