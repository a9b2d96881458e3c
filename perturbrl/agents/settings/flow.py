"""The settings of flow matching; meanings, units and defaults stand in ``conf/agent/flow.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from perturbrl.bounds import NonNegativeFloat, Number, OneOf, PerRun, PositiveFloat, PositiveInt
from perturbrl.config import require
from perturbrl.generators.cells import EFFECTS
from perturbrl.generators.flow import FlowSettings
from perturbrl.generators.settings import NetworkConfig, PathConfig, SamplingConfig

SCHEDULES = ("constant", "cosine")
Share = Annotated[float, Number(least=0, below=1)]


class Shrinkage:
    """A factor of at least 0, or ``validation``."""

    def admit(self, value: Any, key: str) -> None:
        """Raise ``UserError`` for another word or a negative number."""
        valid = value == "validation" or (isinstance(value, float | int) and 0 <= value < float("inf"))
        require(valid, key, f"must be validation or a number of at least 0, got {value}")


@dataclass(frozen=True)
class FlowConfig:
    """Settings of flow matching; a step is a cell that the network is trained on."""

    name: str
    total_steps: PositiveInt
    rollout_steps: PositiveInt
    minibatch: PositiveInt
    group: PositiveInt
    pool: PositiveInt
    lr: PerRun[PositiveFloat]
    lr_schedule: Annotated[str, OneOf(*SCHEDULES)]
    weight_decay: PerRun[NonNegativeFloat]
    max_grad_norm: PerRun[Annotated[float, Number(above=0, finite=False)]]
    ema: PerRun[Share]
    control_share: PerRun[Share]
    drop: Share
    mmd: PerRun[NonNegativeFloat]
    effect: Annotated[str, OneOf(*EFFECTS)]
    shrinkage: Annotated[float | int | str, Shrinkage()]
    network: NetworkConfig
    path: PathConfig
    sampling: SamplingConfig

    def check(self, where: str) -> None:
        """Raise ``UserError`` for sizes that do not divide, and for choices that need others."""
        message = f"{self.minibatch} does not divide rollout_steps = {self.rollout_steps}"
        require(self.rollout_steps % self.minibatch == 0, f"{where}.minibatch", message)
        message = f"{self.group} does not divide minibatch = {self.minibatch}"
        require(self.minibatch % self.group == 0, f"{where}.group", message)
        groups = "needs cells of one condition side by side; give agent.group at least 2, such as 16"
        require(self.mmd == 0 or self.group > 1, f"{where}.mmd", groups)
        require(self.path.pairing == "random" or self.group > 1, f"{where}.path.pairing", groups)
        guided = self.sampling.guidance != 1.0
        message = "needs a flow without a condition; give agent.drop, such as 0.1"
        require(not guided or self.drop > 0, f"{where}.sampling.guidance", message)
        paired = "needs the control as a condition; give agent.control_share, such as 0.3, or choose effect=direct"
        require(self.effect == "direct" or self.control_share > 0, f"{where}.effect", paired)
        message = f"{self.shrinkage}: only paired differences are shrunk; with effect=direct give 1"
        require(self.effect == "paired" or self.shrinkage == 1, f"{where}.shrinkage", message)

    @property
    def n_envs(self) -> int:
        """Cells that the task steps together: none are, so as few as can be."""
        return 1

    @property
    def generator(self) -> FlowSettings:
        """What makes the generator."""
        factor = None if self.shrinkage == "validation" else float(self.shrinkage)
        return FlowSettings(self.network, self.path, self.sampling, self.effect, factor, self.drop > 0)
