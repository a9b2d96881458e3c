"""What a row of a table predicts for the test conditions. Letters: n conditions, c cells, G genes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.effects.baselines import Baseline, covered
from perturbrl.effects.observed import ObservedEffects

Array = NDArray[np.float64]
CellsOf = Callable[[int], "sparse.csr_matrix | NDArray[np.float32] | None"]


@dataclass(frozen=True, eq=False)  # hashed by identity: its values are cached while it lives
class Prediction:
    """Changes mu_p - mu_0 [n, G] of the conditions of a ``ObservedEffects``, in its order.

    ``cells`` gives predicted cells [c, G] (log-normalised) of a condition (its index in the screen); without it, or
    where it gives None, control cells are moved to the predicted mean (``Emission``). ``controls`` maps a context to
    the control cells that ``cells`` were made from, which tests compare them with; without, the test controls.
    ``covered`` [n]: for which conditions the method has a prediction. ``note`` says what a reader of its scores has to
    know.
    """

    change: Array
    cells: CellsOf | None = None
    controls: Mapping[str, sparse.csr_matrix] | None = None
    covered: NDArray[np.bool_] | None = None
    note: str = ""


def predict(baseline: Baseline, truth: ObservedEffects) -> Prediction:
    """Fit a baseline and ask it for the conditions of ``truth``; conditions without a prediction get the training mean.

    Raises
    ------
    UserError
        As ``Baseline.fit``.
    """
    baseline.fit(truth.table)
    change = baseline.predict(truth.conditions)
    predicted = covered(change)
    return Prediction(np.where(predicted[:, None], change, truth.centre), covered=predicted)


def as_cells(cells: sparse.csr_matrix | NDArray[np.float32], n: int) -> sparse.csr_matrix:
    """Return the first ``n`` of predicted cells [c, G], sparse float32."""
    return sparse.csr_matrix(cells[:n], dtype=np.float32)
