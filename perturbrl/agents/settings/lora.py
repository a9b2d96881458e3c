"""The settings of multi-stage LoRA; meanings, units and defaults stand in ``conf/agent/lora.yaml``."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated

from perturbrl.agents.model.adapter_layout import LAYERS, WHOLE, AdapterPlan
from perturbrl.agents.settings.ppo import PPOConfig
from perturbrl.bounds import OneOf, PerRun, PositiveFloat, PositiveInt, Probability
from perturbrl.config import require

STAGES = ("convex", "nonconvex", "full")


@dataclass(frozen=True)
class LoRAConfig(PPOConfig):
    """Settings of the stages; meanings stand in ``conf/agent/lora.yaml``, those of PPO in ``conf/agent/ppo.yaml``."""

    needs_pretrained = True  # no field: a property of the agent

    pretrained: PerRun[str | None]
    rank: PositiveInt
    alpha: PerRun[PositiveFloat]
    policy_layers: Annotated[str, OneOf(*LAYERS, WHOLE)]
    value_layers: Annotated[str, OneOf(*LAYERS, WHOLE)]
    biases: bool
    log_std: bool
    convex_share: Probability
    nonconvex_share: Probability
    adapter_lr: PerRun[PositiveFloat]

    def check(self, where: str) -> None:
        """Raise ``UserError`` for sizes that do not divide, and for stages that do not fit into the budget."""
        super().check(where)
        shares = self.convex_share + self.nonconvex_share
        message = f"{self.convex_share} and {where}.nonconvex_share = {self.nonconvex_share} are more than 1 together"
        require(shares <= 1 + 1e-9, f"{where}.convex_share", message)
        for stage, share in (("convex", self.convex_share), ("nonconvex", self.nonconvex_share)):
            message = f"{share} of {self._rollouts()} rollouts leaves no rollout to the stage; give more, or 0"
            require(share == 0 or self.stage_steps()[stage] > 0, f"{where}.{stage}_share", message)

    def stage_steps(self) -> dict[str, int]:
        """Return the steps of each stage, whole rollouts; together they are the rollouts of ``total_steps``."""
        n = self._rollouts()
        first, second = (
            math.ceil(n * share - 1e-9) for share in (self.convex_share, self.convex_share + self.nonconvex_share)
        )
        rollouts = (first, second - first, n - second)
        return {stage: k * self.rollout_steps for stage, k in zip(STAGES, rollouts, strict=True)}

    def ppo(self, stage: str) -> PPOConfig:
        """Return the settings of PPO in a stage."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(PPOConfig)}
        values |= {"total_steps": self.stage_steps()[stage], "lr": self.lr if stage == "full" else self.adapter_lr}
        return PPOConfig(**values)

    @property
    def plan(self) -> AdapterPlan:
        """What the two adapter stages train."""
        return AdapterPlan(self.rank, self.policy_layers, self.value_layers, self.biases, self.log_std)

    def _rollouts(self) -> int:
        return -(-self.total_steps // self.rollout_steps)
