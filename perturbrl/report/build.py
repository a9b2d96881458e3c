"""From run directories to a report on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perturbrl.errors import UserError
from perturbrl.report.collect import Collection, collect
from perturbrl.report.tables import Table, build_tables

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Report:
    """What was written (``page`` first in ``files``), and what a terminal shows."""

    page: Path
    files: tuple[Path, ...]
    tables: tuple[Table, ...]
    collection: Collection
    console: RenderableType


def build_report(where: Sequence[str | Path], out: Path, figures: bool = True) -> Report:
    """Read the runs under ``where`` and write tables, figures and ``report.html`` into the folder ``out``.

    Raises
    ------
    UserError
        No finished run was found, or ``out`` cannot be written.
    """
    from perturbrl.report.figures import draw
    from perturbrl.report.page import page
    from perturbrl.report.render import csv_text, latex, markdown

    collection = collect(where)
    tables = build_tables(collection)
    written: list[Path] = []

    def write(name: str, text: str) -> Path:
        file = out / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="\n")
        written.append(file)
        return file

    try:
        pictures = {}
        if figures:
            (out / "figures").mkdir(parents=True, exist_ok=True)
            pictures = {table.slug: draw(table, out / "figures") for table in tables}
        html = write("report.html", page(collection, tables, pictures))
        write("tables.md", "\n".join(markdown(table) for table in tables))
        for table in tables:
            write(f"tables/{table.slug}.csv", csv_text(table))
            write(f"tables/{table.slug}.tex", latex(table))
        write("values.csv", collection.frame.to_csv(index=False, lineterminator="\n"))
    except OSError as error:
        raise UserError(f"{error.filename or out}: the report cannot be written: {error.strerror or error}") from error
    written += [file for made in pictures.values() for picture in made for file in (picture.png, picture.svg)]
    return Report(html, tuple(written), tuple(tables), collection, _console(collection, tables, html))


def _console(collection: Collection, tables: Sequence[Table], html: Path) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from perturbrl.report.page import summary_lines
    from perturbrl.report.render import console

    left_out = [Text(f"left out: {item.run}: {item.reason}", style="yellow") for item in collection.incomplete[:10]]
    if (more := len(collection.incomplete) - len(left_out)) > 0:
        left_out.append(Text(f"and {more} more runs left out; {html} lists them", style="yellow"))
    answers = [Text(line) for line in summary_lines(tables)]
    return Group(console(tables), *answers, *left_out, Text(f"report: {html}", style="bold"))
