"""The schemas of ``conf/split/*.yaml`` for screens, one for each kind of split; the YAML says what each key means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from perturbrl.config import bind, choice, require
from perturbrl.data.split import KINDS as CELL_KINDS
from perturbrl.data.split import SplitConfig

DIRECTIONS = ("extrapolation", "interpolation")


@dataclass(frozen=True)
class ScreenSplitConfig:
    """What every kind has."""

    kind: str
    seed: int
    file: str | None
    validation_fraction: float

    def __post_init__(self) -> None:
        for key in (f.name for f in fields(self) if f.name.endswith("_fraction")):
            value = getattr(self, key)
            require(0 < value < 1, f"split.{key}", f"{value} must lie between 0 and 1, both excluded")
        require(self.seed >= 0, "split.seed", f"{self.seed} must be 0 or more")


@dataclass(frozen=True)
class FractionSplit(ScreenSplitConfig):
    """Shares of genes, combinations or cells: ``unseen_single``, ``additive`` and ``iid_cells``."""

    test_fraction: float


@dataclass(frozen=True)
class CombinationSplit(FractionSplit):
    """Shares of genes, and of the combinations of the genes left."""

    combination_fraction: float


@dataclass(frozen=True)
class ContextSplit(ScreenSplitConfig):
    """One context out."""

    held_out: str | None
    few_shot: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.few_shot >= 0, "split.few_shot", f"{self.few_shot} must be 0 or more")


@dataclass(frozen=True)
class DoseSplit(ScreenSplitConfig):
    """One dose of each drug out."""

    direction: str

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self.direction, DIRECTIONS, "split.direction")


@dataclass(frozen=True)
class BatchSplit(ScreenSplitConfig):
    """One batch out."""

    held_out: str | None


SCHEMAS: Mapping[str, type[ScreenSplitConfig]] = {
    "unseen_single": FractionSplit,
    "combinations": CombinationSplit,
    "additive": FractionSplit,
    "unseen_context": ContextSplit,
    "unseen_dose": DoseSplit,
    "unseen_batch": BatchSplit,
    "iid_cells": FractionSplit,
}


def bind_split(node: Any) -> SplitConfig | ScreenSplitConfig:
    """Bind a ``split`` group to the schema of its kind: of cells (``SplitConfig``), or of a screen.

    Raises
    ------
    UserError
        Unknown kind or key, a value that is missing, of the wrong type or out of its range.
    """
    kind = choice(str(node.get("kind")), {**CELL_KINDS, **SCHEMAS}, "split.kind")
    schema: type[SplitConfig] | type[ScreenSplitConfig] = SCHEMAS.get(kind, SplitConfig)
    return bind(schema, node, "split")
