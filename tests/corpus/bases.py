"""The good files that the malformed ones are made of: as anndata, mudata and Cell Ranger write them, but small."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import h5py
import mudata
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.io import mmwrite

from .cases import G, N

SIZES = {"rna": G, "atac": 20, "protein": 6}
TYPES = {"rna": "Gene Expression", "atac": "Peaks", "protein": "Antibody Capture"}
CELLS = [f"cell{i}" for i in range(N)]


def write_all(folder: Path) -> dict[str, Path]:
    """Write every good file; return paths by name."""
    folder.mkdir(parents=True, exist_ok=True)
    mudata.set_options(pull_on_update=False)
    found = {name: folder / f"{name}{end}" for name, end in (("h5ad", ".h5ad"), ("dense", ".h5ad"), ("h5mu", ".h5mu"))}
    made = {name: _cells(name) for name in SIZES}
    made["rna"].write_h5ad(found["h5ad"])
    thick = _cells("rna")
    thick.X = thick.X.toarray()
    del thick.layers["counts"]
    thick.write_h5ad(found["dense"])
    mudata.MuData({"rna": made["rna"], "atac": made["atac"], "prot": made["protein"]}).write(found["h5mu"])
    found |= {"tenx": folder / "tenx.h5", "tenx2": folder / "tenx2.h5", "mtx": folder / "mtx"}
    _write_10x(found["tenx"], found["tenx2"])
    _write_mtx(found["mtx"])
    return found


def values(modality: str) -> sparse.csr_matrix:
    """Counts [N, features] in which every feature varies."""
    rng = np.random.default_rng(sum(map(ord, modality)))
    level = 1.5 + np.sin(np.linspace(0, 3, N)[:, None] + rng.random(SIZES[modality]) * 6)
    return sparse.csr_matrix(rng.poisson(level).astype(np.float32))


def names(modality: str) -> list[str]:
    if modality == "atac":
        return [f"chr{1 + j % 22}:{100 * j}-{100 * j + 50}" for j in range(SIZES[modality])]
    return [f"{'GENE' if modality == 'rna' else 'CD'}{j}" for j in range(SIZES[modality])]


def _cells(modality: str) -> ad.AnnData:
    x = values("rna" if modality == "dense" else modality)
    labels = ["control"] * 40 + [f"GENE{i}" for i in range(4) for _ in range(20)]
    obs = pd.DataFrame(
        {"perturbation": pd.Categorical(labels), "batch": pd.Categorical(["b0", "b1"] * (N // 2))}, index=CELLS
    )
    var = pd.DataFrame({"chromosome": [f"chr{j % 3}" for j in range(x.shape[1])]}, index=names(modality))
    return ad.AnnData(x, obs=obs, var=var, layers={"counts": x.copy()}, uns={"made": "for tests"})


def _write_10x(path: Path, second: Path) -> None:
    x = sparse.hstack([values(m) for m in SIZES]).T.tocsc().astype(np.int32)
    every = [n for m in SIZES for n in names(m)]
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        _arrays(group, x)
        features = group.create_group("features")
        features["id"] = features["name"] = np.array(every, dtype="S")
        features["feature_type"] = np.array([TYPES[m] for m in SIZES for _ in names(m)], dtype="S")
    with h5py.File(second, "w") as file:
        group = file.create_group("mm10")
        _arrays(group, values("rna").T.tocsc().astype(np.int32))
        group["gene_names"] = group["genes"] = np.array(names("rna"), dtype="S")


def _arrays(group: h5py.Group, x: sparse.csc_matrix) -> None:
    group["barcodes"] = np.array(CELLS, dtype="S")
    group["data"], group["shape"] = x.data, np.array(x.shape, dtype=np.int32)
    group["indices"], group["indptr"] = x.indices.astype(np.int64), x.indptr.astype(np.int64)


def _write_mtx(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    mmwrite(folder / "matrix.mtx", sparse.coo_matrix(values("rna").T.astype(np.int64)))
    (folder / "barcodes.tsv").write_text("".join(f"{c}\n" for c in CELLS))
    rows = [f"ENS{j}\t{name}\tGene Expression\n" for j, name in enumerate(names("rna"))]
    (folder / "features.tsv").write_text("".join(rows))
