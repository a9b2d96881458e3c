"""The schemas of ``conf/split/*.yaml`` for screens, one for each kind of split; the YAML says what each key means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from perturbrl.bounds import Fraction, NonNegativeInt, OneOf, Seed
from perturbrl.config import bind, choice
from perturbrl.data.split import KINDS as CELL_KINDS
from perturbrl.data.split import SplitConfig

DIRECTIONS = ("extrapolation", "interpolation")


@dataclass(frozen=True)
class ScreenSplitConfig:
    """What every kind has."""

    kind: str
    seed: Seed
    file: str | None
    validation_fraction: Fraction


@dataclass(frozen=True)
class FractionSplit(ScreenSplitConfig):
    """Shares of genes, combinations or cells: ``unseen_single``, ``additive`` and ``iid_cells``."""

    test_fraction: Fraction


@dataclass(frozen=True)
class CombinationSplit(FractionSplit):
    """Shares of genes, and of the combinations of the genes left."""

    combination_fraction: Fraction


@dataclass(frozen=True)
class ContextSplit(ScreenSplitConfig):
    """One context out."""

    held_out: str | None
    few_shot: NonNegativeInt


@dataclass(frozen=True)
class DoseSplit(ScreenSplitConfig):
    """One dose of each drug out."""

    direction: Annotated[str, OneOf(*DIRECTIONS)]


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
