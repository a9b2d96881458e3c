"""What can be set when a network is inferred; the defaults are in ``conf/fate/infer.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from omegaconf import OmegaConf

from perturbrl import config, paths
from perturbrl.bounds import Fraction, NonNegativeInt, OneOf, PositiveFloat, PositiveInt


@dataclass(frozen=True)
class InferConfig:
    """Settings of the inference; ``conf/fate/infer.yaml`` explains each."""

    neighbors: PositiveInt
    components: PositiveInt
    windows: PositiveInt
    alpha: Fraction
    candidates: PositiveInt
    max_regulators: PositiveInt
    form: Annotated[str, OneOf("and", "or", "either")]
    max_lag: NonNegativeInt
    seconds: PositiveFloat
    max_genes: PositiveInt


def settings(**changes: Any) -> InferConfig:
    """Return the settings of ``conf/fate/infer.yaml`` with ``changes``.

    Raises
    ------
    UserError
        A change names no setting, or its value has another type or is out of its bounds.
    """
    node = OmegaConf.merge(OmegaConf.load(paths.conf_dir() / "fate" / "infer.yaml"), changes)
    return config.bind(InferConfig, node, "infer")
