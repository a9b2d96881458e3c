"""What the kinds of split are made of: names, draws, and the draft of a split. Letters: N cells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from perturbrl.config import require
from perturbrl.data.readers.opened import listed
from perturbrl.screens.schema import Condition, Rows, Screen
from perturbrl.screens.split_config import ScreenSplitConfig

EMPTY: Rows = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Draft:
    """Perturbed cells by use, the stratum of each held-out condition, and what is held out whole, controls included."""

    train: Rows
    validation: Rows
    test: Rows
    strata: dict[int, str]
    test_contexts: frozenset[str] = frozenset()
    validation_contexts: frozenset[str] = frozenset()
    test_batches: frozenset[str] = frozenset()
    validation_batches: frozenset[str] = frozenset()
    leaks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class Held:
    """Conditions by use, by their index in the screen; a condition in none of the three is not used."""

    train: list[int]
    validation: dict[int, str] = field(default_factory=dict)
    test: dict[int, str] = field(default_factory=dict)


def drafted(
    screen: Screen,
    held: Held,
    test_contexts: frozenset[str] = frozenset(),
    validation_contexts: frozenset[str] = frozenset(),
    notes: tuple[str, ...] = (),
) -> Draft:
    """Return the cells of the conditions that were held, by use."""

    def cells(conditions: Iterable[int]) -> Rows:
        wanted = np.zeros(len(screen.conditions), dtype=np.bool_)
        wanted[list(conditions)] = True
        return np.flatnonzero(wanted[screen.condition])

    return Draft(
        cells(held.train),
        cells(held.validation),
        cells(held.test),
        held.test | held.validation,
        test_contexts=test_contexts,
        validation_contexts=validation_contexts,
        notes=notes,
    )


def validate_singles(screen: Screen, config: ScreenSplitConfig, held: Held, rng: np.random.Generator) -> None:
    """Move a share of the perturbations that train to validation, in the stratum ``single``."""
    out = draw(names_of(screen, held.train), config.validation_fraction, rng)
    for k in [k for k in held.train if "+".join(screen.conditions[k].targets) in out]:
        held.train.remove(k)
        held.validation[k] = "single"


def validate_cells(screen: Screen, draft: Draft, config: ScreenSplitConfig, rng: np.random.Generator) -> Draft:
    """Move a share of the cells of each condition that trains to validation, in the stratum ``cells``."""
    train, validation = share_cells(screen, draft.train, config.validation_fraction, rng)
    cells = {int(k): "cells" for k in np.unique(screen.condition[validation])}
    return Draft(
        train,
        validation,
        draft.test,
        cells | draft.strata,
        test_batches=draft.test_batches,
        notes=(*draft.notes, "validation holds out cells, not conditions: nothing more could be held out"),
    )


def share_cells(screen: Screen, rows: Rows, fraction: float, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Take a share of the cells of each condition; at least one stays on either side where there are two."""
    keep, out = [EMPTY], [EMPTY]
    for k in np.unique(screen.condition[rows]):
        own = rng.permutation(rows[screen.condition[rows] == k])
        n = _count(len(own), fraction)
        keep.append(own[n:])
        out.append(own[:n])
    return np.concatenate(keep), np.concatenate(out)


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


def perturbed(screen: Screen) -> list[int]:
    """Return the indices of the conditions that are no controls."""
    return [k for k, c in enumerate(screen.conditions) if not c.is_control]


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


def require_enough(found: list[str], least: int, what: str, where: str, screen: Screen) -> None:
    """Raise a UserError if a screen has fewer than ``least`` of what a split holds out."""
    require(len(found) >= least, where, too_few(screen, what, len(found), least))


def too_few(screen: Screen, what: str, found: int, least: int) -> str:
    """Say in a sentence what a screen has too few of."""
    return (
        f"{screen.source} has {found} of what it holds out ({what}), at least {least} needed; choose another split=, "
        "or another conditions= if labels were misread"
    )
