"""The settings of agents without a critic; meanings, units and defaults stand in ``conf/agent/{grpo,rloo}.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl.agents.common.learner import check_rollout
from perturbrl.bounds import NonNegativeFloat, NonNegativeInt, Number, PerRun, PositiveFloat, PositiveInt, Probability
from perturbrl.config import require
from perturbrl.optim.settings import OptimizerConfig


@dataclass(frozen=True)
class EpisodesConfig:
    """The settings that GRPO and RLOO share."""

    name: str
    total_steps: PositiveInt
    rollout_steps: PositiveInt
    n_envs: PositiveInt
    group: Annotated[int, Number(least=2)]
    minibatch: PositiveInt
    optimizer: OptimizerConfig
    lr: PerRun[PositiveFloat]
    gamma: PerRun[Probability]
    max_grad_norm: PerRun[Annotated[float, Number(above=0, finite=False)]]
    clone_steps: NonNegativeInt
    clone_lr: PositiveFloat

    def check(self, where: str) -> None:
        """Raise ``UserError`` for sizes that do not divide."""
        check_rollout(where, self.rollout_steps, self.n_envs, self.minibatch)
        message = f"{self.group} does not divide n_envs = {self.n_envs}"
        require(self.n_envs % self.group == 0, f"{where}.group", message)


@dataclass(frozen=True)
class RLOOConfig(EpisodesConfig):
    """Settings of RLOO."""


@dataclass(frozen=True)
class GRPOConfig(EpisodesConfig):
    """Settings of GRPO."""

    epochs: PositiveInt
    clip: PerRun[Probability]
    kl_coef: PerRun[NonNegativeFloat]
    reference_every: PositiveInt | None
