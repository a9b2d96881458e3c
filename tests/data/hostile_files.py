"""Files that would crash a reader, lead it out of the file or into a loop. Each function writes one and returns it."""

from __future__ import annotations

import gzip
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from cell_files import counts, peaks, write_10x_h5, write_10x_mtx, write_h5ad, write_h5mu
from scipy import sparse

CELLS = [f"cell{i}" for i in range(12)]
GENES = [f"GENE{j}" for j in range(5)]


def h5ad(path: Path) -> Path:
    """A good file with a sparse X, a layer, .raw, obsm, obsp and a categorical."""
    obs = {"batch": pd.Categorical(["a", "b", "c"] * 4), "size": np.arange(12.0)}
    write_h5ad(path, obs=obs, layers={"counts": sparse.csr_matrix(counts(12, 5))}, raw=counts(12, 7))
    cells = ad.read_h5ad(path)
    cells.obsm["guides"] = sparse.csr_matrix(counts(12, 5))
    cells.obsp["graph"] = sparse.csc_matrix(np.eye(12))
    cells.write_h5ad(path)
    return path


def h5mu(path: Path) -> Path:
    peak_names = peaks(6)
    mods = {"rna": (counts(12, 5), CELLS, GENES), "atac": ((counts(12, 6) > 0) * 1.0, CELLS, peak_names)}
    return write_h5mu(path, mods, layers={"rna": {"counts": sparse.csr_matrix(counts(12, 5))}})


def tenx(path: Path) -> Path:
    return write_10x_h5(path, counts(12, 5), GENES, ["Gene Expression"] * 5, CELLS)


def replaced(path: Path, where: str, values) -> Path:
    """Put other values in the place of a dataset; a function is given the old ones."""
    with h5py.File(path, "r+") as file:
        attributes = dict(file[where].attrs)
        new = values(file[where][()].copy()) if callable(values) else values
        del file[where]
        file[where] = new
        for name, value in attributes.items():
            file[where].attrs[name] = value
    return path


def put(at, value):
    """Return a function that changes one value of an array."""

    def change(values):
        values[at] = value
        return values

    return change


def attribute(path: Path, where: str, **values) -> Path:
    with h5py.File(path, "r+") as file:
        for name, value in values.items():
            file[where].attrs[name.replace("_", "-") if name != "shape" else name] = value
    return path


def linked(path: Path, where: str, link) -> Path:
    """Put a link in the place of whatever is there; a function makes it from the open file."""
    with h5py.File(path, "r+") as file:
        new = link(file) if callable(link) else link
        if where in file:
            del file[where]
        file[where] = new
    return path


def external_storage(path: Path, where: str, shape: tuple[int, ...]) -> Path:
    secret = path.with_name("secret.bin")
    secret.write_bytes(b"SECRET!!" * 1000)
    with h5py.File(path, "r+") as file:
        attributes = dict(file[where].attrs) if where in file else {}
        if where in file:
            del file[where]
        stored = file.create_dataset(where, shape, "i4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
        for name, value in attributes.items():
            stored.attrs[name] = value
    return path


def virtual(path: Path, where: str, shape: tuple[int, ...]) -> Path:
    other = h5ad(path.with_name("other.h5ad"))
    with h5py.File(path, "r+") as file:
        if where in file:
            del file[where]
        layout = h5py.VirtualLayout(shape=shape, dtype="f4")
        layout[...] = h5py.VirtualSource(str(other), "obsm/guides/data", shape=shape)
        file.create_virtual_dataset(where, layout)
    return path


def mtx(folder: Path, old: str, new: str, gz: bool = False) -> Path:
    """A 10x folder in whose matrix one text is replaced."""
    write_10x_mtx(folder, counts(12, 5), GENES, ["Gene Expression"] * 5, CELLS, gz=False)
    matrix = folder / "matrix.mtx"
    text = matrix.read_text()
    assert text.count(old) >= 1
    matrix.write_text(text.replace(old, new, 1))
    if gz:
        (folder / "matrix.mtx.gz").write_bytes(gzip.compress(matrix.read_bytes()))
        matrix.unlink()
    return folder
