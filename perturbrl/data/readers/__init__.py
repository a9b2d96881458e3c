"""Readers: from a file or folder to ``RawCells``, in two steps (open leniently, then check strictly)."""

from perturbrl.data.readers.cells import assemble, open_file, read_file, sha256_of
from perturbrl.data.readers.columns import ColumnKeys, map_columns
from perturbrl.data.readers.opened import CellFile, Part

__all__ = ["CellFile", "ColumnKeys", "Part", "assemble", "map_columns", "open_file", "read_file", "sha256_of"]
