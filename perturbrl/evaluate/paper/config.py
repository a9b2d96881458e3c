"""Settings of ``protocol=paper``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl.bounds import Episodes, Number, NumberOrAll, PositiveInt, Seed


@dataclass(frozen=True)
class PaperProtocolConfig:
    """``n_cells``: a number, or ``all`` or null for every test cell. Other keys: see conf/protocol/paper.yaml."""

    name: str
    n_cells: Annotated[int | str | None, NumberOrAll(2)]
    clip: Annotated[float, Number(above=0, finite=False)]
    discrete_step: float
    return_episodes: Episodes
    search_episodes: Episodes
    max_steps: PositiveInt
    seed: Seed
