"""Keep simulated cells on disk as one .npz: no pickle, written whole or not at all, rebuilt when damaged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.data.schema import Modality, RawCells
from perturbrl.files import replacing


def save(cells: RawCells, path: Path) -> None:
    """Write ``cells`` to ``path`` atomically. Raises OSError where the folder cannot be written."""
    arrays: dict[str, Any] = {"name": cells.name, "checksum": cells.checksum, "obs/index": _strings(cells.obs.index)}
    for column in cells.obs:
        values = cells.obs[column]
        arrays[f"obs/column/{column}"] = values.to_numpy() if values.dtype.kind in "bfiu" else _strings(values)
    for key, modality in cells.modalities.items():
        arrays[f"{key}/features"], arrays[f"{key}/kind"] = modality.features, modality.kind
        if isinstance(modality.x, sparse.csr_matrix):
            for part in ("data", "indices", "indptr", "shape"):
                arrays[f"{key}/csr/{part}"] = getattr(modality.x, part)
        else:
            arrays[f"{key}/dense"] = modality.x
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def load(path: Path, checksum: str) -> RawCells | None:
    """Return the cells at ``path``; None where there are none, or the file is damaged or of other settings."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return _cells(arrays) if str(arrays["checksum"]) == checksum else None
    except Exception:  # a damaged archive can make zipfile, numpy and pandas raise anything; it is made anew
        return None


def _cells(arrays: Mapping[str, NDArray[Any]]) -> RawCells:
    prefix = "obs/column/"
    columns = {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
    obs = pd.DataFrame(
        {name: values.astype(object) if values.dtype.kind == "U" else values for name, values in columns.items()},
        index=pd.Index(arrays["obs/index"].astype(object)),
    )
    modalities = {
        name.removesuffix("/features"): _modality(arrays, name.removesuffix("/features"))
        for name in arrays
        if name.endswith("/features")
    }
    return RawCells(str(arrays["name"]), modalities, obs, str(arrays["checksum"]))


def _modality(arrays: Mapping[str, NDArray[Any]], key: str) -> Modality:
    if f"{key}/dense" in arrays:
        x: Any = arrays[f"{key}/dense"]
    else:
        parts = (arrays[f"{key}/csr/{part}"] for part in ("data", "indices", "indptr"))
        x = sparse.csr_matrix(tuple(parts), shape=tuple(arrays[f"{key}/csr/shape"]))
    return Modality(x, arrays[f"{key}/features"], str(arrays[f"{key}/kind"]))  # type: ignore[arg-type]


def _strings(values: pd.Series[Any] | pd.Index[Any]) -> NDArray[np.str_]:
    text: NDArray[np.str_] = values.to_numpy().astype(np.str_)
    return text
