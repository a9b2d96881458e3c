"""Splits by the setting of a perturbation: its context, dose or batch; and by nothing but the cell."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from perturbrl.bounds import NonNegativeInt, OneOf
from perturbrl.data.readers.opened import listed
from perturbrl.errors import UserError
from perturbrl.registry import splits
from perturbrl.screens.leaks import LEAST_CELLS
from perturbrl.screens.schema import Rows, Screen
from perturbrl.screens.splits.builder import (
    FractionSplit,
    ScreenSplitConfig,
    SplitBuilder,
    Use,
    chosen,
    names_of,
    require_enough,
    require_possible,
    share_cells,
)

DIRECTIONS = ("extrapolation", "interpolation")


@dataclass(frozen=True)
class ContextSplit(ScreenSplitConfig):
    """One context is held out."""

    held_out: str | None
    few_shot: NonNegativeInt


@dataclass(frozen=True)
class DoseSplit(ScreenSplitConfig):
    """One dose of each drug is held out."""

    direction: Annotated[str, OneOf(*DIRECTIONS)]


@dataclass(frozen=True)
class BatchSplit(ScreenSplitConfig):
    """One batch is held out."""

    same_conditions = True
    unseen_batches = True

    held_out: str | None


@dataclass(frozen=True)
class CellSplit(FractionSplit):
    """A share of the cells of every condition is held out."""

    same_conditions = True


@splits.register("unseen_context", ContextSplit)
def unseen_context(config: ContextSplit, screen: Screen, rng: np.random.Generator) -> SplitBuilder:
    """Hold out a context: all its cells (zero-shot), or all but its controls and ``few_shot`` perturbations.

    The test asks for perturbations that training has seen in other contexts; others of that context are not used.
    Validation takes another context where there is a third, else perturbations of those that train, else their cells.
    """
    builder = SplitBuilder(screen)
    contexts = sorted({c.context for c in screen.conditions})
    what = f"contexts (values of conditions.context={screen.columns.get('context', 'null')})"
    require_enough([c for c in contexts if c], 2, what, "split=unseen_context", screen)
    test = chosen(config.held_out, contexts, rng, "context")
    rest = [c for c in contexts if c != test]
    validation = rest[int(rng.integers(len(rest)))] if len(rest) > 1 else None
    trained = {
        screen.conditions[k].targets for k in builder.train if screen.conditions[k].context not in (test, validation)
    }
    n_unused = 0
    uses: tuple[tuple[Use, str | None], ...] = (("test", test), ("validation", validation))
    for use, context in uses:
        conditions = [k for k in builder.train if screen.conditions[k].context == context]
        shots = set(rng.permutation(conditions)[: config.few_shot].tolist())
        others = [k for k in conditions if k not in shots]
        known = [k for k in others if screen.conditions[k].targets in trained]
        builder.leave_out([k for k in others if k not in known])
        builder.hold_out(known, use, "context")
        n_unused += len(others) - len(known)
    if validation is None and len(names_of(screen, builder.train)) > 1:
        builder.validate_on_perturbations(config, rng)
    elif validation is None:  # one perturbation, two contexts: the smallest screen that there is
        builder.validate_on_cells(config, rng)
    if config.few_shot == 0:
        builder.test_contexts = frozenset({test})
        builder.validation_contexts = frozenset({validation} if validation is not None else ())
    unused = f"{n_unused} conditions of held-out contexts are not used: no other context has them"
    builder.notes += (unused,) if n_unused else ()
    return builder


@splits.register("unseen_dose", DoseSplit)
def unseen_dose(config: DoseSplit, screen: Screen, rng: np.random.Generator) -> SplitBuilder:
    """Hold out a dose of each drug and context: the highest (extrapolation), or the middle one (interpolation).

    Of two doses the lower is the middle, between none and the higher. Validation takes a dose of those left where a
    drug has two, else cells of the conditions that train.
    """
    builder = SplitBuilder(screen)
    uses: tuple[Use, ...] = ("test", "validation")
    for use in uses:
        drugs: dict[tuple[tuple[str, ...], str], list[int]] = defaultdict(list)
        for k in builder.train:
            condition = screen.conditions[k]
            if condition.dose is not None:
                drugs[condition.targets, condition.context].append(k)
        several = [doses for doses in drugs.values() if len(doses) > 1]
        enough = bool(several or builder.test)
        column = screen.columns.get("dose", "null")
        what = f"needs a perturbation with two doses (values of conditions.dose={column}); {screen.source} has none"
        require_possible(enough, "split=unseen_dose", what)
        for doses in several:
            doses.sort(key=lambda k: float(screen.conditions[k].dose or 0.0))
            k = doses[-1] if config.direction == "extrapolation" else doses[(len(doses) - 1) // 2]
            builder.hold_out([k], use, "dose")
    if not builder.validation:
        builder.validate_on_cells(config, rng)
    return builder


@splits.register("unseen_batch", BatchSplit)
def unseen_batch(config: BatchSplit, screen: Screen, rng: np.random.Generator) -> SplitBuilder:
    """Hold out a batch (a replicate): its controls, and its cells of perturbations that the other batches trained on.

    Validation takes another batch where two remain for training, else cells of the conditions that train.
    """
    builder = SplitBuilder(screen)
    batches = list(screen.batches)
    what = f"batches (values of conditions.batch={screen.columns.get('batch', 'null')})"
    require_enough([b for b in batches if b], 2, what, "split=unseen_batch", screen)
    _require_both_arms(screen, config.held_out)
    test = chosen(config.held_out, batches, rng, "batch")
    rest = [b for b in batches if b != test]
    validation = rest[int(rng.integers(len(rest)))] if len(rest) > 2 else None
    names = np.array(batches)[screen.batch]
    rows = np.flatnonzero(~screen.is_control)
    train = rows[(names[rows] != test) & (names[rows] != validation)]
    trained = np.bincount(screen.condition[train], minlength=len(screen.conditions)) > 0
    too_small: set[int] = set()

    def cells(batch: str) -> Rows:
        known = rows[(names[rows] == batch) & trained[screen.condition[rows]]]
        counts = np.bincount(screen.condition[known], minlength=len(trained))
        too_small.update(np.flatnonzero((counts > 0) & (counts < LEAST_CELLS)).tolist())
        return np.asarray(known[counts[screen.condition[known]] >= LEAST_CELLS], dtype=np.int64)

    builder.rows["train"] = train
    builder.test_batches = frozenset({test})
    builder.hold_out_cells(cells(test), "test", "batch")
    if validation is None:
        builder.validate_on_cells(config, rng)
    else:
        builder.validation_batches = frozenset({validation})
        builder.hold_out_cells(cells(validation), "validation", "batch")
    lost = f"{len(too_small)} conditions have fewer than {LEAST_CELLS} cells in a held-out batch and are not used there"
    builder.notes = ((lost,) if too_small else ()) + builder.notes
    return builder


def _require_both_arms(screen: Screen, wanted: str | None) -> None:
    """Refuse to hold out a batch that is all control or all perturbed: it has nothing to be compared with."""
    arms = {b: set(screen.is_control[screen.batch == k].tolist()) for k, b in enumerate(screen.batches)}
    one_armed = [
        f"{b} holds {'controls' if True in a else 'perturbed cells'} only" for b, a in arms.items() if len(a) < 2
    ]
    both = [b for b, a in arms.items() if len(a) == 2]
    what = f"no batch holds both controls and perturbed cells ({listed(one_armed, 4)})"
    require_possible(bool(both), "split=unseen_batch", what)
    if wanted in arms and wanted not in both:
        raise UserError(f"split.held_out={wanted}: the batch lacks controls or perturbed cells; choose {listed(both)}")


@splits.register("iid_cells", CellSplit)
def iid_cells(config: CellSplit, screen: Screen, rng: np.random.Generator) -> SplitBuilder:
    """Hold out cells of every condition: a sanity check, for training has seen each condition."""
    builder = SplitBuilder(screen)
    train, test = share_cells(screen, builder.cells("train"), config.test_fraction, rng)
    builder.rows["train"], validation = share_cells(screen, train, config.validation_fraction, rng)
    builder.hold_out_cells(test, "test", "cells")
    builder.hold_out_cells(validation, "validation", "cells")
    builder.leaks = ("training has cells of every test condition: a sanity check, not prediction",)
    return builder
