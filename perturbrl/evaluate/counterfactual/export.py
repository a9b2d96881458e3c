"""Predictions as .h5ad, as cell-eval, scanpy and ``baseline=predictions`` read them. Letters: n conditions, G genes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.effects.observed import ObservedEffects
from perturbrl.envs.counterfactual.parts import spread
from perturbrl.evaluate.counterfactual.emission import Emission
from perturbrl.files import replacing
from perturbrl.screens.schema import Condition

PREDICTIONS = "predictions.h5ad"


def write_predictions(file: Path, change: NDArray[np.float64], truth: ObservedEffects, about: dict[str, str]) -> None:
    """Write predicted cells of each test condition, and the real test controls (at most ``max_controls`` a context).

    Predicted cells are as many as the condition has test cells (at most ``max_cells``): the control cells that the
    evaluation takes for it, scaled gene by gene so that their mean is mu_0 + ``change`` [n, G] (0 where that is
    negative; a gene that none of them expresses stays at 0). ``X`` is log-normalised, sparse float32. ``obs``:
    ``perturbation`` (``A+B`` or ``control``), ``condition`` (with dose and context), ``context``, ``dose``,
    ``is_control``.
    """
    from anndata import AnnData

    screen, emission = truth.table.screen, Emission(truth)
    blocks: list[sparse.csr_matrix] = []
    parts: list[pd.DataFrame] = []
    for context, rows in truth.controls.items():
        shown = spread(rows, truth.config.max_controls)
        blocks.append(screen.x[shown])
        parts.append(_obs(Condition((), context), len(shown)))
    for i, condition in enumerate(truth.conditions):
        rows = emission.rows(i)
        blocks.append(_scaled(screen.x[rows], truth.control[i] + change[i]))
        parts.append(_obs(screen.conditions[condition], len(rows)))
    obs = pd.concat(parts)
    adata = AnnData(sparse.csr_matrix(sparse.vstack(blocks)), obs=obs, var=pd.DataFrame(index=list(screen.features)))
    adata.uns["perturbrl"] = about
    with replacing(file) as temporary:
        adata.write_h5ad(temporary)


def _scaled(cells: sparse.csr_matrix, goal: NDArray[np.float64]) -> sparse.csr_matrix:
    mean = np.asarray(cells.mean(axis=0, dtype=np.float64)).ravel()
    factor = np.maximum(goal, 0.0) / np.where(mean > 0, mean, 1.0)
    data = (cells.data * factor[cells.indices]).astype(np.float32)
    return sparse.csr_matrix((data, cells.indices, cells.indptr), cells.shape)


def _obs(condition: Condition, n: int) -> pd.DataFrame:
    values = {
        "perturbation": Condition(condition.targets).name,
        "condition": condition.name,
        "context": condition.context,
        "dose": np.nan if condition.dose is None else condition.dose,
        "is_control": condition.is_control,
    }
    return pd.DataFrame(values, index=[f"{condition.name}:{k}" for k in range(n)])
