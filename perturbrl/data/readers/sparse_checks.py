"""Check the arrays of a compressed sparse matrix before scipy sees them: its kernels trust every index.

Letters: M rows of a csr matrix (columns of a csc one), K its columns (rows), nnz stored values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.errors import UserError

BLOCK = 1 << 22
"""How many indices are looked at together: bounds the memory of the check."""


@dataclass(frozen=True)
class Compressed:
    """``data`` [nnz], ``indices`` [nnz] and ``indptr`` [M + 1], numpy arrays or datasets on disk.

    ``location`` names the matrix in messages; ``shape`` is (M, K); ``layout`` is ``csr`` or ``csc``.
    """

    data: Any
    indices: Any
    indptr: Any
    shape: tuple[int, int]
    layout: str
    location: str


def check(arrays: Compressed) -> None:
    """Check a matrix; arrays on disk are read block by block.

    Raises
    ------
    UserError
        An array that is not of numbers in one dimension, lengths that disagree, pointers that do not rise from 0 to
        nnz, an index outside 0 to K - 1, or a place that is stored twice.
    """
    check_layout(arrays)
    pointers = np.asarray(arrays.indptr[...])
    _check_pointers(arrays, pointers)
    last = 0
    while last < len(pointers) - 1:
        first, start = last, int(pointers[last])
        last = max(first + 1, int(np.searchsorted(pointers, start + BLOCK, side="right")) - 1)
        block = np.asarray(arrays.indices[start : int(pointers[last])])
        _check_block(arrays, block, pointers[first : last + 1], first)


def check_layout(arrays: Compressed) -> None:
    """Check types, dimensions and lengths alone: no array is read. Raises as ``check``."""
    for name, kinds, expected in (
        ("data", "iufb", "numbers"),
        ("indices", "iu", "integers"),
        ("indptr", "iu", "integers"),
    ):
        array = getattr(arrays, name)
        if len(array.shape) != 1 or array.dtype.kind not in kinds:
            raise UserError(
                f"{arrays.location}/{name}: expected {expected} in one dimension, "
                f"got {array.dtype} of shape {array.shape}"
            )
    major, minor = arrays.shape
    if min(major, minor) < 0:
        raise UserError(f"{arrays.location}: a matrix cannot have the shape {major} x {minor}; write the file again")
    n = arrays.indptr.shape[0]
    if n != major + 1:
        other = "csc" if arrays.layout == "csr" else "csr"
        hint = f"; is it a {other} matrix called {arrays.layout}?" if n == minor + 1 else "; write the file again"
        raise UserError(
            f"{arrays.location}/indptr has {n} entries, "
            f"but a {arrays.layout} matrix of this shape needs {major + 1}{hint}"
        )
    if arrays.data.shape != arrays.indices.shape:
        raise UserError(
            f"{arrays.location}: data has {arrays.data.shape[0]} entries and indices {arrays.indices.shape[0]}; "
            "there must be one index for each value, so write the file again"
        )


def native(arrays: Compressed) -> Compressed:
    """Return checked arrays in memory with the index types and the byte order that scipy computes with."""
    data = np.asarray(arrays.data)
    if data.dtype == np.float16:  # scipy has no kernels for it
        data = data.astype(np.float32)
    if data.dtype.kind == "b":
        data = data.astype(np.int8)
    return Compressed(
        _in_native_order(data),
        _as_index(np.asarray(arrays.indices), arrays.shape[1]),
        _as_index(np.asarray(arrays.indptr), len(arrays.data)),
        arrays.shape,
        arrays.layout,
        arrays.location,
    )


def _as_index(values: NDArray[Any], most: int) -> NDArray[Any]:
    values = _in_native_order(values)
    if values.dtype in (np.int32, np.int64):
        return values
    return values.astype(np.int32 if most <= np.iinfo(np.int32).max else np.int64)


def _in_native_order(values: NDArray[Any]) -> NDArray[Any]:
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def _check_pointers(arrays: Compressed, pointers: NDArray[Any]) -> None:
    location, nnz = f"{arrays.location}/indptr", arrays.indices.shape[0]
    if int(pointers[0]) != 0 or int(pointers[-1]) != nnz:
        raise UserError(
            f"{location} goes from {int(pointers[0])} to {int(pointers[-1])}, but must go from 0 to {nnz}, the number "
            "of stored values; write the file again"
        )
    falls = np.flatnonzero(pointers[1:] < pointers[:-1])
    if len(falls):
        k = int(falls[0])
        raise UserError(
            f"{location} falls from {int(pointers[k])} to {int(pointers[k + 1])} at position {k + 1}, but must never "
            "fall; write the file again"
        )
    longest = int(np.max(np.diff(pointers), initial=0))
    if longest > arrays.shape[1]:
        raise UserError(
            f"{location}: {longest} values lie between two pointers, but there are {arrays.shape[1]} places; "
            "write the file again"
        )


def _check_block(arrays: Compressed, block: NDArray[Any], pointers: NDArray[Any], first: int) -> None:
    """Check the indices of a few rows; ``pointers`` are those of the rows, ``first`` the number of the first row."""
    if not len(block):
        return
    size, start = arrays.shape[1], int(pointers[0])
    if int(block.min()) < 0 or int(block.max()) >= size:
        k = int(np.flatnonzero((block < 0) | (block >= size))[0])
        raise UserError(
            f"{arrays.location}/indices: {int(block[k])} at position {start + k} is not between 0 and {size - 1}; "
            "write the file again"
        )
    ends = (pointers - pointers[0]).astype(np.int64)
    turns = np.flatnonzero(block[1:] <= block[:-1]) + 1
    if np.all(ends[np.searchsorted(ends, turns)] == turns):
        return
    # Not sorted within a row, which is allowed: sort a copy to see whether a place occurs twice.
    shape = (len(ends) - 1, size)
    copy = sparse.csr_matrix((np.ones(len(block), dtype=np.int8), _as_index(block, size).copy(), ends), shape=shape)
    copy.sort_indices()
    same = np.flatnonzero(copy.indices[1:] == copy.indices[:-1]) + 1
    same = same[copy.indptr[np.searchsorted(copy.indptr, same)] != same]
    if len(same):
        row = first + int(np.searchsorted(copy.indptr, same[0], side="right")) - 1
        lines = ("row", "column") if arrays.layout == "csr" else ("column", "row")
        raise UserError(
            f"{arrays.location}: a value is stored twice in {lines[0]} {row}, {lines[1]} {int(copy.indices[same[0]])}; "
            "every place must be stored once, so add the values up and write the file again"
        )
