"""Training and test cells of a run. Letters: N cells."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from perturbrl.bounds import Fraction, Number
from perturbrl.config import choice, require
from perturbrl.data.schema import RawCells

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class SplitConfig:
    """The schema of ``conf/split/*.yaml``."""

    kind: str
    test_fraction: Fraction
    seed: Annotated[int, Number(least=0, most=2**32 - 1)]  # the range of numpy's RandomState


def split_cells(raw: RawCells, config: SplitConfig) -> tuple[Rows, Rows]:
    """Split the cells into training and test cells.

    Parameters
    ----------
    raw
        The N cells of a source.
    config
        Kind, test fraction and seed of the split.

    Returns
    -------
    train, test
        Row numbers, int64, sorted and disjoint.

    Raises
    ------
    UserError
        Unknown ``split.kind``, or a ``test_fraction`` that leaves either side empty.
    """
    choice(config.kind, KINDS, "split.kind")
    train, test = (np.sort(rows).astype(np.int64) for rows in KINDS[config.kind](raw, config))
    assert np.intersect1d(train, test).size == 0, "training and test cells overlap"
    return train, test


def _uniform_cells(raw: RawCells, config: SplitConfig) -> tuple[Rows, Rows]:
    """Draw test cells uniformly: scikit-learn's ``train_test_split``, as released (0.2, seed 42).

    The released evaluation takes the first 30 cells in shuffled order; rows are sorted here, so the first 30 differ,
    though the test set is the same.
    """
    from sklearn.model_selection import train_test_split

    n, fraction = raw.n_cells, config.test_fraction
    n_test = math.ceil(fraction * n)
    require(
        0 < n_test < n,
        "split.test_fraction",
        f"{fraction} of the {n} cells of {raw.name} leaves {n - n_test} to train on and {n_test} to test on; "
        "both need at least one",
    )
    train, test = train_test_split(np.arange(n), test_size=fraction, random_state=config.seed)
    return train, test


KINDS: dict[str, Callable[[RawCells, SplitConfig], tuple[Rows, Rows]]] = {"cells": _uniform_cells}
