"""Small files of cells, written by the tests that read them."""

from __future__ import annotations

import gzip
from pathlib import Path

import anndata as ad
import h5py
import mudata
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.io import mmwrite


def counts(n: int, g: int, seed: int = 0, rate: float = 1.5) -> np.ndarray:
    """Poisson counts [n, g] in which no feature is constant."""
    x = np.random.default_rng(seed).poisson(rate, (n, g)).astype(np.float32)
    x[0], x[1] = 0, 3
    return x


def write_h5ad(path: Path, x=None, obs=None, var=None, layers=None, uns=None, names=None, cells=None, raw=None) -> Path:
    x = counts(12, 5) if x is None else x
    n, g = x.shape
    obs = pd.DataFrame(obs or {}, index=cells if cells is not None else [f"cell{i}" for i in range(n)])
    var = pd.DataFrame(var or {}, index=names if names is not None else [f"GENE{j}" for j in range(g)])
    data = ad.AnnData(sparse.csr_matrix(x) if not sparse.issparse(x) else x, obs=obs, var=var, layers=layers, uns=uns)
    if raw is not None:
        genes = pd.DataFrame(index=[f"RAW{j}" for j in range(raw.shape[1])])
        data.raw = ad.AnnData(sparse.csr_matrix(raw), obs=obs[[]], var=genes)
    data.write_h5ad(path)
    return path


def write_h5mu(path: Path, mods: dict[str, tuple[np.ndarray, list[str], list[str]]], obs=None, layers=None) -> Path:
    """Write ``mods``: name -> (x, cells, features); ``obs`` and ``layers`` are dicts by the same names."""
    parts = {}
    for name, (x, cells, features) in mods.items():
        table = pd.DataFrame((obs or {}).get(name, {}), index=cells)
        part = ad.AnnData(sparse.csc_matrix(x), obs=table, var=pd.DataFrame(index=features))
        for key, layer in (layers or {}).get(name, {}).items():
            part.layers[key] = layer
        parts[name] = part
    mudata.MuData(parts).write(path)
    return path


def peaks(n: int) -> list[str]:
    return [f"chr{1 + j % 22}:{100 * j}-{100 * j + 50}" for j in range(n)]


def write_10x_h5(path: Path, x: np.ndarray, names: list[str], types: list[str] | None, cells: list[str]) -> Path:
    """Cell Ranger's layout: version 3 with feature types, version 2 (one group per genome) without."""
    stored = sparse.csc_matrix(x.T.astype(np.int32))
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix" if types is not None else "mm10")
        group["barcodes"] = np.array(cells, dtype="S")
        group["data"], group["indices"] = stored.data, stored.indices.astype(np.int64)
        group["indptr"], group["shape"] = stored.indptr.astype(np.int64), np.array(stored.shape, dtype=np.int32)
        if types is None:
            group["gene_names"] = np.array(names, dtype="S")
            group["genes"] = np.array([f"ENS{j}" for j in range(len(names))], dtype="S")
        else:
            features = group.create_group("features")
            features["id"] = np.array([f"ID{j}" for j in range(len(names))], dtype="S")
            features["name"], features["feature_type"] = np.array(names, dtype="S"), np.array(types, dtype="S")
    return path


def write_10x_mtx(folder: Path, x: np.ndarray, names, types, cells, gz: bool, prefix: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    rows = [[f"ENS{j}", name, *([types[j]] if types else [])] for j, name in enumerate(names)]
    tables = {
        "barcodes.tsv": "".join(f"{c}\n" for c in cells),
        ("features.tsv" if types else "genes.tsv"): "".join("\t".join(r) + "\n" for r in rows),
    }
    mmwrite(folder / f"{prefix}matrix.mtx", sparse.coo_matrix(x.T.astype(np.int64)))
    for name, content in tables.items():
        (folder / f"{prefix}{name}").write_text(content)
    if gz:
        for file in list(folder.iterdir()):
            with gzip.open(file.with_name(file.name + ".gz"), "wb") as out:
                out.write(file.read_bytes())
            file.unlink()
    return folder
