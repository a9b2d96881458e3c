"""What can be set for every agent that learns from its own rollouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl.agents.common.learner import check_rollout
from perturbrl.bounds import NonNegativeFloat, NonNegativeInt, Number, PerRun, PositiveFloat, PositiveInt, Probability
from perturbrl.optim.settings import OptimizerConfig

STATED_ONCE = ("clone_steps", "clone_lr")  # by an agent of several stages, for all of them
SAME_IN_STAGES = ("n_envs", "rollout_steps")


@dataclass(frozen=True)
class OnPolicyConfig:
    """The settings that on-policy agents share; meanings and units stand in ``conf/agent/ppo.yaml``."""

    name: str
    total_steps: PositiveInt
    rollout_steps: PositiveInt
    n_envs: PositiveInt
    optimizer: OptimizerConfig
    lr: PerRun[PositiveFloat]
    gamma: PerRun[Probability]
    gae_lambda: PerRun[Probability]
    normalise_advantage: bool
    clone_steps: NonNegativeInt
    clone_lr: PositiveFloat

    def check(self, where: str) -> None:
        """Raise ``UserError`` for sizes that do not divide, or an optimiser that the learning rate does not fit."""
        self.optimizer.check_rate(self.lr, f"{where}.optimizer")
        check_rollout(where, self.rollout_steps, self.n_envs, getattr(self, "minibatch", self.rollout_steps))


@dataclass(frozen=True)
class ActorCriticConfig(OnPolicyConfig):
    """Settings of agents that improve both networks by one loss."""

    vf_coef: PerRun[NonNegativeFloat]
    ent_coef: PerRun[float]
    max_grad_norm: PerRun[Annotated[float, Number(above=0, finite=False)]]
