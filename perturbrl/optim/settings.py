"""The settings of the optimisers; meanings, equations and defaults stand in ``conf/agent/optimizer``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from perturbrl.bounds import Number, PositiveFloat
from perturbrl.errors import choice

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


@dataclass(frozen=True)
class AdamConfig(OptimizerConfig):
    """Settings of Adam."""

    beta1: Decay
    beta2: Decay
    eps: PositiveFloat


SCHEMAS: dict[str, type[OptimizerConfig]] = {"adam": AdamConfig}
