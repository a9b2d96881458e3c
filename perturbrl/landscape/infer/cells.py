"""From a user's file to cells along pseudotime. Letters: N cells, G genes, K branches, P principal components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import OmegaConf

from perturbrl import config, paths, status
from perturbrl.data.preprocess.config import DataConfig
from perturbrl.data.preprocess.modality import transform
from perturbrl.data.preprocess.steps import Array, dense
from perturbrl.data.pseudotime import diffusion_pseudotime
from perturbrl.data.readers import ColumnKeys, read_file
from perturbrl.errors import UserError
from perturbrl.landscape.infer.settings import InferConfig
from perturbrl.landscape.infer.trajectory import Trajectory, Values, positions
from perturbrl.landscape.networks.files import identifiers

VARIABLE_GENES = 2000  # neighbours of cells are searched among the genes of the highest variance, at most so many


@dataclass(frozen=True)
class Columns:
    """Which columns of obs to use.

    ``pseudotime``: one column for each branch, empty for a column with a common name; ``weights``: for each branch the
    column of the cells' weights, of which at least a half makes a cell one of the branch; ``cell_type``: None for a
    column with a common name; ``fates``: cell types at which branches end, where there is one pseudotime; ``root``: the
    cell or the cell type where diffusion pseudotime begins, where there is no column.
    """

    pseudotime: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    cell_type: str | None = None
    fates: tuple[str, ...] = ()
    root: str | None = None


def read_trajectory(
    path: Path, genes: Sequence[str], columns: Columns, settings: InferConfig, layer: str | None = None
) -> Trajectory:
    """Read the cells of a file along pseudotime.

    Counts are scaled to equal depth and logged (``conf/data/rna.yaml``). Each cell becomes the mean of
    ``settings.neighbors`` cells, itself and its nearest in principal components, since a gene that is on is often not
    seen in a single cell (IQCELL imputes with MAGIC for the same reason). What a Python name cannot hold becomes ``_``.

    Parameters
    ----------
    path
        .h5ad, .h5mu, 10x .h5 or a 10x folder.
    genes
        The regulators; empty: all genes of the file, at most ``settings.max_genes``.
    columns
        The columns of obs.
    settings
        ``neighbors``, ``components`` and ``max_genes`` are used.
    layer
        The matrix; None for X.

    Raises
    ------
    UserError
        The file cannot be read or has no RNA; a gene, a column or a cell type is not in it; there is no pseudotime; a
        gene is constant, or a branch has too few cells.
    """
    cells = read_file(path, path.stem, layer, "auto", ColumnKeys(None, None, None, columns.cell_type, None, None))
    if "rna" not in cells.modalities:
        raise UserError(f"{path}: holds {', '.join(cells.modalities)} and no RNA, from which a network is inferred")
    rna = cells.modalities["rna"]
    if not genes and len(rna.features) > settings.max_genes:
        raise UserError(
            f"{path}: has {len(rna.features):,} genes; name the regulators with --genes (at most {settings.max_genes})"
        )
    places = positions(genes or rna.features.tolist(), rna.features.tolist(), str(path))
    steps = config.bind(DataConfig, OmegaConf.load(paths.conf_dir() / "data" / "rna.yaml"), "data")
    x = transform("rna", rna, steps, np.arange(cells.n_cells), str(path))
    labels = cells.obs["cell_type"].to_numpy(dtype=np.str_) if "cell_type" in cells.obs else None
    with status.step(f"pseudotime of {cells.n_cells:,} cells"):
        names, pseudotime = _pseudotime(cells.obs, x, columns, steps, labels, str(path))
    branches, times = _branches(names, pseudotime, columns, labels, cells.obs, str(path))
    with status.step(f"neighbours of {cells.n_cells:,} cells"):
        values, averaged = smoothed(x, places, settings.neighbors, settings.components)
    spelled = identifiers([str(rna.features[p]) for p in places], str(path))
    return Trajectory(str(path), tuple(spelled.values()), values, times, branches, labels, averaged)


def smoothed(x: Array, places: Sequence[int], neighbors: int, components: int) -> tuple[Values, int]:
    """Return the columns ``places`` of x [N, G], each row a mean over a cell and its nearest, and over how many."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import NearestNeighbors

    values: Values = dense(x[:, list(places)]).astype(np.float64)
    n = min(neighbors, len(values))
    if n == 1:
        return values, 1
    mean = np.asarray(x.mean(axis=0)).ravel()
    square = np.asarray((x.multiply(x) if hasattr(x, "multiply") else x * x).mean(axis=0)).ravel()
    variable = np.sort(np.argsort(-(square - mean**2), kind="stable")[:VARIABLE_GENES])
    scores = dense(x[:, variable]).astype(np.float32)
    if scores.shape[1] > components and len(scores) > components:
        scores = PCA(components, random_state=0).fit_transform(scores)
    nearest = NearestNeighbors(n_neighbors=n).fit(scores).kneighbors(scores, return_distance=False)
    return values[nearest].mean(axis=1), n


def _pseudotime(
    obs: pd.DataFrame, x: Array, columns: Columns, steps: DataConfig, labels: NDArray[np.str_] | None, where: str
) -> tuple[tuple[str, ...], Values]:
    if columns.pseudotime:
        return columns.pseudotime, np.stack([_numbers(obs, c, "--pseudotime", where) for c in columns.pseudotime], 1)
    if "pseudotime" in obs:
        return ("pseudotime",), obs["pseudotime"].to_numpy(dtype=np.float64)[:, None]
    if columns.root is None:
        raise UserError(
            f"{where}: no column of obs holds pseudotime; name one with --pseudotime, or give --root CELL or --root "
            f"CELL_TYPE for diffusion pseudotime (columns: {', '.join(map(str, obs.columns)) or 'none'})"
        )
    rows = np.arange(len(obs))
    root = _root(obs, x, columns.root, labels, where)
    n_pcs, n_neighbors, n_components = steps.dpt_pcs, steps.dpt_neighbors, steps.dpt_components
    times = diffusion_pseudotime(dense(x), rows, rows[:0], root, n_pcs, n_neighbors, n_components, 0)
    return (f"from {columns.root}",), times[:, None]


def _root(obs: pd.DataFrame, x: Array, root: str, labels: NDArray[np.str_] | None, where: str) -> int:
    """Return the row of a cell by its name, or the cell of a type that is nearest to the mean of the type."""
    names = obs.index.astype(str)
    if root in names:
        return int(np.flatnonzero(names == root)[0])
    if labels is None or root not in labels:
        known = "" if labels is None else f"; cell types are {', '.join(sorted(set(labels)))}"
        raise UserError(f"{where}: --root {root!r} is neither a cell nor a cell type{known}")
    rows = np.flatnonzero(labels == root)
    part = dense(x[rows])
    return int(rows[np.argmin(((part - part.mean(axis=0)) ** 2).sum(axis=1))])


def _branches(
    names: tuple[str, ...],
    pseudotime: Values,
    columns: Columns,
    labels: NDArray[np.str_] | None,
    obs: pd.DataFrame,
    where: str,
) -> tuple[tuple[str, ...], Values]:
    """Return the names of the branches and their pseudotime [N, K], NaN for cells of no account."""
    if columns.weights:
        if len(columns.weights) != len(names):
            raise UserError(f"{where}: {len(columns.weights)} columns of --weights for {len(names)} of pseudotime")
        weights = np.stack([_numbers(obs, c, "--weights", where) for c in columns.weights], 1)
        pseudotime = np.where(weights >= 0.5, pseudotime, np.nan)
    if not columns.fates:
        return names, pseudotime
    if len(names) > 1:
        raise UserError(f"{where}: --fates makes branches of one pseudotime; there are {len(names)}, a branch each")
    if labels is None:
        raise UserError(f"{where}: --fates needs cell types; name their column with --cell-type")
    for fate in columns.fates:
        if fate not in labels:
            known = ", ".join(sorted(set(labels)))
            raise UserError(f"{where}: no cell has the type {fate!r} of --fates; cell types are {known}")
    ended = np.isin(labels, columns.fates)
    times = [np.where(~ended | (labels == fate), pseudotime[:, 0], np.nan) for fate in columns.fates]
    return columns.fates, np.stack(times, axis=1)


def _numbers(obs: pd.DataFrame, column: str, option: str, where: str) -> Values:
    """Return a column as numbers, NaN where there is none."""
    if column not in obs:
        raise UserError(f"{where}: {option}: obs has no column {column!r}; its columns are {', '.join(obs.columns)}")
    values: Values = pd.to_numeric(obs[column].astype(object), errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(values).any():
        raise UserError(f"{where}: {option}: obs[{column!r}] holds no number")
    return np.where(np.isfinite(values), values, np.nan)
