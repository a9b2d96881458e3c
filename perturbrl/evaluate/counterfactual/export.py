"""Predictions as .h5ad, as cell-eval, scanpy and ``baseline=predictions`` read them. Letters: n conditions, G genes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.data.readers import elements
from perturbrl.data.readers.hdf5_safety import open_hdf5
from perturbrl.data.readers.opened import text
from perturbrl.effects.observed import ObservedEffects
from perturbrl.errors import UserError
from perturbrl.evaluate.counterfactual.emission import Emission
from perturbrl.evaluate.counterfactual.prediction import CellsOf, as_cells
from perturbrl.files import replacing
from perturbrl.screens.schema import Condition

PREDICTIONS = "predictions.h5ad"
ABOUT = "perturbrl"
CHANGE = "perturbrl_change"
"""The entry of varm that holds the mean changes; ``uns[ABOUT]`` names its columns."""
_CONDITIONS, _SUMS, _GENERATED = "conditions", "cell_sums", "generated"


def write_predictions(
    file: Path,
    change: NDArray[np.float64],
    truth: ObservedEffects,
    about: dict[str, str],
    cells: CellsOf | None = None,
) -> None:
    """Write predicted cells of each test condition, and the real test controls that tests compare with.

    Predicted cells are ``cells``; without them, or where they give None, those that the evaluation makes of a mean
    ``change`` [n, G] (``Emission``). They are as many as the condition has test cells (at most ``max_cells``). ``X`` is
    log-normalised, sparse float32. ``obs``: ``perturbation``
    (``A+B`` or ``control``), ``condition`` (with dose and context), ``context``, ``dose``, ``is_control``. Cells round
    and limit what is predicted (no gene is below 0), so ``varm[CHANGE]`` [G, n] carries the changes themselves.
    """
    from anndata import AnnData

    screen, emission = truth.table.screen, Emission(truth)
    blocks: list[sparse.csr_matrix] = []
    parts: list[pd.DataFrame] = []
    for context in truth.controls:
        blocks.append(screen.x[truth.compared_controls(context)])
        parts.append(_obs(Condition((), context), blocks[-1].shape[0]))
    sums, generated = [], []
    for i, condition in enumerate(truth.conditions):
        made = None if cells is None else cells(int(condition))
        generated.append(made is not None)
        blocks.append(emission.start(i).moved(change[i]) if made is None else as_cells(made, truth.n_compared(i)))
        parts.append(_obs(screen.conditions[condition], blocks[-1].shape[0]))
        sums.append(_sum(blocks[-1]))
    obs = pd.concat(parts)
    adata = AnnData(sparse.csr_matrix(sparse.vstack(blocks)), obs=obs, var=pd.DataFrame(index=list(screen.features)))
    adata.varm[CHANGE] = np.ascontiguousarray(change.T)
    adata.uns[ABOUT] = {**about, _CONDITIONS: np.array(truth.names, dtype=object), _SUMS: np.array(sums)}
    if any(generated):
        adata.uns[ABOUT][_GENERATED] = np.array(generated)
    with replacing(file) as temporary:
        adata.write_h5ad(temporary)


@dataclass(frozen=True)
class StoredChanges:
    """What an exported file carries: ``change`` [n, G] of ``conditions``, and the ``sums`` [n] of their cells.

    ``generated`` [n]: whether the cells of a condition are to be scored themselves, not made again from the change.
    """

    change: NDArray[np.float64]
    conditions: list[str]
    sums: NDArray[np.float64]
    generated: NDArray[np.bool_]

    def of(self, names: Sequence[str], cells: Sequence[sparse.csr_matrix], file: Path) -> NDArray[np.float64]:
        """Return the changes of the conditions ``names``, whose ``cells`` the file holds.

        Raises
        ------
        UserError
            The changes lack a condition, or were stored with other cells.
        """
        remedy = f"remove varm[{CHANGE!r}] to have the cells of X scored"
        missing = [name for name in names if name not in self.conditions]
        if missing:
            raise UserError(f"{file}: varm[{CHANGE!r}] has no changes of condition {missing[0]!r}; {remedy}")
        at = [self.conditions.index(name) for name in names]
        for name, stored, present in zip(names, self.sums[at], map(_sum, cells), strict=True):
            if not np.isclose(stored, present, rtol=1e-5):
                raise UserError(
                    f"{file}: varm[{CHANGE!r}] was stored with other cells of condition {name!r} (their sum was "
                    f"{stored:.6g}, that of X is {present:.6g}); {remedy}"
                )
        return self.change[at]


def read_changes(file: Path) -> StoredChanges | None:
    """Return the mean changes that a file of ``write_predictions`` carries; None where it carries none.

    Raises
    ------
    UserError
        They are not what ``write_predictions`` writes.
    """
    with open_hdf5(file) as opened:
        if f"varm/{CHANGE}" not in opened or f"uns/{ABOUT}/{_CONDITIONS}" not in opened:
            return None
        location = f"{file}: uns/{ABOUT}"
        about = elements.group_of(elements.group_of(opened, "uns", f"{file}: "), ABOUT, f"{file}: uns/")
        conditions = text(elements.read_names(about, _CONDITIONS, location)).tolist()
        sums = np.asarray(elements.read_names(about, _SUMS, location), dtype=np.float64)
        made = np.zeros(len(conditions), dtype=bool)
        if _GENERATED in about:
            made = np.asarray(elements.read_names(about, _GENERATED, location), dtype=bool)
        stored = opened["varm"][CHANGE]
        n_genes = elements.shape_of(stored, f"{file}: varm/{CHANGE}")[0]
        change = elements.read_matrix(stored, f"{file}: varm/{CHANGE}", n_genes, len(conditions))
    if not len(sums) == len(made) == len(conditions) or sparse.issparse(change) or not np.isfinite(change).all():
        raise UserError(f"{file}: varm[{CHANGE!r}] is damaged; export the predictions again, or remove it")
    return StoredChanges(np.asarray(change, dtype=np.float64).T, conditions, sums, made)


def _sum(cells: sparse.csr_matrix) -> float:
    return float(cells.sum(dtype=np.float64))


def _obs(condition: Condition, n: int) -> pd.DataFrame:
    values = {
        "perturbation": Condition(condition.targets).name,
        "condition": condition.name,
        "context": condition.context,
        "dose": np.nan if condition.dose is None else condition.dose,
        "is_control": condition.is_control,
    }
    return pd.DataFrame(values, index=[f"{condition.name}:{k}" for k in range(n)])
