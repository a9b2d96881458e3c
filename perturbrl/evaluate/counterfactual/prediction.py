"""What a row of a table predicts for the test conditions. Letters: n conditions, c cells, G genes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.effects.baselines import Baseline, covered
from perturbrl.effects.observed import ObservedEffects, sample

Array = NDArray[np.float64]
CellsOf = Callable[[int], "sparse.csr_matrix | NDArray[np.float32] | None"]


@dataclass(frozen=True, eq=False)  # hashed by identity: its values are cached while it lives
class Prediction:
    """Changes mu_p - mu_0 [n, G] of the conditions of a ``ObservedEffects``, in its order.

    ``cells`` gives predicted cells [c, G] (log-normalised) of a condition (its index in the screen); without it, or
    where it gives None, control cells are scaled to the predicted mean. ``covered`` [n]: for which conditions the
    method has a prediction.
    """

    change: Array
    cells: CellsOf | None = None
    covered: NDArray[np.bool_] | None = None


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


class Emission:
    """Predicted cells with real dispersion for methods that predict a mean only (cell-eval2's "dispersed" emission).

    A condition gets as many test controls of its context as it has test cells (at most ``max_cells``, or all there
    are), each gene scaled by (mu_0 + change) / mu_0; negative means become 0, and a gene that no control expresses
    stays at 0. No value exceeds twice the largest of the controls (a gene that few of them express is not scaled beyond
    reason). Features with negative values (centred protein) have no scale: they are moved by the change.
    """

    def __init__(self, truth: ObservedEffects) -> None:
        self._truth = truth
        x = truth.table.screen.x
        self._signed = {context: signed(x[rows]) for context, rows in truth.controls.items()}
        self._most = {context: 2 * x[rows].data.max(initial=0) for context, rows in truth.controls.items()}

    def rows(self, index: int) -> NDArray[np.int64]:
        """Return the rows of the controls that stand for condition ``index`` of the truth, the same for all methods."""
        truth = self._truth
        controls, name = truth.controls[truth.contexts[index]], truth.names[index]
        return sample(controls, truth.n_compared(index), truth.config.seed, "score/emission", name)

    def cells(self, index: int, change: Array, control: sparse.csr_matrix) -> sparse.csr_matrix:
        """Return the cells ``control`` [c, G] of condition ``index`` moved to the mean of a ``change`` [G], [c, G]."""
        mean, moved = self._truth.control[index], self._signed[self._truth.contexts[index]]
        known = (mean > 0) & ~moved
        factor = np.where(known, np.maximum(mean + change, 0.0) / np.where(known, mean, 1.0), 1.0).astype(np.float32)
        data = np.minimum(control.data * factor[control.indices], self._most[self._truth.contexts[index]])
        if moved.any():
            data += np.where(moved, change, 0.0).astype(np.float32)[control.indices]
        return sparse.csr_matrix((data, control.indices, control.indptr), control.shape)


def signed(cells: sparse.csr_matrix) -> NDArray[np.bool_]:
    """Return which genes have a negative value among ``cells`` [N, G], [G]."""
    return np.bincount(cells.indices[cells.data < 0], minlength=cells.shape[1]) > 0


def as_cells(cells: sparse.csr_matrix | NDArray[np.float32], n: int) -> sparse.csr_matrix:
    """Return the first ``n`` of predicted cells [c, G], sparse float32."""
    return sparse.csr_matrix(cells[:n], dtype=np.float32)
