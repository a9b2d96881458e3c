"""The settings of SAC; meanings, units and defaults stand in ``conf/agent/sac.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl.agents.common.learner import check_rollout
from perturbrl.bounds import NonNegativeInt, Number, PerRun, PositiveFloat, PositiveInt, Probability
from perturbrl.config import require


@dataclass(frozen=True)
class SACConfig:
    """Settings of SAC; meanings and units stand in ``conf/agent/sac.yaml``."""

    name: str
    total_steps: PositiveInt
    rollout_steps: PositiveInt
    n_envs: PositiveInt
    train_freq: PositiveInt
    gradient_steps: PositiveInt
    learning_starts: NonNegativeInt
    buffer: PositiveInt
    minibatch: PositiveInt
    lr: PerRun[PositiveFloat]
    gamma: PerRun[Probability]
    tau: PerRun[Annotated[float, Number(above=0, most=1)]]
    ent_coef: PerRun[PositiveFloat]
    tune_ent_coef: bool
    target_entropy: PerRun[float]

    def check(self, where: str) -> None:
        """Raise ``UserError`` for sizes that do not divide, or a replay buffer that holds no step of every cell."""
        check_rollout(where, self.rollout_steps, self.n_envs, self.rollout_steps)
        message = f"{self.buffer} transitions hold no step of all n_envs = {self.n_envs} cells; give more"
        require(self.buffer >= self.n_envs, f"{where}.buffer", message)

    @property
    def kept_steps(self) -> int:
        """Steps of every cell that the replay buffer holds: no more than the run takes."""
        return min(self.buffer // self.n_envs, -(-self.total_steps // self.rollout_steps) * self._steps)

    @property
    def _steps(self) -> int:
        return self.rollout_steps // self.n_envs
