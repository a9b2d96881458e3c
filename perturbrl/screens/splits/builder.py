"""What the kinds of split are made of: their config, draws, and the builder of a split. Letters: N cells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from perturbrl.bounds import Fraction, Seed
from perturbrl.config import require
from perturbrl.data.readers.opened import listed
from perturbrl.errors import UserError
from perturbrl.screens.schema import Condition, Rows, Screen

EMPTY: Rows = np.zeros(0, dtype=np.int64)
Use = Literal["test", "validation"]


class ImpossibleSplit(UserError):
    """A screen lacks what a split holds out; another split, or another column, may do."""


@dataclass(frozen=True)
class ScreenSplitConfig:
    """What every kind has; ``conf/split/*.yaml`` says what each key means.

    The class variables say what the checks for leaks (``screens.leaks``) may expect of a kind: that training may have
    cells of test conditions, that genes or batches of the test do not occur in training.
    """

    same_conditions: ClassVar[bool] = False
    unseen_genes: ClassVar[bool] = False
    unseen_batches: ClassVar[bool] = False

    kind: str
    seed: Seed
    file: str | None
    validation_fraction: Fraction


@dataclass(frozen=True)
class FractionSplit(ScreenSplitConfig):
    """A share of genes, combinations or cells is held out."""

    test_fraction: Fraction


@dataclass
class SplitBuilder:
    """Which perturbed cells of a screen have which use, while a split is drawn.

    ``train`` holds indices of conditions, at first of all that are no controls; ``validation`` and ``test`` map a
    held-out condition to its stratum. A condition in none of the three is not used. ``rows`` maps a use to its cells
    where they are not all cells of its conditions. ``*_contexts`` and ``*_batches`` are held out whole, controls
    included. ``leaks`` and ``notes`` are sentences for the user.
    """

    screen: Screen
    train: list[int] = field(init=False)
    validation: dict[int, str] = field(default_factory=dict)
    test: dict[int, str] = field(default_factory=dict)
    rows: dict[str, Rows] = field(default_factory=dict)
    test_contexts: frozenset[str] = frozenset()
    validation_contexts: frozenset[str] = frozenset()
    test_batches: frozenset[str] = frozenset()
    validation_batches: frozenset[str] = frozenset()
    leaks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.train = [k for k, c in enumerate(self.screen.conditions) if not c.is_control]

    @property
    def strata(self) -> dict[int, str]:
        """The stratum of each held-out condition."""
        return dict(sorted({**self.validation, **self.test}.items()))

    def hold_out(self, conditions: Iterable[int], use: Use, stratum: str) -> None:
        """Move training conditions to the test or to validation."""
        for k in conditions:
            self.train.remove(k)
            (self.test if use == "test" else self.validation)[k] = stratum

    def leave_out(self, conditions: Iterable[int]) -> None:
        """Use training conditions for nothing."""
        for k in conditions:
            self.train.remove(k)

    def hold_out_cells(self, rows: Rows, use: Use, stratum: str) -> None:
        """Make the cells ``rows`` the test or validation; who calls it says in ``rows`` which cells train."""
        self.rows[use] = rows
        (self.test if use == "test" else self.validation).update(
            {int(k): stratum for k in np.unique(self.screen.condition[rows])}
        )

    def cells(self, use: str) -> Rows:
        """Return the rows of the perturbed cells of a use (``train``, ``validation`` or ``test``), sorted."""
        if use in self.rows:
            return np.sort(self.rows[use])
        conditions = {"train": self.train, "validation": self.validation, "test": self.test}[use]
        return np.flatnonzero(np.isin(self.screen.condition, list(conditions)))

    def validate_on_perturbations(self, config: ScreenSplitConfig, rng: np.random.Generator) -> None:
        """Move a share of the perturbations that train to validation, in the stratum ``single``."""
        names = draw(names_of(self.screen, self.train), config.validation_fraction, rng)
        held_out = [k for k in self.train if "+".join(self.screen.conditions[k].targets) in names]
        self.hold_out(held_out, "validation", "single")

    def validate_on_cells(self, config: ScreenSplitConfig, rng: np.random.Generator) -> None:
        """Move a share of the cells of each condition that trains to validation, in the stratum ``cells``."""
        self.rows["train"], cells = share_cells(self.screen, self.cells("train"), config.validation_fraction, rng)
        self.hold_out_cells(cells, "validation", "cells")
        self.notes += ("validation holds out cells, not conditions: nothing more could be held out",)


def share_cells(screen: Screen, rows: Rows, fraction: float, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Take a share of the cells of each condition; at least one stays on either side where there are two."""
    rest, share = [EMPTY], [EMPTY]
    for k in np.unique(screen.condition[rows]):
        cells = rng.permutation(rows[screen.condition[rows] == k])
        n = _count(len(cells), fraction)
        rest.append(cells[n:])
        share.append(cells[:n])
    return np.concatenate(rest), np.concatenate(share)


def draw(names: list[str], fraction: float, rng: np.random.Generator) -> set[str]:
    """Draw a share of the names, at least one; all but one at most."""
    return set(rng.permutation(sorted(names))[: _count(len(names), fraction)].tolist())


def _count(n: int, fraction: float) -> int:
    return min(max(1, round(fraction * n)), n - 1) if n > 1 else 0


def chosen(wanted: str | None, names: list[str], rng: np.random.Generator, what: str) -> str:
    """Return the name that is wanted if there is one of that name, else draw one."""
    if wanted is None:
        return names[int(rng.integers(len(names)))]
    require(wanted in names, "split.held_out", f"{wanted!r} is no {what} of this screen; choose {listed(names, 20)}")
    return wanted


def genes_of(screen: Screen, condition: int) -> set[str]:
    """Return the genes that a condition perturbs."""
    return {screen.gene_of(t) for t in screen.conditions[condition].targets}


def genes_among(screen: Screen, conditions: Iterable[int]) -> list[str]:
    """Return the genes that some of the conditions perturb, sorted."""
    return sorted(set().union(*(genes_of(screen, k) for k in conditions)))


def names_of(screen: Screen, conditions: Iterable[int]) -> list[str]:
    """Return the perturbations of conditions, whatever the context or dose, sorted."""
    return sorted({"+".join(screen.conditions[k].targets) for k in conditions})


def combined(screen: Screen) -> list[str]:
    """Return the perturbations of two or more targets, sorted."""
    return names_of(screen, (k for k, c in enumerate(screen.conditions) if is_combination(c)))


def is_combination(condition: Condition) -> bool:
    """Say whether a condition has two or more targets."""
    return len(condition.targets) > 1


def require_enough(names: list[str], least: int, what: str, where: str, screen: Screen) -> None:
    """Raise ``ImpossibleSplit`` if a screen has fewer than ``least`` of what a split holds out."""
    have = f"{len(names)}: {listed(names)}" if names else "none"
    require_possible(len(names) >= least, where, f"needs {least} or more {what}; {screen.source} has {have}")


def require_possible(condition: bool, where: str, message: str) -> None:
    """Raise ``ImpossibleSplit('where: message')`` unless ``condition`` holds."""
    if not condition:
        raise ImpossibleSplit(f"{where}: {message}")
