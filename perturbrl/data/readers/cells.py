"""From a path to ``RawCells``: open the file, then check names, values and cells."""

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
    """Read a .h5ad, .h5mu or 10x .h5 file or a 10x mtx folder. Sparse matrices stay sparse (csr).

    Parameters
    ----------
    path
        The file or folder.
    name
        The name of the cells in messages and tables.
    layer
        None for X, ``raw`` for .raw, otherwise the name of a layer.
    modality
        ``auto``, ``rna``, ``atac`` or ``protein``.
    keys
        Names of the obs columns to use.
    checksum
        The sha256 of the file; None: it is computed.

    Returns
    -------
    RawCells
        One matrix [N, G] for each modality, and obs with the standard columns.

    Raises
    ------
    UserError
        The file is missing, damaged or of another format, or it has a fault that ``assemble`` refuses.
    """
    cell_file = open_file(path, layer, modality)
    for note in cell_file.notes:
        _LOG.warning("%s: %s", path, note)
    return assemble(cell_file, name, keys, checksum if checksum is not None else sha256_of(path))


def open_file(path: Path, layer: str | None, modality: str) -> CellFile:
    """Open a file without checking its content.

    Parameters
    ----------
    path
        The file or folder.
    layer
        None for X, ``raw`` for .raw, otherwise the name of a layer.
    modality
        ``auto``, ``rna``, ``atac`` or ``protein``.

    Returns
    -------
    CellFile
        The matrices by modality, obs as stored, and notes on content that is not used.

    Raises
    ------
    UserError
        The file is missing, damaged or of another format, or has no such layer or modality.
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
    """Check the content of an opened file and add the standard columns.

    Several modalities are matched by cell name. Cells that are not in all of them are left out, with a warning.

    Parameters
    ----------
    cell_file
        The opened file.
    name
        The name of the cells in messages and tables.
    keys
        Names of the obs columns to use.
    checksum
        The sha256 of the file.

    Returns
    -------
    RawCells
        One matrix [N, G] for each modality, and obs with the standard columns.

    Raises
    ------
    UserError
        No cells or no features; empty names; repeated cell names that have to be matched; sizes that disagree; NaN or
        infinite values; negative counts; a layer called counts without counts; no common cell; an invalid column.
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
    """Return unique names, as anndata does: repeats get the suffixes ``-1``, ``-2`` and so on."""
    if len(set(names.tolist())) == len(names):
        return names
    from anndata.utils import make_index_unique

    return np.asarray(make_index_unique(pd.Index(names.astype(object))).tolist(), dtype=np.str_)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, or of names and contents of the files of a folder, sorted by name."""
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
