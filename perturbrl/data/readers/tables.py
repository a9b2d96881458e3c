"""Read expression tables: .csv, .tsv, .txt (plain or gzipped), .xlsx, or one of these in a folder or zip archive."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from perturbrl.config import choice
from perturbrl.data.readers.columns import COMMON
from perturbrl.data.readers.opened import CellFile, Part, listed, text
from perturbrl.errors import UserError

_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")
_ANNOTATIONS = frozenset(name for names in COMMON.values() for name in names) - {"gene", "target", "control"}


@dataclass(frozen=True)
class Layout:
    """``rows`` are ``cells`` or ``genes``; ``member`` of a folder or archive; ``sheet`` of an .xlsx; genes to drop."""

    rows: str
    member: str | None
    sheet: str | None
    drop: tuple[str, ...]


def is_table(path: Path) -> bool:
    """Return whether ``open_table`` reads this path, by its suffix; a folder must have no Matrix Market file."""
    if path.is_dir():
        return not any(p.name.endswith(("matrix.mtx", "matrix.mtx.gz")) for p in path.iterdir())
    return path.name.lower().endswith((*_SUFFIXES, ".zip", ".xlsx"))


def open_table(path: Path, layout: Layout) -> CellFile:
    """Open a table of RNA whose first column, or first row, holds names.

    Raises
    ------
    UserError
        No table or several tables, a table that cannot be parsed, or a column of numbers with another value.
    """
    choice(layout.rows, ("cells", "genes"), "source.rows")
    table, location = _load(path, layout)
    if layout.rows == "genes":
        table = table.T
    numeric, annotations = [], []
    for name in table.columns:
        values = pd.to_numeric(table[name], errors="coerce")
        bad = values.isna() & table[name].notna()
        if bad.mean() > 0.5 or str(name).lower() in _ANNOTATIONS:
            annotations.append(name)
        elif bad.any():
            row = table.index[int(np.flatnonzero(bad)[0])]
            raise UserError(
                f"{location}: {table.loc[row, name]!r} in row {str(row)!r}, column {str(name)!r} is not a number"
            )
        elif name not in layout.drop:
            numeric.append(name)
    if not numeric or not len(table):
        raise UserError(
            f"{location}: no numbers found ({len(table)} rows, {len(table.columns)} columns); is source.rows right?"
        )
    cells = text(table.index)
    x = table[numeric].apply(pd.to_numeric).to_numpy()
    obs = pd.DataFrame({str(c): table[c].to_numpy() for c in annotations}, index=pd.Index(cells))
    part = Part(Path(location).name, np.ascontiguousarray(x), text(numeric), cells, (), False)
    return CellFile(path, "table", {"rna": part}, obs, ())


def _load(path: Path, layout: Layout) -> tuple[pd.DataFrame, str]:
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_dir():
        names = [str(p.relative_to(path)) for p in sorted(path.rglob("*")) if p.is_file()]
        file = path / _pick(names, layout.member, path)
        return _parse(file, file.name, layout, str(file)), str(file)
    if path.name.lower().endswith(".zip"):
        try:
            with zipfile.ZipFile(path) as archive:
                name = _pick(archive.namelist(), layout.member, path)
                with archive.open(name) as stream:
                    return _parse(stream, name, layout, f"{path}/{name}"), f"{path}/{name}"
        except (zipfile.BadZipFile, EOFError) as error:
            raise UserError(f"{path}: not a readable zip archive ({error}); download it again") from None
    return _parse(path, path.name, layout, str(path)), str(path)


def _pick(names: list[str], member: str | None, path: Path) -> str:
    tables = [n for n in names if n.lower().endswith((*_SUFFIXES, ".xlsx")) and "readme" not in n.lower()]
    if member is not None:
        tables = [n for n in tables if n == member or n.endswith(f"/{member}")]
    if len(tables) != 1:
        candidates = f"{len(tables)} tables" if member is None else f"{len(tables)} tables named {member!r}"
        raise UserError(
            f"{path}: {candidates} in it ({listed(tables or names, 12)}); say which with source.member=NAME"
        )
    return tables[0]


def _parse(source: Path | IO[bytes], name: str, layout: Layout, location: str) -> pd.DataFrame:
    options: dict[str, Any] = {"index_col": 0}
    try:
        if name.lower().endswith(".xlsx"):
            table = pd.read_excel(source, sheet_name=layout.sheet or 0, **options)
        else:
            compression = "gzip" if name.lower().endswith(".gz") else None
            separator = "," if ".csv" in name.lower() else "\t"
            table = pd.read_csv(source, sep=separator, compression=compression, **options)
    except ImportError:
        raise UserError(
            f"{location}: reading .xlsx needs openpyxl; run: pip install openpyxl, or save the sheet as .csv"
        ) from None
    except MemoryError:
        raise UserError(f"{location}: the table does not fit into memory") from None
    except Exception as error:  # pandas and openpyxl raise many kinds on a bad file
        raise UserError(f"{location}: not a readable table ({(str(error).splitlines() or [''])[0][:120]})") from None
    return table
