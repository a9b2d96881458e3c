"""Keep cells on disk as .npz: simulated ones, and prepared tables, so that a new process does not make them again.

No pickle; a file is written whole or not at all. A damaged one is made anew; one that cannot be written is left out.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from perturbrl import __version__, paths
from perturbrl.data.schema import CellTable, Modality, RawCells
from perturbrl.files import ONE_THREAD, replacing

T = TypeVar("T")
Archive = Mapping[str, NDArray[Any]]


def cached_table(settings: str, file: Path | None, code: str, build: Callable[[], CellTable]) -> CellTable:
    """Return the table that ``build`` makes, from disk if it was made before.

    ``settings`` spells everything that shapes the table; ``file``, if any, is the file it is read from, known again
    by size and time of change; ``code`` is the ``code_digest`` of what makes it.
    """
    key = [settings, __version__, code, *stamps(file)]
    place = paths.cache_dir() / "tables" / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.npz"
    return _cached(place, "prepared", _pack_table, _unpack_table, build)


def cached_cells(folder: str, checksum: str, build: Callable[[], RawCells]) -> RawCells:
    """Return the cells that ``build`` makes, whose checksum is ``checksum``; from disk if they were made before."""

    def unpack(archive: Archive) -> RawCells:
        cells = _unpack_cells(archive)
        if cells.checksum != checksum:
            raise ValueError("cells of other settings")
        return cells

    return _cached(paths.cache_dir() / folder / f"{checksum}.npz", "simulated", _pack_cells, unpack, build)


def _cached(
    place: Path,
    what: str,
    pack: Callable[[T], dict[str, Any]],
    unpack: Callable[[Archive], T],
    build: Callable[[], T],
) -> T:
    try:
        with np.load(place, allow_pickle=False) as archive:
            return unpack(archive)
    except Exception:  # a damaged archive can make zipfile, numpy and pandas raise anything
        value = build()
    try:
        with replacing(place) as temporary, temporary.open("wb") as file:
            np.savez(file, **pack(value))
    except OSError as error:
        warnings.warn(f"{place}: the {what} cells cannot be cached ({error.strerror})", stacklevel=3)
    return value


def code_digest(*builds: Callable[..., Any]) -> str:
    """Return a sha256 of the code that prepares cells: this package's, and the modules of ``builds`` (plugins)."""
    here = Path(__file__).parent
    files = {f for folder in (here, here.parent / "landscape", here.parent / "optim") for f in folder.rglob("*.py")}
    files |= {Path(inspect.getfile(build)) for build in builds}
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def stamps(file: Path | None) -> tuple[str, ...]:
    """Return name, size and time of change of a file, or of all that lie in a folder; nothing if there is none."""
    if file is None or not file.exists():
        return ()
    files = sorted(f for f in file.rglob("*") if f.is_file()) if file.is_dir() else [file]
    return tuple(f"{f}:{f.stat().st_size}:{f.stat().st_mtime_ns}" for f in files)


def _pack_table(table: CellTable) -> dict[str, Any]:
    about = {
        "features": table.features,
        "slices": {name: [s.start, s.stop] for name, s in table.slices.items()},
        "source": table.source,
        "checksum": table.checksum,
        "leaks": table.leaks,
    }
    arrays = {name: getattr(table, name) for name in ("x", "pseudotime", "train", "test")}
    return arrays | _pack_texts(about, table.obs)


def _unpack_table(archive: Archive) -> CellTable:
    about, obs = _unpack_texts(archive)
    return CellTable(
        x=archive["x"],
        features=tuple(about["features"]),
        slices={name: slice(*ends) for name, ends in about["slices"].items()},
        pseudotime=archive["pseudotime"],
        train=archive["train"],
        test=archive["test"],
        obs=obs,
        source=about["source"],
        checksum=about["checksum"],
        leaks=tuple(about["leaks"]),
    )


def _pack_cells(cells: RawCells) -> dict[str, Any]:
    kinds = {key: modality.kind for key, modality in cells.modalities.items()}
    arrays = _pack_texts({"name": cells.name, "checksum": cells.checksum, "kinds": kinds}, cells.obs)
    for key, modality in cells.modalities.items():
        arrays[f"{key}/features"] = modality.features
        if isinstance(modality.x, sparse.csr_matrix):
            arrays |= {f"{key}/{part}": getattr(modality.x, part) for part in ("data", "indices", "indptr", "shape")}
        else:
            arrays[f"{key}/dense"] = modality.x
    return arrays


def _unpack_cells(archive: Archive) -> RawCells:
    about, obs = _unpack_texts(archive)
    modalities = {}
    for key, kind in about["kinds"].items():
        if f"{key}/dense" in archive:
            x: Any = archive[f"{key}/dense"]
        else:
            parts = tuple(archive[f"{key}/{part}"] for part in ("data", "indices", "indptr"))
            x = sparse.csr_matrix(parts, shape=tuple(archive[f"{key}/shape"]))
        modalities[key] = Modality(x, archive[f"{key}/features"], kind)
    return RawCells(about["name"], modalities, obs, about["checksum"])


def _pack_texts(about: dict[str, Any], obs: pd.DataFrame) -> dict[str, Any]:
    table = io.BytesIO()
    obs.to_parquet(table)
    return {"obs": np.frombuffer(table.getvalue(), np.uint8), "about": np.array(json.dumps(about))}


def _unpack_texts(archive: Archive) -> tuple[dict[str, Any], pd.DataFrame]:
    return json.loads(str(archive["about"])), pd.read_parquet(io.BytesIO(archive["obs"].tobytes()), **ONE_THREAD)
