"""What can be set of a plan; the defaults are in ``conf/fate/plan.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from omegaconf import OmegaConf

from perturbrl import config, paths
from perturbrl.bounds import Fraction, NonNegativeFloat, NonNegativeInt, OneOf, PositiveInt, Probability

METHODS = ("auto", "exact", "search")
DURATIONS = ("flip", "held", "permanent")
THRESHOLDS = ("two_means", "network")


@dataclass(frozen=True)
class PlanConfig:
    """Settings of a plan; ``conf/fate/plan.yaml`` explains each."""

    method: Annotated[str, OneOf(*METHODS)]
    duration: Annotated[str, OneOf(*DURATIONS)]
    exact_genes: PositiveInt
    max_sets: PositiveInt
    beam: PositiveInt
    runs: PositiveInt
    screen_runs: PositiveInt
    sweeps: PositiveInt
    cost: NonNegativeFloat
    top: PositiveInt
    noise: list[Probability]
    stability_runs: NonNegativeInt
    max_edges: PositiveInt
    still_works: Probability
    level: Fraction
    threshold: Annotated[str, OneOf(*THRESHOLDS)]
    neighbors: PositiveInt
    components: PositiveInt
    least_cells: PositiveInt
    few_cells: PositiveInt
    picture_cells: NonNegativeInt
    seed: NonNegativeInt


def settings(changes: Any = None) -> PlanConfig:
    """Return the settings of ``conf/fate/plan.yaml`` with ``changes``, a mapping.

    Raises
    ------
    UserError
        A change names no setting, or its value has another type or is out of its bounds.
    """
    node = OmegaConf.merge(OmegaConf.load(paths.conf_dir() / "fate" / "plan.yaml"), changes or {})
    return config.bind(PlanConfig, node, "plan")
