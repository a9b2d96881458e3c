"""Settings of ``env=fate``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from omegaconf import OmegaConf

from perturbrl.bounds import NonNegativeFloat, NonNegativeInt, Number, OneOf, PerRun, PositiveInt, Probability, Seed
from perturbrl.landscape import fate_task, wiring

TIME_LIMITS = ("terminated", "truncated")
OBSERVATIONS = ("state", "counts")


@dataclass(frozen=True)
class FateEnvConfig:
    """Settings of one run; meanings and units stand in conf/env/fate.yaml."""

    name: str
    network: str
    family: Annotated[str, OneOf(*wiring.FAMILIES)]
    n_regulators: PositiveInt
    network_seed: Seed
    inputs: Any
    start: str
    target: str
    stages: list[str]
    dynamics: Annotated[str, OneOf(*fate_task.DYNAMICS)]
    update: Annotated[str, OneOf(*fate_task.UPDATES)]
    noise: NonNegativeFloat
    moves: Annotated[str, OneOf(*fate_task.MOVES)]
    duration: Annotated[str, OneOf(*fate_task.DURATIONS)]
    hold_updates: NonNegativeInt
    between: Annotated[str, OneOf(*fate_task.BETWEEN)]
    n_updates: PositiveInt
    max_perturb: PerRun[PositiveInt]
    n_decisions: PositiveInt
    time_limit: Annotated[str, OneOf(*TIME_LIMITS)]
    controllable: list[str]
    reward: PerRun[float]
    stage_reward: PerRun[float]
    bonus: PerRun[float]
    cost: PerRun[NonNegativeFloat]
    shaping: Annotated[str, OneOf(*fate_task.SHAPINGS)]
    shaping_weight: float
    lure: str | None
    discount: Annotated[float, Number(above=0, most=1)]
    observation: Annotated[str, OneOf(*OBSERVATIONS)]
    molecules: PositiveInt
    capture: Probability

    @classmethod
    def complete(cls, node: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings with absolute paths of files: a run finds them from another working directory."""
        plain: Any = OmegaConf.to_container(OmegaConf.create(dict(node)), resolve=True)
        return {**plain, **{key: _absolute(plain[key]) for key in ("network", "inputs") if key in plain}}


def _absolute(value: Any) -> Any:
    """Return the absolute path of a file that exists; anything else as it is."""
    is_file = isinstance(value, str) and bool(Path(value).suffix) and Path(value).expanduser().is_file()
    return os.path.realpath(os.path.expanduser(value)) if is_file else value
