"""Which cells a run trains on and which it keeps for evaluation. Letters: N cells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from perturbrl import registry
from perturbrl.bounds import Fraction, Number
from perturbrl.config import require
from perturbrl.data.schema import RawCells

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class SplitConfig:
    """What ``conf/split/*.yaml`` holds for a split that holds out cells, whatever was done to them."""

    kind: str
    test_fraction: Fraction
    seed: Annotated[int, Number(least=0, most=2**32 - 1)]  # what numpy's RandomState takes


def holds_out_cells(kind: str) -> bool:
    """Return whether a kind of split holds out cells (``SplitConfig``), not conditions of a screen."""
    return kind in registry.splits and issubclass(registry.splits[kind].schema, SplitConfig)


def split_cells(raw: RawCells, config: SplitConfig) -> tuple[Rows, Rows]:
    """Split the N cells into training and test rows, both sorted and disjoint.

    Raises
    ------
    UserError
        A ``test_fraction`` that leaves either side empty.
    """
    draws = registry.splits[config.kind].build(config, raw)
    train, test = (np.sort(rows).astype(np.int64) for rows in draws)
    assert np.intersect1d(train, test).size == 0, "training and test cells overlap"
    return train, test


@registry.splits.register("cells", SplitConfig)
def uniform_cells(config: SplitConfig, raw: RawCells) -> tuple[Rows, Rows]:
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
