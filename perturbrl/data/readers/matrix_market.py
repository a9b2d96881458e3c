"""Read Matrix Market files, plain or gzipped; the header is checked before memory is allocated."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from scipy import sparse

from perturbrl.data.readers.number_lines import CheckedLines
from perturbrl.data.readers.opened import memory_bytes
from perturbrl.errors import UserError

MOST_PACKED = 1032
"""Largest compression factor of gzip."""
MOST_NAMES = 1 << 30
"""Most bytes of an unpacked table of names: five times what 10 million cells need."""
_SHORTEST_LINE = {"pattern": 4, "integer": 6, "real": 6}  # "1 1\n", "1 1 1\n"
_LONGEST_LINE = 4096
_MOST_COMMENTS = 10_000


@dataclass(frozen=True)
class Header:
    """``rows`` and ``columns`` of the matrix, and the ``entries`` from byte ``start`` on (``dense``: all of them)."""

    rows: int
    columns: int
    entries: int
    field: str
    dense: bool
    start: int


def read_header(path: Path) -> Header:
    """Read the first lines of a file.

    Raises
    ------
    UserError
        The lines are no header of a general matrix of real numbers, or declare more entries than the file can hold.
    """
    try:
        words, sizes, start = _first_lines(path)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path}: not a readable Matrix Market file ({_first_line(error)})") from None
    layout, field, symmetry = words[2:]
    dense = layout == "array"
    if layout not in ("array", "coordinate") or field not in _SHORTEST_LINE or symmetry != "general":
        raise UserError(
            f"{path}: a Matrix Market file of kind {' '.join(words[2:])!r} is not read; expected "
            "'coordinate integer general' or 'coordinate real general'"
        )
    if len(sizes) != (2 if dense else 3) or min(sizes) < 0:
        raise UserError(f"{path}: not a readable Matrix Market file (its sizes are {' '.join(map(str, sizes))!r})")
    entries = sizes[0] * sizes[1] if dense else sizes[2]
    least = entries * (2 if dense else _SHORTEST_LINE[field])
    size = path.stat().st_size
    if least > size * (MOST_PACKED if path.name.endswith(".gz") else 1):
        raise UserError(
            f"{path}: the header promises {entries} entries, but the file is too short for them; copy it again"
        )
    if entries > sizes[0] * sizes[1]:
        raise UserError(f"{path}: the header promises {entries} entries, but the matrix is {sizes[0]} x {sizes[1]}")
    if entries * 16 > memory_bytes():
        raise UserError(f"{path}: {entries} entries do not fit into memory")
    return Header(sizes[0], sizes[1], entries, field, dense, start)


def read(path: Path, header: Header) -> sparse.csr_matrix:
    """Read the matrix, transposed: columns of the file are rows.

    Raises
    ------
    UserError
        An entry is no number, lies outside the matrix, is missing, surplus or given twice.
    """
    from scipy.io import mmread

    try:
        with _unpacked(path) as stream:
            lines = CheckedLines(stream, header.start, header.field)
            x = sparse.csr_matrix(mmread(lines).T)
    except (ValueError, OSError, EOFError, OverflowError, zlib.error) as error:
        raise UserError(f"{path}: not a readable Matrix Market file ({_first_line(error)})") from None
    fields = 1 if header.dense else 2 if header.field == "pattern" else 3
    if lines.words != header.entries * fields:
        raise UserError(f"{path}: {lines.words} words in {header.entries} entries; each must have {fields}")
    if x.shape != (header.columns, header.rows) or (not header.dense and x.nnz != header.entries):
        raise UserError(
            f"{path}: the header promises {header.entries} entries, but they fill {x.nnz} places; "
            "an entry is given twice"
        )
    return x


def check_unpacked(path: Path) -> None:
    """Raise ``UserError`` if a gzipped table of names is absurdly large when unpacked."""
    if not path.name.endswith(".gz") or path.stat().st_size * MOST_PACKED <= MOST_NAMES:
        return
    size = 0
    try:
        with gzip.open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                size += len(block)
                if size > MOST_NAMES:
                    raise UserError(f"{path}: unpacks to more than {MOST_NAMES >> 30} GiB, which no list of names does")
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a readable gzip file ({_first_line(error)}); copy it again") from None


def _first_lines(path: Path) -> tuple[list[str], list[int], int]:
    """Return the words of the banner, the sizes, and the byte at which the entries start."""
    with _unpacked(path) as stream:
        words = stream.readline(_LONGEST_LINE).decode("ascii").lower().split()
        if len(words) != 5 or words[:2] != ["%%matrixmarket", "matrix"]:
            raise ValueError("it does not start with '%%MatrixMarket matrix'")
        for _ in range(_MOST_COMMENTS):
            line = stream.readline(_LONGEST_LINE)
            if not line:
                raise ValueError("it ends before the sizes of the matrix")
            if line.strip() and not line.startswith(b"%"):
                return words, [int(word) for word in line.split()], stream.tell()
        raise ValueError(f"more than {_MOST_COMMENTS} lines of comments")


def _unpacked(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.name.endswith(".gz") else path.open("rb")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:100]
