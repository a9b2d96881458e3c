"""From a path to ``RawCells``: open the file, then insist on names, numbers and cells that a task can rely on."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from perturbrl.config import choice
from perturbrl.data.readers import formats
from perturbrl.data.readers.anndata_files import open_h5ad, open_h5mu
from perturbrl.data.readers.checks import part_faults
from perturbrl.data.readers.columns import ColumnKeys, map_columns
from perturbrl.data.readers.kinds import kind_of, profile
from perturbrl.data.readers.modalities import AUTO
from perturbrl.data.readers.opened import CellFile, listed
from perturbrl.data.readers.tenx import open_10x_h5, open_10x_mtx
from perturbrl.data.schema import MODALITIES, Modality, RawCells
from perturbrl.errors import UserError

_OPENERS = {
    formats.H5AD: open_h5ad,
    formats.H5MU: open_h5mu,
    formats.TENX_H5: open_10x_h5,
    formats.TENX_H5_V2: open_10x_h5,
    formats.TENX_MTX: open_10x_mtx,
}
_LOG = logging.getLogger(__name__)


def read_file(
    path: Path, name: str, layer: str | None, modality: str, keys: ColumnKeys, checksum: str | None = None
) -> RawCells:
    """Read a .h5ad, .h5mu or 10x .h5 file or a 10x mtx folder; sparse stays sparse (csr).

    ``layer`` None is X, ``raw`` is .raw; ``modality`` is ``auto``, ``rna``, ``atac`` or ``protein``; ``checksum`` saves
    reading the file once more where it is known.

    Raises
    ------
    UserError
        The file is missing, damaged, of another format, or one of the faults of ``assemble``.
    """
    cell_file = open_file(path, layer, modality)
    for note in cell_file.notes:
        _LOG.warning("%s: %s", path, note)
    return assemble(cell_file, name, keys, checksum if checksum is not None else sha256_of(path))


def open_file(path: Path, layer: str | None, modality: str) -> CellFile:
    """Open a file as it is, unchecked.

    Raises
    ------
    UserError
        As ``read_file``, for anything that keeps the file from being opened at all.
    """
    choice(modality, (AUTO, *MODALITIES), "source.modality")
    format_name = formats.sniff(path)
    if format_name not in _OPENERS:
        raise UserError(f"{path}: a {format_name} file is read by its own source only; expected {formats.READABLE}")
    try:
        return _OPENERS[format_name](path, layer, modality)
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"{path}: the file does not fit into memory") from None
    except Exception as error:  # a damaged file can make h5py or anndata raise anything
        message = (str(error).splitlines() or [""])[0][:160]
        raise UserError(
            f"{path}: the {format_name} file cannot be read ({type(error).__name__}: {message}); is it complete?"
        ) from None


def assemble(cell_file: CellFile, name: str, keys: ColumnKeys, checksum: str) -> RawCells:
    """Check what was opened and name its columns.

    Matrices of several modalities are matched by cell name; cells that one of them lacks are left out (with a warning).

    Raises
    ------
    UserError
        No cells or no features; empty names; cell names repeated where they have to match; sizes that disagree; NaN or
        infinite values; negative counts, or a layer called counts that holds none; no common cell; a bad column.
    """
    cells = _common_cells(cell_file)
    modalities: dict[str, Modality] = {}
    for kind, part in cell_file.parts.items():
        summary = profile(part.x)
        for fault in part_faults(part, kind, summary):
            others = [m for m in cell_file.parts if m != kind]
            beside = f"; source.modality={others[0]} reads without it" if others else ""
            raise UserError(f"{cell_file.path}: {part.location}: {fault.what}; {fault.remedy}{beside}")
        x = part.x if np.array_equal(part.cells, cells) else part.x[pd.Index(part.cells).get_indexer(pd.Index(cells))]
        modalities[kind] = Modality(x, unique(part.features), kind_of(summary, kind))
    obs = (
        cell_file.obs
        if np.array_equal(cell_file.obs.index.to_numpy(dtype=str), cells)
        else _aligned(cell_file.obs, cells)
    )
    mapped = map_columns(obs, keys, str(cell_file.path))
    for note in mapped.notes:
        _LOG.info("%s: %s", cell_file.path, note)
    mapped.obs.index = pd.Index(unique(cells), dtype=object)
    return RawCells(name, modalities, mapped.obs, checksum)


def unique(names: NDArray[np.str_]) -> NDArray[np.str_]:
    """Return names made unique as anndata does, by ``-1``, ``-2`` behind the second and later ones."""
    if len(set(names.tolist())) == len(names):
        return names
    from anndata.utils import make_index_unique

    return np.asarray(make_index_unique(pd.Index(names.astype(object))).tolist(), dtype=np.str_)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, or of a folder's files (name and content, in order of name)."""
    if path.is_dir():
        lines = [f"{p.name} {sha256_of(p)}\n" for p in sorted(path.iterdir()) if p.is_file()]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _common_cells(cell_file: CellFile) -> NDArray[np.str_]:
    parts = list(cell_file.parts.values())
    cells = parts[0].cells
    if all(np.array_equal(p.cells, cells) for p in parts[1:]) and (len(parts) == 1 or cell_file.format != formats.H5MU):
        return cells
    for part in parts:
        repeated = pd.Index(part.cells)[pd.Index(part.cells).duplicated()]
        if len(repeated):
            raise UserError(
                f"{cell_file.path}: {part.location} has {len(repeated)} repeated cell names (first {repeated[0]!r}), "
                "so they cannot be matched with the other modalities; make obs_names unique"
            )
    common = pd.Index(cells)
    for part in parts[1:]:
        common = common.intersection(pd.Index(part.cells), sort=False)
    sizes = ", ".join(f"{kind} {len(p.cells)}" for kind, p in cell_file.parts.items())
    if not len(common):
        raise UserError(
            f"{cell_file.path}: the modalities have no cell in common ({sizes} cells); their obs_names must match"
        )
    if len(common) < max(len(p.cells) for p in parts):
        _LOG.warning("%s: only the %d cells that all modalities have are kept (%s)", cell_file.path, len(common), sizes)
    return np.asarray(common.tolist(), dtype=np.str_)


def _aligned(obs: pd.DataFrame, cells: NDArray[np.str_]) -> pd.DataFrame:
    if obs.index.has_duplicates:
        raise UserError(
            f"obs has {listed(obs.index[obs.index.duplicated()].unique())} more than once; make obs_names unique"
        )
    return obs.reindex(pd.Index(cells))
