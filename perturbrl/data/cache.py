"""Cache prepared cell tables on disk, so that a sweep or a new process does not prepare the same cells again."""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perturbrl import __version__, paths
from perturbrl.data.schema import CellTable
from perturbrl.files import replacing


def cached_table(settings: str, file: Path | None, code: str, build: Callable[[], CellTable]) -> CellTable:
    """Return the table of ``build``, from the cache if it is there.

    A damaged entry is rebuilt. If the cache cannot be written, the table is returned with a warning.

    Parameters
    ----------
    settings
        Text of all settings that affect the table.
    file
        The file that is read, if any; a change of its size or modification time invalidates the entry.
    code
        The ``code_digest`` of the code that builds the table.
    build
        Builds the table.
    """
    key = [settings, __version__, code, *stamps(file)]
    path = paths.cache_dir() / "tables" / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.npz"
    try:
        return _read(path)
    except Exception:  # a damaged archive can make zipfile, numpy and pandas raise anything
        table = build()
    try:
        _write(path, table)
    except OSError as error:
        warnings.warn(f"{path}: the prepared cells cannot be cached ({error.strerror})", stacklevel=2)
    return table


def code_digest(*builds: Callable[..., Any]) -> str:
    """Return the sha256 of the code that prepares cells: that of this package and the modules of ``builds``."""
    data_folder = Path(__file__).parent
    files = {f for folder in (data_folder, data_folder.parent / "landscape") for f in folder.rglob("*.py")}
    files |= {Path(inspect.getfile(build)) for build in builds}
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def stamps(file: Path | None) -> tuple[str, ...]:
    """Return name, size and modification time of a file, or of all files in a folder; empty if it does not exist."""
    if file is None or not file.exists():
        return ()
    files = sorted(f for f in file.rglob("*") if f.is_file()) if file.is_dir() else [file]
    return tuple(f"{f}:{f.stat().st_size}:{f.stat().st_mtime_ns}" for f in files)


def _write(path: Path, table: CellTable) -> None:
    obs = io.BytesIO()
    table.obs.to_parquet(obs)
    about = {
        "features": table.features,
        "slices": {name: [s.start, s.stop] for name, s in table.slices.items()},
        "source": table.source,
        "checksum": table.checksum,
        "leaks": table.leaks,
    }
    arrays: dict[str, Any] = {name: getattr(table, name) for name in ("x", "pseudotime", "train", "test")}
    arrays |= {"obs": np.frombuffer(obs.getvalue(), np.uint8), "about": np.array(json.dumps(about))}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _read(path: Path) -> CellTable:
    with np.load(path, allow_pickle=False) as archive:
        about = json.loads(str(archive["about"]))
        return CellTable(
            x=archive["x"],
            features=tuple(about["features"]),
            slices={name: slice(*ends) for name, ends in about["slices"].items()},
            pseudotime=archive["pseudotime"],
            train=archive["train"],
            test=archive["test"],
            obs=pd.read_parquet(io.BytesIO(archive["obs"].tobytes())),
            source=about["source"],
            checksum=about["checksum"],
            leaks=tuple(about["leaks"]),
        )
