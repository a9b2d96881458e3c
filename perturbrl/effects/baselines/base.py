"""What every baseline offers. Letters: n conditions asked for, G genes."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from perturbrl.screens.schema import PerturbationTable

Array = NDArray[np.float64]
Conditions = NDArray[np.int64]


class Baseline(Protocol):
    """A predictor of mean changes that learns from training cells (and is tuned on validation cells) only."""

    name: str

    def fit(self, table: PerturbationTable) -> None:
        """Learn from ``table.split.train`` and ``control_train``; settings are chosen on validation.

        Raises
        ------
        UserError
            There are no perturbed training cells, or a context of them has no control cells.
        """

    def predict(self, conditions: Conditions) -> Array:
        """Return mu_p - mu_0 of each of ``conditions`` [n] (indices of the table's conditions), [n, G] float64.

        A row of NaN is a condition that the baseline says nothing about.
        """


def covered(change: Array) -> NDArray[np.bool_]:
    """Return for which rows of ``change`` [n, G] a baseline said something, [n]."""
    return np.asarray(~np.isnan(change).all(axis=1))
