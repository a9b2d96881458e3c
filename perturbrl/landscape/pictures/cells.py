"""The landscape of measured cells: density on a plane, and along pseudotime.

Letters: N cells, K principal components, P groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from perturbrl import rng, status
from perturbrl.data.preprocess.steps import DepthNormalize, Log1p, dense
from perturbrl.data.pseudotime import diffusion_pseudotime
from perturbrl.data.readers import ColumnKeys, read_file
from perturbrl.data.schema import Modality, RawCells
from perturbrl.errors import UserError, did_you_mean, one_of

Array = NDArray[np.float64]
MOST_CELLS = 20_000
GENES, PCS, NEIGHBORS = 2000, 30, 15
UNNAMED = "unnamed"


@dataclass(frozen=True)
class Cells:
    """``scores`` [N, K] of principal components, ``flat`` [N, 2] on the plane, ``flat_name`` of its axes.

    ``label`` [N] names of groups; ``time`` [N] ranks of pseudotime in (0, 1] or None, ``time_name``; ``root`` the
    first cell in time; ``notes`` on what was done.
    """

    name: str
    scores: Array
    flat: Array
    flat_name: str
    label: NDArray[np.str_]
    time: Array | None
    time_name: str
    notes: tuple[str, ...]


def read_cells(
    file: Path, *, group: str | None, pseudotime: str | None, root: str | None, basis: str | None, seed: int
) -> Cells:
    """Read the cells of a user.

    Parameters
    ----------
    file
        .h5ad, .h5mu, 10x .h5 or a 10x folder.
    group, pseudotime
        Columns of obs; None takes a column with a common name, if there is one.
    root
        A cell, or a value of ``group`` whose middle cell is taken: diffusion pseudotime starts there.
    basis
        A key of obsm with two columns for the plane; None takes ``X_umap``, or the first two principal components.
    seed
        Of the sample of at most ``MOST_CELLS`` cells, and of the principal components.

    Raises
    ------
    UserError
        The file cannot be read, a column, cell or key is not in it, or it has fewer than 50 cells.
    """
    with status.step(f"reading {file}"):
        raw = read_file(file, file.stem, None, "auto", ColumnKeys(None, None, None, group, None, pseudotime))
    if raw.n_cells < 50:
        raise UserError(f"{file}: {raw.n_cells} cells; a landscape needs at least 50")
    rows = np.arange(raw.n_cells)
    if raw.n_cells > MOST_CELLS:
        rows = np.sort(rng.numpy_generator(seed, "pictures", "sample").choice(rows, MOST_CELLS, replace=False))
    values, modality = _values(raw, rows)
    with status.step("principal components"):
        scores = _components(values, seed)
    obs = raw.obs.iloc[rows]
    label = _labels(obs)
    time, time_name = _time(obs, label, scores, root, seed)
    flat, flat_name = _plane(file, basis, rows, scores)
    notes = [f"{raw.n_cells:,} cells of {file.name}, {modality}"]
    if len(rows) < raw.n_cells:
        notes.append(f"a random {len(rows):,} of them are shown")
    return Cells(raw.name, scores, flat, flat_name, label, time, time_name, tuple(notes))


def _values(raw: RawCells, rows: NDArray[np.int64]) -> tuple[Array, str]:
    name = "rna" if "rna" in raw.modalities else next(iter(raw.modalities))
    modality: Modality = raw.modalities[name]
    x: Any = modality.x[rows].astype(np.float32)
    if modality.kind == "counts":
        x = Log1p().apply(DepthNormalize(1e4).apply(x))
    mean = np.asarray(x.mean(axis=0)).ravel()
    square = np.asarray(x.power(2).mean(axis=0) if sparse.issparse(x) else (x**2).mean(axis=0)).ravel()
    best = np.sort(np.argsort(-(square - mean**2), kind="stable")[:GENES])
    return dense(x[:, best]).astype(np.float64), name


def _components(values: Array, seed: int) -> Array:
    from sklearn.decomposition import PCA

    n = min(PCS, *values.shape)
    if n < 2:
        raise UserError(f"a landscape needs at least 2 features; the file has {values.shape[1]}")
    return np.asarray(PCA(n, svd_solver="randomized", random_state=seed).fit_transform(values), dtype=np.float64)


def _labels(obs: pd.DataFrame) -> NDArray[np.str_]:
    if "cell_type" not in obs:
        return np.full(len(obs), UNNAMED)
    names = obs["cell_type"].astype(object).where(obs["cell_type"].notna(), UNNAMED)
    return np.array([str(name) for name in names])


def _time(
    obs: pd.DataFrame, label: NDArray[np.str_], scores: Array, root: str | None, seed: int
) -> tuple[Array | None, str]:
    if root is None:
        if "pseudotime" not in obs or not np.isfinite(obs["pseudotime"].to_numpy(dtype=float)).all():
            return None, ""
        times, name = obs["pseudotime"].to_numpy(dtype=float), "pseudotime of the file, by rank"
    else:
        everyone = np.arange(len(scores))
        times = diffusion_pseudotime(
            scores, everyone, everyone[:0], _root(obs, label, scores, root), PCS, NEIGHBORS, 10, seed
        )
        name = f"diffusion pseudotime from {root}, by rank"
    ranks = pd.Series(times).rank(method="first").to_numpy()
    return ranks / len(ranks), name


def _root(obs: pd.DataFrame, label: NDArray[np.str_], scores: Array, root: str) -> int:
    cells = obs.index.astype(str)
    if root in set(cells):
        return int(np.flatnonzero(cells == root)[0])
    inside = np.flatnonzero(label == root)
    if not len(inside):
        values = sorted({str(name) for name in label})
        near = did_you_mean(root, values)
        raise UserError(f"--root: {root!r} is neither a cell nor a group{near}; groups are {one_of(values[:20])}")
    middle = scores[inside].mean(axis=0)
    return int(inside[((scores[inside] - middle) ** 2).sum(axis=1).argmin()])


def _plane(file: Path, basis: str | None, rows: NDArray[np.int64], scores: Array) -> tuple[Array, str]:
    if file.suffix == ".h5ad":
        import anndata

        stored = anndata.read_h5ad(file, backed="r").obsm
        key = basis or ("X_umap" if "X_umap" in stored else None)
        if key is not None and key not in stored:
            raise UserError(f"--basis: {key!r} is not in obsm of {file}; there is {one_of(stored) or 'nothing'}")
        if key is not None:
            flat = np.asarray(stored[key], dtype=np.float64)[rows, :2]
            if flat.shape[1] < 2 or not np.isfinite(flat).all():
                raise UserError(f"--basis: {key!r} of {file} is not two columns of finite numbers")
            return flat, key.removeprefix("X_")
    elif basis is not None:
        raise UserError(f"--basis: only a .h5ad file has obsm; {file} is none")
    return scores[:, :2], "principal component"
