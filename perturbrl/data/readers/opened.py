"""An opened file, before its content is checked or renamed. The reader and ``data validate`` both start from it.

Letters: N cells, G features.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.data.schema import Matrix
from perturbrl.errors import UserError


@dataclass(frozen=True)
class Part:
    """One matrix of a file.

    ``x`` has shape [N, G]; ``location`` is its path in the file (``X``, ``layers/counts``, ``mod/rna/X``); ``layers``
    are the names of its layers; ``logged`` is true if the file states that log1p was applied.
    """

    location: str
    x: Matrix
    features: NDArray[np.str_]
    cells: NDArray[np.str_]
    layers: tuple[str, ...]
    logged: bool


@dataclass(frozen=True)
class CellFile:
    """The content of a file: ``parts`` by modality, ``obs`` as stored, and ``notes`` on content that is not used."""

    path: Path
    format: str
    parts: Mapping[str, Part]
    obs: pd.DataFrame
    notes: tuple[str, ...]


def text(values: Any) -> NDArray[np.str_]:
    """Return names as a 1-D unicode array; bytes are decoded as UTF-8."""
    decoded = [
        v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in np.asarray(values).ravel().tolist()
    ]
    return np.asarray(decoded, dtype=np.str_)


def matrix(x: Any, location: str) -> Matrix:
    """Return ``x`` as a csr matrix if it is sparse, else as a 2-D array.

    Raises
    ------
    UserError
        ``x`` is not a numeric matrix of two axes.
    """
    if sparse.issparse(x):
        return sparse.csr_matrix(x)
    dense = np.asarray(x)
    if dense.ndim != 2 or dense.dtype.kind not in "iufb":
        raise UserError(
            f"{location}: expected a matrix of numbers, cells by features, got {dense.dtype} of shape {dense.shape}"
        )
    return dense.astype(np.int8) if dense.dtype.kind == "b" else dense


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return names as text for a message, at most ``most`` of them."""
    texts = [str(n) for n in names]
    return ", ".join(texts[:most]) + (f", ... ({len(texts)} in all)" if len(texts) > most else "") if texts else "none"


def memory_bytes() -> int:
    """Return the free memory in bytes, or the size of the memory if the system does not report the free part."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return 1024 * sum(int(lines[key].split()[0]) for key in ("MemAvailable", "SwapFree"))
    except (OSError, KeyError, ValueError):  # not Linux
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not POSIX
        return 1 << 40
