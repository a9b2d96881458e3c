"""Read 10x Genomics output: HDF5 feature-barcode matrices (Cell Ranger 2 and later) and Matrix Market folders.

Source: 10x Genomics, "Feature-barcode matrices". Features x barcodes by column is cells x features by row.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.data.readers import matrix_market
from perturbrl.data.readers.formats import matrix_file
from perturbrl.data.readers.modalities import choose, modality_named, split
from perturbrl.data.readers.opened import CellFile, Part, listed, text
from perturbrl.errors import UserError

if TYPE_CHECKING:
    import h5py

_USED_FIELDS = 3  # identifier (not used), name and type of a feature; the rest says where it lies in the genome
_COMPANIONS = (("barcodes.tsv",), ("features.tsv", "genes.tsv"))


def open_10x_h5(path: Path, layer: str | None, modality: str) -> CellFile:
    """Open ``filtered_feature_bc_matrix.h5`` and its like, gene expression, peaks and antibodies apart.

    Raises
    ------
    UserError
        A ``layer`` is given (10x files have none), several genomes in a file of version 2, or inconsistent arrays.
    """
    from perturbrl.data.readers import elements
    from perturbrl.data.readers.hdf5_safety import open_hdf5

    _no_layers(path, layer)
    with open_hdf5(path) as file:
        group, location = _matrix_group(file, path)
        names, types, cells = _names_of(group, location, path)
        # features x barcodes by column are cells x features by row
        arrays = elements.arrays_of(group, (len(cells), len(names)), "csr", location)
        x = sparse.csr_matrix(elements.build(arrays))
        elements.check_sparse(file, str(path))
    x.sort_indices()
    return _cell_file(path, "10x .h5", x, names, types, cells, modality)


def open_10x_mtx(path: Path, layer: str | None, modality: str) -> CellFile:
    """Open a folder with matrix.mtx, barcodes.tsv and features.tsv (or genes.tsv), plain or gzipped, prefixed or not.

    Raises
    ------
    UserError
        A file is missing, the matrix cannot be read, or the number of names differs from the size of the matrix.
    """
    _no_layers(path, layer)
    source = matrix_file(path)
    prefix = source.name[: source.name.index("matrix.mtx")]
    barcodes, features = (_companion(path, prefix, names) for names in _COMPANIONS)
    cells = text(_table(barcodes)[0])
    table = _table(features)
    names = text(table[1] if table.shape[1] > 1 else table[0])
    types = text(table[2]) if table.shape[1] > 2 else None
    header = matrix_market.read_header(source)
    if (header.columns, header.rows) != (len(cells), len(names)):
        raise UserError(
            f"{source}: the matrix is {header.rows} x {header.columns} but {features.name} has {len(names)} rows and "
            f"{barcodes.name} {len(cells)}"
        )
    x = matrix_market.read(source, header)
    return _cell_file(path, "10x mtx folder", x, names, types, cells, modality)


def _matrix_group(file: h5py.File, path: Path) -> tuple[h5py.Group, str]:
    """Return the group of the matrix, and what messages call it."""
    from perturbrl.data.readers.elements import group_of

    name = "matrix"
    if name not in file:
        genomes = [k for k in file if hasattr(file[k], "keys") and "indptr" in file[k]]
        if len(genomes) > 1:
            raise UserError(
                f"{path}: the file holds {len(genomes)} genomes ({listed(genomes)}); split it by genome first"
            )
        name = genomes[0]
    return group_of(file, name, f"{path}: "), f"{path}: {name}"


def _names_of(
    group: h5py.Group, location: str, path: Path
) -> tuple[NDArray[np.str_], NDArray[np.str_] | None, NDArray[np.str_]]:
    """Return names and types of the features, and the barcodes, as many as the shape of the matrix says."""
    from perturbrl.data.readers.elements import group_of, read_names

    types = None
    if "gene_names" in group:  # version 2
        names = text(read_names(group, "gene_names", location))
    else:
        features = group_of(group, "features", f"{location}/")
        names = text(read_names(features, "name", f"{location}/features"))
        if "feature_type" in features:
            types = text(read_names(features, "feature_type", f"{location}/features"))
    cells = text(read_names(group, "barcodes", location))
    shape = read_names(group, "shape", location)
    if shape.shape != (2,) or shape.dtype.kind not in "iu":
        raise UserError(f"{location}/shape must be two whole numbers, features and barcodes, not {shape.tolist()}")
    if shape.tolist() != [len(names), len(cells)] or (types is not None and len(types) != len(names)):
        typed = "" if types is None else f"{len(types)} feature types, "
        raise UserError(
            f"{path}: the matrix is {shape[0]} x {shape[1]} but the file has {len(names)} feature names, {typed}"
            f"{len(cells)} barcodes"
        )
    return names, types, cells


def _cell_file(
    path: Path,
    kind: str,
    x: sparse.csr_matrix,
    names: NDArray[np.str_],
    types: NDArray[np.str_] | None,
    cells: NDArray[np.str_],
    modality: str,
) -> CellFile:
    parts, notes = split(Part("matrix", x, names, cells, (), False), types)
    sure = types is not None and any(modality_named(t) for t in np.unique(types))
    return CellFile(path, kind, choose(parts, modality, sure, str(path)), pd.DataFrame(index=pd.Index(cells)), notes)


def _no_layers(path: Path, layer: str | None) -> None:
    if layer is not None:
        raise UserError(f"{path}: a 10x file has no layers, so source.layer must be null, not {layer!r}")


def _companion(folder: Path, prefix: str, names: tuple[str, ...]) -> Path:
    for name in names:
        for candidate in (folder / f"{prefix}{name}", folder / f"{prefix}{name}.gz"):
            if candidate.is_file():
                return candidate
    raise UserError(f"{folder}: {prefix}{' or '.join(names)} (plain or .gz) is missing beside the matrix")


def _table(path: Path) -> pd.DataFrame:
    matrix_market.check_unpacked(path)
    try:
        table = pd.read_csv(path, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a readable tab-separated file ({str(error).splitlines()[0][:100]})") from None
    fields = table.iloc[:, min(1, table.shape[1] - 1) : _USED_FIELDS]
    short = np.flatnonzero(
        (fields.isna() | (fields == "")).any(axis=1)
    )  # what is missing at the end of a line reads so
    if len(short):
        raise UserError(f"{path}: row {int(short[0]) + 1} lacks a name or type; write the file again")
    return table
