"""The kinds of split: what each holds out of a screen, for the test and, by the same rule, for validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from perturbrl.config import require
from perturbrl.screens.draft import (
    Draft,
    Held,
    chosen,
    combined,
    drafted,
    draw,
    genes_among,
    genes_of,
    is_combination,
    names_of,
    perturbed,
    require_enough,
    share_cells,
    too_few,
    validate_cells,
    validate_singles,
)
from perturbrl.screens.leaks import LEAST_CELLS
from perturbrl.screens.schema import Condition, Rows, Screen
from perturbrl.screens.split_config import BatchSplit, CombinationSplit, ContextSplit, DoseSplit, FractionSplit


def unseen_single(screen: Screen, config: FractionSplit, rng: np.random.Generator) -> Draft:
    """Hold out genes: single perturbations of them are the test, combinations with them are not used at all."""
    held = Held(perturbed(screen))
    genes = genes_among(screen, (k for k in held.train if len(screen.conditions[k].targets) == 1))
    require_enough(genes, 3, "genes perturbed alone", "split=unseen_single", screen)
    test = draw(genes, config.test_fraction, rng)
    validation = draw([g for g in genes if g not in test], config.validation_fraction, rng)
    for out, into in ((test, held.test), (validation, held.validation)):
        for k in list(held.train):
            own = genes_of(screen, k)
            if own & out:
                held.train.remove(k)
                if len(screen.conditions[k].targets) == 1:
                    into[k] = "single"
    unused = len(perturbed(screen)) - len(held.train) - len(held.test) - len(held.validation)
    notes = (f"{unused} combinations with a held-out gene are not used",) if unused else ()
    return drafted(screen, held, notes=notes)


def combinations(screen: Screen, config: CombinationSplit, rng: np.random.Generator) -> Draft:
    """Hold out genes and the combinations with them, and a share of the combinations of seen genes (as GEARS does).

    Strata: ``single`` for a held-out gene alone, ``seen0``, ``seen1``, ``seen2``, ... by how many members are genes of
    training conditions, so a gene that validation holds out is not seen in the test either. Roohani, Huang and
    Leskovec, Nature Biotechnology 42, 927 (2024).
    """
    held = Held(perturbed(screen))
    require_enough(combined(screen), 2, "combinations", "split=combinations", screen)
    genes = genes_among(screen, held.train)
    require_enough(genes, 3, "genes", "split=combinations", screen)
    rounds = ((config.test_fraction, held.test), (config.validation_fraction, held.validation))
    for fraction, into in rounds:
        out = draw(genes, fraction, rng)
        genes = [g for g in genes if g not in out]
        intact = [k for k in held.train if len(screen.conditions[k].targets) > 1 and not genes_of(screen, k) & out]
        extra = draw(names_of(screen, intact), config.combination_fraction, rng)
        for k in list(held.train):
            if genes_of(screen, k) & out or "+".join(screen.conditions[k].targets) in extra:
                held.train.remove(k)
                into[k] = "single"
    seen = set(genes_among(screen, held.train))
    for into in (held.test, held.validation):
        for k in filter(lambda k: is_combination(screen.conditions[k]), into):
            into[k] = f"seen{sum(screen.gene_of(t) in seen for t in screen.conditions[k].targets)}"
    return drafted(screen, held)


def additive(screen: Screen, config: FractionSplit, rng: np.random.Generator) -> Draft:
    """Train on every single perturbation and hold out combinations of them (Ahlmann-Eltze, Huber and Anders 2025).

    Combinations with a member that was not measured alone in the same context train: what is held out is all ``seen2``
    (``seen3``, ...), so that the sum of single effects is always known.
    """
    held = Held(perturbed(screen))
    every = set(screen.conditions)

    def alone(k: int) -> bool:
        c = screen.conditions[k]
        return is_combination(c) and all(Condition((t,), c.context, c.dose) in every for t in c.targets)

    pairs = names_of(screen, filter(alone, held.train))
    require_enough(pairs, 3, "combinations of targets that were also measured alone", "split=additive", screen)
    for fraction, into in ((config.test_fraction, held.test), (config.validation_fraction, held.validation)):
        out = draw(pairs, fraction, rng)
        pairs = [p for p in pairs if p not in out]
        for k in [k for k in held.train if alone(k) and "+".join(screen.conditions[k].targets) in out]:
            held.train.remove(k)
            into[k] = f"seen{len(screen.conditions[k].targets)}"
    return drafted(screen, held)


def unseen_context(screen: Screen, config: ContextSplit, rng: np.random.Generator) -> Draft:
    """Hold out a context: all its cells (zero-shot), or all but its controls and ``few_shot`` perturbations.

    The test asks for perturbations that training has seen in other contexts; others of that context are not used.
    Validation takes another context where there is a third, else perturbations of those that train.
    """
    held = Held(perturbed(screen))
    contexts = sorted({c.context for c in screen.conditions})
    require_enough(contexts, 2, "contexts", "split=unseen_context", screen)
    test = chosen(config.held_out, contexts, rng, "context")
    rest = [c for c in contexts if c != test]
    validation = rest[int(rng.integers(len(rest)))] if len(rest) > 1 else None
    trained = {
        screen.conditions[k].targets for k in held.train if screen.conditions[k].context not in (test, validation)
    }
    unused = 0
    for context, into in ((test, held.test), (validation, held.validation)):
        own = [k for k in held.train if screen.conditions[k].context == context]
        shots = set(rng.permutation(own)[: config.few_shot].tolist())
        for k in own:
            if k in shots:
                continue
            held.train.remove(k)
            if screen.conditions[k].targets in trained:
                into[k] = "context"
            else:
                unused += 1
    if validation is None:
        validate_singles(screen, config, held, rng)
    whole = config.few_shot == 0
    notes = (f"{unused} conditions of held-out contexts are not used: no other context has them",) if unused else ()
    return drafted(
        screen,
        held,
        test_contexts=frozenset({test} if whole else ()),
        validation_contexts=frozenset({validation} if whole and validation is not None else ()),
        notes=notes,
    )


def unseen_dose(screen: Screen, config: DoseSplit, rng: np.random.Generator) -> Draft:
    """Hold out a dose of each drug and context: the highest (extrapolation), or the middle one (interpolation).

    Of two doses the lower is the middle, between none and the higher. Validation takes a dose of those left where a
    drug has two, else cells of the conditions that train.
    """
    held = Held(perturbed(screen))
    out_of_doses = True
    for into in (held.test, held.validation):
        drugs: dict[tuple[tuple[str, ...], str], list[int]] = {}
        for k in held.train:
            condition = screen.conditions[k]
            if condition.dose is not None:
                drugs.setdefault((condition.targets, condition.context), []).append(k)
        several = [doses for doses in drugs.values() if len(doses) > 1]
        require(bool(several or held.test), "split=unseen_dose", too_few(screen, "drugs with two doses", 0, 1))
        out_of_doses = not several
        for doses in several:
            doses.sort(key=lambda k: float(screen.conditions[k].dose or 0.0))
            k = doses[-1] if config.direction == "extrapolation" else doses[(len(doses) - 1) // 2]
            held.train.remove(k)
            into[k] = "dose"
    draft = drafted(screen, held)
    return validate_cells(screen, draft, config, rng) if out_of_doses else draft


def unseen_batch(screen: Screen, config: BatchSplit, rng: np.random.Generator) -> Draft:
    """Hold out a batch (a replicate): its controls, and its cells of perturbations that the other batches trained on.

    Validation takes another batch where two remain for training, else cells of the conditions that train.
    """
    batches = list(screen.batches)
    require_enough(batches, 2, "batches", "split=unseen_batch", screen)
    test = chosen(config.held_out, batches, rng, "batch")
    rest = [b for b in batches if b != test]
    validation = rest[int(rng.integers(len(rest)))] if len(rest) > 2 else None
    names = np.array(batches)[screen.batch]
    rows = np.flatnonzero(~screen.is_control)
    train = rows[(names[rows] != test) & (names[rows] != validation)]
    known = np.bincount(screen.condition[train], minlength=len(screen.conditions)) > 0
    few: set[int] = set()

    def cells(batch: str | None) -> Rows:
        own = rows[(names[rows] == batch) & known[screen.condition[rows]]]
        counts = np.bincount(screen.condition[own], minlength=len(known))
        few.update(np.flatnonzero((counts > 0) & (counts < LEAST_CELLS)).tolist())
        return np.asarray(own[counts[screen.condition[own]] >= LEAST_CELLS], dtype=np.int64)

    parts = [cells(test), cells(validation)]
    strata = {int(k): "batch" for part in parts for k in np.unique(screen.condition[part])}
    lost = f"{len(few)} conditions have fewer than {LEAST_CELLS} cells in a held-out batch and are not used there"
    draft = Draft(
        train,
        parts[1],
        parts[0],
        strata,
        test_batches=frozenset({test}),
        validation_batches=frozenset({validation} if validation is not None else ()),
        notes=(lost,) if few else (),
    )
    return draft if validation is not None else validate_cells(screen, draft, config, rng)


def iid_cells(screen: Screen, config: FractionSplit, rng: np.random.Generator) -> Draft:
    """Hold out cells of every condition: a sanity check, for training has seen each condition."""
    train, test = share_cells(screen, np.flatnonzero(~screen.is_control), config.test_fraction, rng)
    train, validation = share_cells(screen, train, config.validation_fraction, rng)
    strata = {int(k): "cells" for k in np.unique(screen.condition[np.concatenate([test, validation])])}
    leak = "training has cells of every test condition: a sanity check, not prediction"
    return Draft(train, validation, test, strata, leaks=(leak,))


KINDS: dict[str, Callable[[Screen, Any, np.random.Generator], Draft]] = {
    "unseen_single": unseen_single,
    "combinations": combinations,
    "additive": additive,
    "unseen_context": unseen_context,
    "unseen_dose": unseen_dose,
    "unseen_batch": unseen_batch,
    "iid_cells": iid_cells,
}
