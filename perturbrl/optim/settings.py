"""The settings of the optimisers; meanings, equations and defaults stand in ``conf/agent/optimizer``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from perturbrl.bounds import NonNegativeFloat, Number, OneOf, PositiveFloat
from perturbrl.errors import choice, require

Decay = Annotated[float, Number(least=0, below=1)]


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimiser by its name; each has a schema of its own, below."""

    name: str

    @classmethod
    def variant(cls, node: Mapping[str, Any], where: str) -> type[OptimizerConfig]:
        """Return the schema of the optimiser that ``node`` names; ``config.bind`` asks for it.

        Raises
        ------
        UserError
            There is none of that name.
        """
        return SCHEMAS[choice(str(node.get("name")), SCHEMAS, f"{where}.name")] if cls is OptimizerConfig else cls

    def check_rate(self, lr: float, where: str) -> None:
        """Raise ``UserError`` where the learning rate of the agent does not fit these settings."""


@dataclass(frozen=True)
class MomentsConfig(OptimizerConfig):
    """Settings of all optimisers that keep means of the gradient and of its square."""

    beta1: Decay
    beta2: Decay
    eps: PositiveFloat


@dataclass(frozen=True)
class AdamConfig(MomentsConfig):
    """Settings of Adam."""


@dataclass(frozen=True)
class AmsgradConfig(MomentsConfig):
    """Settings of AMSGrad."""


@dataclass(frozen=True)
class AdamwConfig(MomentsConfig):
    """Settings of AdamW."""

    weight_decay: NonNegativeFloat


@dataclass(frozen=True)
class PadamConfig(MomentsConfig):
    """Settings of Padam."""

    partial: Annotated[float, Number(least=0, most=0.5)]


@dataclass(frozen=True)
class AsgdConfig(MomentsConfig):
    """Settings of ASGDAdam and ASGDAMSGrad; the larger learning rate is that of the agent."""

    lr_min: PositiveFloat
    adaptive: NonNegativeFloat
    scope: Annotated[str, OneOf("tensor", "global")]
    moment: Annotated[str, OneOf("second", "first")]
    bias_correction: bool

    def check_rate(self, lr: float, where: str) -> None:
        """Raise ``UserError`` if the smaller learning rate is the larger one."""
        require(self.lr_min <= lr, f"{where}.lr_min", f"must be at most lr = {lr}, got {self.lr_min}")


@dataclass(frozen=True)
class RmspropConfig(OptimizerConfig):
    """Settings of RMSprop."""

    alpha: Decay
    eps: PositiveFloat


@dataclass(frozen=True)
class SgdConfig(OptimizerConfig):
    """Settings of gradient descent with momentum."""

    momentum: Decay
    nesterov: bool


SCHEMAS: dict[str, type[OptimizerConfig]] = {
    "adam": AdamConfig,
    "adamw": AdamwConfig,
    "amsgrad": AmsgradConfig,
    "asgd_adam": AsgdConfig,
    "asgd_amsgrad": AsgdConfig,
    "padam": PadamConfig,
    "rmsprop": RmspropConfig,
    "sgd": SgdConfig,
}
NAMES = tuple(SCHEMAS)
