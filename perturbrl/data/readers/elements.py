"""Matrices and lists in HDF5 files, each checked before it is read.

Letters: N cells, G features. ``location`` is ``file: path in the file``, for messages.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.data.readers import sparse_checks
from perturbrl.data.readers.hdf5_safety import check_size
from perturbrl.data.readers.opened import matrix
from perturbrl.data.schema import Matrix
from perturbrl.errors import UserError

_FORMATS = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix}


def sparse_format(element: Any) -> str | None:
    """Return ``csr`` or ``csc`` for a group that says it is a sparse matrix, else None."""
    if not isinstance(element, h5py.Group):
        return None
    old = element.attrs.get("h5sparse_format")
    name = plain(old if old is not None else element.attrs.get("encoding-type"))
    name = name.removesuffix("_matrix")
    return name if name in _FORMATS else None


def shape_of(element: Any, location: str) -> tuple[int, ...]:
    """Return the shape that a stored matrix declares.

    Raises
    ------
    UserError
        It is no matrix, or a sparse one whose shape is not two whole numbers.
    """
    if isinstance(element, h5py.Dataset):
        return tuple(int(n) for n in element.shape or ())
    if sparse_format(element) is None:
        raise UserError(f"{location}: expected a matrix of numbers, cells by features, got {described(element)}")
    stored = element.attrs.get("shape", element.attrs.get("h5sparse_shape"))
    shape = np.asarray(stored)
    if stored is None or shape.shape != (2,) or shape.dtype.kind not in "iu":
        raise UserError(f"{location}: its attribute shape is {short(stored)}, but must be two whole numbers")
    return int(shape[0]), int(shape[1])


def read_matrix(element: Any, location: str, n: int, g: int) -> Matrix:
    """Read a matrix of ``n`` cells and ``g`` features: csr, or an array.

    Raises
    ------
    UserError
        It has another shape, is not of numbers, does not fit into memory, or its sparse arrays are at fault.
    """
    check_shape(element, location, n, g)
    if isinstance(element, h5py.Dataset):
        check_numbers(element, location)
        return matrix(element[()], location)
    return matrix(build(compressed(element, location)), location)


def build(arrays: sparse_checks.Compressed) -> sparse.csr_matrix | sparse.csc_matrix:
    """Read the arrays of a sparse matrix, check them, and only then hand them to scipy."""
    sparse_checks.check_layout(arrays)
    loaded = sparse_checks.Compressed(
        arrays.data[...], arrays.indices[...], arrays.indptr[...], arrays.shape, arrays.layout, arrays.location
    )
    sparse_checks.check(loaded)
    native = sparse_checks.native(loaded)
    shape = native.shape if native.layout == "csr" else native.shape[::-1]
    return _FORMATS[native.layout]((native.data, native.indices, native.indptr), shape=shape)


def compressed(group: h5py.Group, location: str) -> sparse_checks.Compressed:
    """Return the arrays of a sparse matrix, still on disk, each known to be a dataset that fits into memory."""
    layout, shape = sparse_format(group), shape_of(group, location)
    assert layout is not None
    major, minor = shape if layout == "csr" else shape[::-1]
    return arrays_of(group, (major, minor), layout, location)


def arrays_of(group: h5py.Group, shape: tuple[int, int], layout: str, location: str) -> sparse_checks.Compressed:
    """Return the three arrays of a group as those of a sparse matrix. Raises as ``dataset``."""
    data, indices, indptr = (dataset(group, name, location) for name in ("data", "indices", "indptr"))
    return sparse_checks.Compressed(data, indices, indptr, shape, layout, location)


def check_shape(element: Any, location: str, n: int, g: int) -> None:
    """Raise ``UserError`` unless a matrix is one of ``n`` cells and ``g`` features."""
    shape = shape_of(element, location)
    if len(shape) != 2:
        raise UserError(f"{location}: expected a matrix of numbers, cells by features, got one of shape {shape}")
    if shape != (n, g):
        raise UserError(
            f"{location}: the matrix is {shape[0]} x {shape[1]}, but there are {n} cell and {g} feature names; "
            "write the file again"
        )


def check_numbers(element: h5py.Dataset, location: str) -> None:
    """Raise ``UserError`` unless a dataset holds real numbers that fit into memory."""
    if element.dtype.kind not in "iufb":
        raise UserError(
            f"{location}: expected a matrix of numbers, cells by features, got {element.dtype} of shape {element.shape}"
        )
    check_size(element, location)


def check_sparse(file: h5py.Group, path: str, but: frozenset[str] = frozenset()) -> None:
    """Check every sparse matrix of a file, block by block, but those at the paths ``but``, which are read later.

    Raises
    ------
    UserError
        As ``sparse_checks.check``.
    """
    visited: set[int] = set()
    todo = [("", file)]
    while todo:
        name, group = todo.pop()
        if name in but:
            continue
        address = int(h5py.h5o.get_info(group.id).addr)
        if address in visited:
            continue
        visited.add(address)
        if sparse_format(group) is not None:
            sparse_checks.check(compressed(group, f"{path}: {name}"))
            continue
        for key in group:
            element = group[key]
            if isinstance(element, h5py.Group):
                todo.append((f"{name}/{key}" if name else str(key), element))


def group_of(parent: Any, name: str, location: str) -> h5py.Group:
    """Return a group of ``parent``; raise ``UserError`` where it is missing or no group."""
    element = parent.get(name) if isinstance(parent, h5py.Group) else None
    if not isinstance(element, h5py.Group):
        what = "is missing" if element is None else f"is {described(element)}, not a group"
        raise UserError(f"{location}{name} {what}; write the file again with a current anndata or mudata")
    return element


def dataset(group: h5py.Group, name: str, location: str) -> h5py.Dataset:
    """Return an array of ``group`` that fits into memory; raise ``UserError`` where it is missing or no array."""
    element = group.get(name)
    if not isinstance(element, h5py.Dataset) or element.shape is None:
        what = "is missing" if element is None else f"is {described(element)}, not an array"
        raise UserError(f"{location}/{name} {what}; write the file again")
    check_size(element, f"{location}/{name}")
    return element


def layers_of(group: h5py.Group, location: str) -> tuple[str, ...]:
    """Return the names of the layers of an AnnData group; raise ``UserError`` if ``layers`` is not a group."""
    return tuple(group_of(group, "layers", location)) if "layers" in group else ()


def check_text_or_numbers(values: h5py.Dataset, location: str) -> None:
    """Raise ``UserError`` unless a dataset is a list of texts or real numbers that fits into memory."""
    text = h5py.check_string_dtype(values.dtype) is not None
    if values.shape is None or len(values.shape) != 1 or not (text or values.dtype.kind in "iufb"):
        raise UserError(
            f"{location}: expected texts or numbers in one dimension, got {kind_of_values(values.dtype)} of shape "
            f"{values.shape}"
        )
    check_size(values, location)


def read_names(group: h5py.Group, name: str, location: str) -> NDArray[Any]:
    """Read a list of names or numbers; raise ``UserError`` where it is missing or something else."""
    element = dataset(group, name, location)
    check_text_or_numbers(element, f"{location}/{name}")
    return np.asarray(element[...])


def plain(value: Any) -> str:
    """Return an attribute that must be a text, an empty one if it is anything else."""
    if isinstance(value, str):  # h5py keeps bytes that are not UTF-8 as characters that cannot be printed
        value = value.encode("utf-8", "surrogateescape")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def short(value: Any) -> str:
    """Return a value as text for a message."""
    return repr(value.decode("utf-8", "replace") if isinstance(value, bytes) else value)[:60]


def kind_of_values(dtype: np.dtype[Any]) -> str:
    """Return a type as text for a message."""
    return "references or nested lists" if dtype.kind == "O" else str(dtype)[:60]


def described(element: Any) -> str:
    """Describe an element of a file."""
    if isinstance(element, h5py.Dataset):
        return f"an array of {kind_of_values(element.dtype)}"
    kind = plain(element.attrs.get("encoding-type")) if isinstance(element, h5py.Group) else ""
    return f"a group called {kind!r}" if kind else "a group that does not say what it holds"
