"""Settings of ``protocol=fate``."""

from __future__ import annotations

from dataclasses import dataclass

from perturbrl.bounds import Episodes, NonNegativeInt, PositiveInt, Seed


@dataclass(frozen=True)
class FateProtocolConfig:
    """Meanings stand in conf/protocol/fate.yaml."""

    name: str
    simulations: Episodes
    episodes: Episodes
    max_steps: PositiveInt
    exact_genes: NonNegativeInt
    seed: Seed
