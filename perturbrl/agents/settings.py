"""The settings of the agents; meanings, units and defaults stand in ``conf/agent``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl.agents.learner import check_rollout
from perturbrl.bounds import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    Number,
    OneOf,
    PerRun,
    PositiveFloat,
    PositiveInt,
    Probability,
)
from perturbrl.config import require

SHARED = ("n_envs", "rollout_steps")
CLONE = ("clone_steps", "clone_lr")  # stated once, for both stages


@dataclass(frozen=True)
class PPOConfig:
    """Settings of PPO; meanings and units stand in ``conf/agent/ppo.yaml``."""

    name: str
    total_steps: PositiveInt
    rollout_steps: PositiveInt
    n_envs: PositiveInt
    epochs: PositiveInt
    minibatch: Annotated[int, Number(least=2)]  # advantages are normalised within it
    lr: PerRun[PositiveFloat]
    gamma: PerRun[Probability]
    gae_lambda: PerRun[Probability]
    clip: PerRun[Probability]
    vf_coef: PerRun[NonNegativeFloat]
    ent_coef: PerRun[float]
    max_grad_norm: PerRun[Annotated[float, Number(above=0, finite=False)]]
    normalise_advantage: bool
    target_kl: PositiveFloat | None
    clone_steps: NonNegativeInt
    clone_lr: PositiveFloat

    def check(self, where: str) -> None:
        """Raise ``UserError`` for sizes that do not divide."""
        check_rollout(where, self.rollout_steps, self.n_envs, self.minibatch)


@dataclass(frozen=True)
class TRPOConfig:
    """Settings of TRPO; meanings and units stand in ``conf/agent/trpo.yaml``."""

    name: str
    total_steps: PositiveInt
    rollout_steps: PositiveInt
    n_envs: PositiveInt
    lr: PerRun[PositiveFloat]
    gamma: PerRun[Probability]
    gae_lambda: PerRun[Probability]
    target_kl: PerRun[PositiveFloat]
    kl: Annotated[str, OneOf("per_dimension", "summed")]
    cg_iterations: PositiveInt
    damping: PerRun[NonNegativeFloat]
    line_search_shrink: PerRun[Fraction]
    line_search_tries: PositiveInt
    critic_epochs: PositiveInt
    minibatch: PositiveInt
    normalise_advantage: bool
    clone_steps: NonNegativeInt
    clone_lr: PositiveFloat

    def check(self, where: str) -> None:
        """Raise ``UserError`` for sizes that do not divide."""
        check_rollout(where, self.rollout_steps, self.n_envs, self.minibatch)


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
        for key in (*SHARED, *once):
            a, b = getattr(self.trpo, key), getattr(self.ppo, key)
            require(a == b, f"{where}.ppo.{key}", f"is {b} but {where}.trpo.{key} is {a}; both stages need the same")
        for key in CLONE:
            common = getattr(self, key)
            for stage, config in (("trpo", self.trpo), ("ppo", self.ppo)):
                message = f"is {getattr(config, key)} but {where}.{key} is {common}; set {where}.{key} alone"
                require(getattr(config, key) == common, f"{where}.{stage}.{key}", message)

    @property
    def n_envs(self) -> int:
        """B, the number of cells stepped together."""
        return self.trpo.n_envs
