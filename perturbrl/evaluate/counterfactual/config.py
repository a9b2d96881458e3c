"""Settings of ``protocol=counterfactual``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl.bounds import Episodes, Fraction, NonNegativeInt, NotEmpty, Number, NumberOrAll, OneOf, PositiveInt, Seed
from perturbrl.effects.observed import ScoreConfig
from perturbrl.metrics_info import HELD_OUT


@dataclass(frozen=True)
class ClaimsConfig:
    """What the report may claim, declared before the runs."""

    metric: Annotated[str, OneOf(*HELD_OUT)]
    agents: Annotated[list[str], NotEmpty("[ppo]")]
    alpha: Fraction


@dataclass(frozen=True)
class CounterfactualProtocolConfig:
    """``n_cells``: a number, or ``all`` or null for every control cell. See conf/protocol/counterfactual.yaml."""

    name: str
    n_cells: Annotated[int | str | None, NumberOrAll(1)]
    curve_cells: PositiveInt
    episodes: Episodes
    success: Annotated[float, Number(above=0, most=1)]
    shown: NonNegativeInt
    truth_cells: NonNegativeInt
    export: bool
    seed: Seed
    claims: ClaimsConfig
    score: ScoreConfig

    @property
    def most_cells(self) -> int | None:
        """The number of control cells; None: all."""
        return self.n_cells if isinstance(self.n_cells, int) else None
