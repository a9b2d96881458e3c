"""Tables in HDF5 files (obs, var), checked before anndata reads them: lengths, types of columns, codes of categories.

``location`` is ``file: path in the file``, for messages.
"""

from __future__ import annotations

import h5py
import numpy as np
import pandas as pd

from perturbrl.data.readers.elements import check_text_or_numbers, dataset, described, plain, short
from perturbrl.errors import UserError


def read_table(group: h5py.Group, location: str) -> pd.DataFrame:
    """Read obs or var.

    Raises
    ------
    UserError
        A column or the index is missing, of another length, not text or numbers, or a categorical with codes that no
        category has.
    """
    from anndata.io import read_elem

    check_table(group, location)
    return read_elem(group)


def check_table(group: h5py.Group, location: str) -> int:
    """Return the number of rows of obs or var. Raises as ``read_table``."""
    index, order = plain(group.attrs.get("_index")), group.attrs.get("column-order")
    if not index:
        raise UserError(f"{location}: it does not say which column holds the names (attribute _index); write it again")
    names = [plain(c) for c in np.atleast_1d(np.asarray(order if order is not None else [])).tolist()]
    repeated = [name for k, name in enumerate(names) if name in names[:k]] if len(set(names)) < len(names) else []
    if order is None or "" in names or repeated:
        what = f"names column {repeated[0]!r} twice" if repeated else f"is {short(order)}"
        raise UserError(f"{location}: its attribute column-order {what}, but must name every column once")
    _check_encoding(group, location)
    rows = _column_length(group, index, location)
    for name in names:
        length = _column_length(group, name, location)
        if length != rows:
            raise UserError(
                f"{location}[{name!r}] has {length} rows, but there are {rows} names in {index!r}; write the file again"
            )
    return rows


def _column_length(group: h5py.Group, name: str, location: str) -> int:
    column, column_location = group.get(name), f"{location}[{name!r}]"
    if column is not None:
        _check_encoding(column, column_location)
    if isinstance(column, h5py.Dataset):
        if "categories" in column.attrs:  # as anndata 0.7 wrote categoricals
            return _check_codes(column, _categories_of(group, column, column_location), column_location)
        return _values_length(column, column_location)
    if column is None:
        raise UserError(f"{column_location} is missing, though the table names it; write the file again")
    kind = plain(column.attrs.get("encoding-type"))
    if kind == "categorical":
        return _check_codes(
            dataset(column, "codes", column_location), dataset(column, "categories", column_location), column_location
        )
    if kind.startswith("nullable-"):
        lengths = [
            _values_length(dataset(column, part, column_location), column_location) for part in ("values", "mask")
        ]
        if lengths[0] != lengths[1]:
            raise UserError(
                f"{column_location}: there are {lengths[0]} values and {lengths[1]} mask entries; write it again"
            )
        return lengths[0]
    raise UserError(f"{column_location} is {described(column)}, but a column must be text, numbers or a categorical")


def _check_encoding(element: h5py.Group | h5py.Dataset, location: str) -> None:
    for name in ("encoding-type", "encoding-version"):
        value = element.attrs.get(name, "")
        if not isinstance(value, str | bytes) or "\ufffd" in plain(value):
            raise UserError(f"{location}: its attribute {name} is {short(value)}, but must be a text; write it again")


def _values_length(values: h5py.Dataset, location: str) -> int:
    check_text_or_numbers(values, location)
    return int(values.shape[0])


def _categories_of(group: h5py.Group, column: h5py.Dataset, location: str) -> h5py.Dataset:
    """Return the categories that an attribute of a column of codes refers to."""
    try:
        categories = group[column.attrs["categories"]]
    except (KeyError, OSError, RuntimeError, TypeError, ValueError):
        categories = None
    if not isinstance(categories, h5py.Dataset):
        raise UserError(f"{location}: its attribute categories does not lead to a list of categories; write it again")
    return categories


def _check_codes(codes: h5py.Dataset, categories: h5py.Dataset, location: str) -> int:
    check_text_or_numbers(categories, f"{location}/categories")
    if len(codes.shape) != 1 or codes.dtype.kind not in "iu":
        raise UserError(
            f"{location}/codes: expected integers in one dimension, got {codes.dtype} of shape {codes.shape}"
        )
    n = int(categories.shape[0])
    values = codes[...]
    bad = np.flatnonzero((values < -1) | (values >= n))
    if len(bad):
        raise UserError(
            f"{location}: code {int(values[bad[0]])} in row {int(bad[0])} names none of the {n} categories; "
            "codes go from -1 (missing) to the number of categories less one"
        )
    _check_different(categories, location)
    return int(codes.shape[0])


def _check_different(categories: h5py.Dataset, location: str) -> None:
    values = pd.Index(categories[...])
    if not values.is_unique:
        raise UserError(
            f"{location}: the category {short(values[values.duplicated()][0])} is there twice; merge the two"
        )
