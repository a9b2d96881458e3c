"""Keep simulated cells on disk as one .npz: no pickle, written whole or not at all, rebuilt when damaged."""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.data.schema import Modality, RawCells

DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged or foreign .npz raises."""


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
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".npz")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(path: Path, checksum: str) -> RawCells | None:
    """Return the cells at ``path``; None where there are none, or the file is damaged or of other settings."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return _cells(arrays) if str(arrays["checksum"]) == checksum else None
    except DAMAGED:
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
