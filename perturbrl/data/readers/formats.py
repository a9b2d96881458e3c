"""The format of a file or folder, detected from its content, not from its name."""

from __future__ import annotations

import errno
import re
import stat
from pathlib import Path
from typing import Any

from perturbrl.data.readers.opened import listed
from perturbrl.errors import UserError

H5AD, H5MU, TENX_H5, TENX_H5_V2, TENX_MTX, PAUL15_H5 = (
    "h5ad",
    "h5mu",
    "10x .h5",
    "10x .h5 (v2)",
    "10x mtx folder",
    "paul15 .h5",
)
READABLE = "a .h5ad, .h5mu or 10x .h5 file, or a 10x folder with matrix.mtx[.gz]"


def sniff(path: Path) -> str:
    """Return the format of a file or folder.

    Raises
    ------
    UserError
        The file is missing, empty, truncated, gzip-compressed, not HDF5, or HDF5 of an unknown layout.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        what = {
            errno.ENOENT: "no such file or folder",
            errno.ENOTDIR: "no such file or folder",
            errno.ELOOP: "this is a symbolic link that leads back to itself; link it to the file",
        }.get(error.errno or 0, f"cannot be read ({error.strerror})")
        raise UserError(f"{path}: {what}") from None
    if stat.S_ISDIR(mode):
        matrix_file(path)
        return TENX_MTX
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: this is a device or a pipe, not a file; copy its content into a file")
    _check_start(path)
    from perturbrl.data.readers.hdf5_safety import open_hdf5

    try:
        with open_hdf5(path) as file:
            return _layout(path, file)
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:  # what a damaged file makes h5py raise
        raise UserError(f"{path}: {_hdf5_fault(error)}") from None


def matrix_file(folder: Path) -> Path:
    """Return the one Matrix Market file of a 10x folder (it may carry a prefix, as GEO's do)."""
    try:
        files = sorted(p for p in folder.iterdir() if p.name.endswith(("matrix.mtx", "matrix.mtx.gz")))
    except OSError as error:
        raise UserError(f"{folder}: the folder cannot be read ({error.strerror})") from None
    if len(files) != 1:
        what = (
            f"holds {len(files)} matrices ({listed(p.name for p in files)})"
            if files
            else "has no matrix.mtx or matrix.mtx.gz"
        )
        raise UserError(
            f"{folder}: the folder {what}; expected one matrix.mtx[.gz] with barcodes.tsv[.gz] and features.tsv[.gz]"
        )
    if not files[0].is_file():
        raise UserError(f"{files[0]}: this is not a file, or a symbolic link that leads to none")
    return files[0]


def _check_start(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if not head:
        raise UserError(f"{path}: the file is empty (0 bytes); copy or download it again")
    if head.startswith(b"\x1f\x8b"):
        raise UserError(f"{path}: the file is gzip-compressed as a whole; gunzip it first")
    if head.lstrip()[:1] == b"<":
        raise UserError(f"{path}: this is not an HDF5 file but a web page, so the download failed; download it again")
    import h5py

    if not h5py.is_hdf5(path):
        raise UserError(f"{path}: this is not an HDF5 file; expected {READABLE}")


def _layout(path: Path, file: Any) -> str:
    keys = set(file.keys())
    if "mod" in keys:
        return H5MU
    if "barcodes" in _members(file, "matrix"):
        return TENX_H5
    if "data.debatched" in keys:
        return PAUL15_H5
    if "obs" in keys and "var" in keys:
        return H5AD
    if any({"barcodes", "gene_names", "indptr"} <= _members(file, key) for key in keys):
        return TENX_H5_V2
    raise UserError(f"{path}: an HDF5 file of an unknown layout (it holds {listed(sorted(keys))}); expected {READABLE}")


def _members(file: Any, name: str) -> set[str]:
    """Return the names in a group, none if there is no such group."""
    group = file.get(name)
    return set(group.keys()) if hasattr(group, "keys") else set()


def _hdf5_fault(error: Exception) -> str:
    message = str(error) or type(error).__name__
    if "truncated" in message:
        return "the file is truncated; copy or download it again"
    if re.search(r"\block", message):  # not the superblock
        return "another program has the file open for writing; close it there first"
    return f"the HDF5 file is damaged ({message.splitlines()[0][:120]}); copy or download it again"
