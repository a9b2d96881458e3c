"""Which conditions and cells of a screen are for training, for validation and for the test. Letters: N cells."""

from __future__ import annotations

import dataclasses

import numpy as np

from perturbrl import registry
from perturbrl.config import require
from perturbrl.rng import numpy_generator
from perturbrl.screens import leaks
from perturbrl.screens.schema import Rows, Screen, ScreenSplit
from perturbrl.screens.split_files import digest, read_split
from perturbrl.screens.splits.builder import ScreenSplitConfig, SplitBuilder

CONTROL_SHARES = (0.5, 0.25)  # train and validation; the rest is for the test, as in PerturBench


def split_screen(screen: Screen, config: ScreenSplitConfig) -> ScreenSplit:
    """Split a screen by its conditions (or read the split from ``split.file``), and check it for leaks.

    Control cells are shared out 50 / 25 / 25 % within each context and batch, but those of a context or batch that is
    held out whole never train.

    Raises
    ------
    UserError
        Nothing to hold out (no combination, one context, ...); a leak; a file that does
        not fit the screen.
    """
    if config.file is not None:
        split = read_split(config.file, screen)
        require(
            split.kind == config.kind,
            f"split.file={config.file}",
            f"it holds a split of the kind {split.kind}, but split.kind is {config.kind}; choose split={split.kind}",
        )
    else:
        split = draw_split(screen, config)
    leaks.check_split(screen, split)
    return split


def draw_split(screen: Screen, config: ScreenSplitConfig) -> ScreenSplit:
    """Draw a split, unchecked; the same seed gives the same split."""
    rng = numpy_generator(config.seed, "split", config.kind)
    builder: SplitBuilder = registry.splits[config.kind].build(config, screen, rng)
    controls = _controls(screen, builder, config.seed)
    test, notes = builder.cells("test"), builder.notes
    n_test = len(np.unique(screen.condition[test]))
    if n_test < 5:
        notes += (f"{n_test} test condition{'s' if n_test > 1 else ''} only: ranks among conditions say little",)
    split = ScreenSplit(
        kind=config.kind,
        seed=config.seed,
        train=builder.cells("train"),
        validation=builder.cells("validation"),
        test=test,
        control_train=controls[0],
        control_validation=controls[1],
        control_test=controls[2],
        strata=builder.strata,
        sha256="",
        leaks=builder.leaks,
        notes=notes,
    )
    return dataclasses.replace(split, sha256=digest(split, screen))


def _controls(screen: Screen, builder: SplitBuilder, seed: int) -> tuple[Rows, Rows, Rows]:
    """Share out the control cells of each (context, batch); whoever is held out whole keeps its own for that use."""
    parts: tuple[list[Rows], list[Rows], list[Rows]] = ([], [], [])
    rows = np.flatnonzero(screen.is_control)
    rng = numpy_generator(seed, "split", "controls")
    groups = screen.condition[rows] * len(screen.batches) + screen.batch[rows]
    for group in np.unique(groups):
        own = rng.permutation(rows[groups == group])
        context = screen.conditions[screen.condition[own[0]]].context
        batch = screen.batches[screen.batch[own[0]]]
        if batch in builder.test_batches or batch in builder.validation_batches:
            parts[2 if batch in builder.test_batches else 1].append(own)
            continue
        first, second = (round(s * len(own)) for s in (CONTROL_SHARES[0], sum(CONTROL_SHARES)))
        shares = [own[:first], own[first:second], own[second:]]
        if builder.test_batches:
            # What is tested, or validated on, lies in other batches, and is compared with the controls there.
            shares = [np.concatenate([shares[0], shares[2]]), shares[1], own[:0]]
            if builder.validation_batches:
                shares = [own, own[:0], own[:0]]
        if context in builder.test_contexts:
            shares = [own[:0], shares[1], np.concatenate([shares[0], shares[2]])]
        if context in builder.validation_contexts:
            shares = [own[:0], np.concatenate([shares[0], shares[1]]), shares[2]]
        for part, share in zip(parts, shares, strict=True):
            part.append(share)
    empty = np.zeros(0, dtype=np.int64)
    train, validation, test = (np.sort(np.concatenate([empty, *p])).astype(np.int64) for p in parts)
    return train, validation, test
