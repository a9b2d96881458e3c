"""Read 10x Genomics output: HDF5 feature-barcode matrices (Cell Ranger 2 and later) and Matrix Market folders.

Source: 10x Genomics, "Feature-barcode matrices". Features x barcodes by column is cells x features by row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.data.readers.formats import matrix_file
from perturbrl.data.readers.modalities import choose, modality_named, split
from perturbrl.data.readers.opened import Opened, Part, listed, text
from perturbrl.errors import UserError

_COMPANIONS = (("barcodes.tsv",), ("features.tsv", "genes.tsv"))


def open_10x_h5(path: Path, layer: str | None, modality: str) -> Opened:
    """Open ``filtered_feature_bc_matrix.h5`` and its like, gene expression, peaks and antibodies apart.

    Raises
    ------
    UserError
        A ``layer`` is asked for (10x files have none), several genomes in a file of version 2, or inconsistent arrays.
    """
    import h5py

    _no_layers(path, layer)
    with h5py.File(path, "r") as file:
        if "matrix" in file:
            group, features = file["matrix"], file["matrix"]["features"]
            names = text(features["name"][()])
            types = text(features["feature_type"][()]) if "feature_type" in features else None
        else:
            genomes = [k for k in file if "indptr" in file[k]]
            if len(genomes) > 1:
                raise UserError(
                    f"{path}: the file holds {len(genomes)} genomes ({listed(genomes)}); split it by genome first"
                )
            group = file[genomes[0]]
            names, types = text(group["gene_names"][()]), None
        cells = text(group["barcodes"][()])
        n_features, n_cells = (int(n) for n in group["shape"][()])
        arrays = group["data"][()], group["indices"][()], group["indptr"][()]
    if (n_features, n_cells) != (len(names), len(cells)) or len(arrays[2]) != n_cells + 1:
        raise UserError(
            f"{path}: the matrix is {n_features} x {n_cells} but the file has {len(names)} feature names and "
            f"{len(cells)} barcodes"
        )
    if arrays[1].size and (arrays[1].max() >= n_features or arrays[1].min() < 0):
        raise UserError(f"{path}: matrix/indices goes to {int(arrays[1].max())} but there are {n_features} features")
    x = sparse.csr_matrix(arrays, shape=(n_cells, n_features))
    x.sort_indices()
    return _opened(path, "10x .h5", x, names, types, cells, modality)


def open_10x_mtx(path: Path, layer: str | None, modality: str) -> Opened:
    """Open a folder with matrix.mtx, barcodes.tsv and features.tsv (or genes.tsv), plain or gzipped, prefixed or not.

    Raises
    ------
    UserError
        A file is missing, the matrix cannot be read, or the number of names differs from the size of the matrix.
    """
    from scipy.io import mmread

    _no_layers(path, layer)
    source = matrix_file(path)
    prefix = source.name[: source.name.index("matrix.mtx")]
    barcodes, features = (_companion(path, prefix, names) for names in _COMPANIONS)
    try:
        x = sparse.csr_matrix(mmread(source).T)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{source}: not a readable Matrix Market file ({str(error).splitlines()[0][:100]})") from None
    cells = text(_table(barcodes)[0])
    table = _table(features)
    names = text(table[1] if table.shape[1] > 1 else table[0])
    types = text(table[2]) if table.shape[1] > 2 else None
    if x.shape != (len(cells), len(names)):
        raise UserError(
            f"{source}: the matrix is {x.shape[1]} x {x.shape[0]} but {features.name} has {len(names)} rows and "
            f"{barcodes.name} {len(cells)}"
        )
    return _opened(path, "10x mtx folder", x, names, types, cells, modality)


def _opened(
    path: Path,
    kind: str,
    x: sparse.csr_matrix,
    names: NDArray[np.str_],
    types: NDArray[np.str_] | None,
    cells: NDArray[np.str_],
    modality: str,
) -> Opened:
    parts, notes = split(Part("matrix", x, names, cells, (), False), types)
    sure = types is not None and any(modality_named(t) for t in np.unique(types))
    return Opened(path, kind, choose(parts, modality, sure, str(path)), pd.DataFrame(index=pd.Index(cells)), notes)


def _no_layers(path: Path, layer: str | None) -> None:
    if layer is not None:
        raise UserError(f"{path}: a 10x file has no layers, so source.layer must be null, not {layer!r}")


def _companion(folder: Path, prefix: str, names: tuple[str, ...]) -> Path:
    for name in names:
        for candidate in (folder / f"{prefix}{name}", folder / f"{prefix}{name}.gz"):
            if candidate.is_file():
                return candidate
    raise UserError(f"{folder}: {prefix}{' or '.join(names)} (plain or .gz) is missing beside the matrix")


def _table(path: Path) -> Any:
    try:
        return pd.read_csv(path, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: not a readable tab-separated file ({str(error).splitlines()[0][:100]})") from None
