"""From run directories to a report on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perturbrl import status
from perturbrl.errors import UserError
from perturbrl.files import write_text
from perturbrl.report.collect import Collection, collect
from perturbrl.report.counterfactual.gather import gather
from perturbrl.report.counterfactual.render import Sheet, sheet
from perturbrl.report.style import Picture
from perturbrl.report.tables import Table, build_tables

if TYPE_CHECKING:
    from rich.console import RenderableType

ALL_DRAWN, FEW_DRAWN = 6, 3  # up to so many tables each has figures of its own, else so few and one figure over all


@dataclass(frozen=True)
class Report:
    """What was written (``page`` first in ``files``), and what a terminal shows.

    ``tables`` are Tables I-III and their like, ``held_out`` those on held-out perturbations.
    """

    page: Path
    files: tuple[Path, ...]
    tables: tuple[Table, ...]
    held_out: tuple[Sheet, ...]
    collection: Collection
    console: RenderableType


def build_report(where: Sequence[str | Path], out: Path, figures: bool = True) -> Report:
    """Read the runs under ``where`` and write tables, figures and ``report.html`` into the folder ``out``.

    Figures of their own for a sweep's hundred tables would take minutes and make a page of 100 MB: of more than
    ``ALL_DRAWN`` tables only ``FEW_DRAWN`` have them, and one figure shows all tables.

    Raises
    ------
    UserError
        No finished run was found, or ``out`` cannot be written.
    """
    from perturbrl.report import figures as of_table
    from perturbrl.report import overview
    from perturbrl.report.counterfactual import figures as of_held_out
    from perturbrl.report.counterfactual import render
    from perturbrl.report.counterfactual.across import across
    from perturbrl.report.page import OVERVIEW, page
    from perturbrl.report.render import csv_text, latex, markdown

    with status.step("reading runs"):
        collection = collect(where)
    with status.step("tables: intervals and tests"):
        tables = build_tables(collection)
        held_out = [sheet(table) for table in gather(collection)]
    written: list[Path] = []

    def write(name: str, text: str) -> Path:
        file = out / name
        write_text(file, text)
        written.append(file)
        return file

    try:
        pictures: dict[str, list[Picture]] = {}
        if figures:
            (out / "figures").mkdir(parents=True, exist_ok=True)
            many = len(tables) > ALL_DRAWN
            drawn = tables[:FEW_DRAWN] if many else tables
            with status.step("drawing figures"):
                pictures = {table.slug: of_table.draw(table, out / "figures") for table in drawn}
                if many:
                    pictures[OVERVIEW] = [overview.draw(tables, out / "figures")]
                for one in held_out[:ALL_DRAWN]:
                    pictures[one.table.slug] = of_held_out.draw(one.table, out / "figures")
        with status.step("writing the page"):
            over = across([one.table for one in held_out])
            html = write("report.html", page(collection, tables, held_out, over, pictures))
        summary = ["\n".join([*render.grid_markdown(over), ""])] if over else []
        write("tables.md", "\n".join([*summary, *map(render.markdown, held_out), *map(markdown, tables)]))
        for one in held_out:
            write(f"tables/{one.table.slug}.csv", render.csv_text(one.table))
            write(f"tables/{one.table.slug}.tex", render.latex(one))
        for table in tables:
            write(f"tables/{table.slug}.csv", csv_text(table))
            write(f"tables/{table.slug}.tex", latex(table))
        write("values.csv", collection.frame.to_csv(index=False, lineterminator="\n"))
    except OSError as error:
        raise UserError(f"{error.filename or out}: the report cannot be written: {error.strerror or error}") from error
    written += [file for made in pictures.values() for picture in made for file in (picture.png, picture.svg)]
    shown = _console(collection, tables, held_out, html)
    return Report(html, tuple(written), tuple(tables), tuple(held_out), collection, shown)


def _console(collection: Collection, tables: Sequence[Table], held_out: Sequence[Sheet], html: Path) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from perturbrl.report.counterfactual import render
    from perturbrl.report.render import console, verdicts

    left_out = [Text(f"left out: {item.run}: {item.reason}", style="yellow") for item in collection.incomplete[:10]]
    if (more := len(collection.incomplete) - len(left_out)) > 0:
        left_out.append(Text(f"and {more} more runs left out; {html} lists them", style="yellow"))
    answers = [verdicts(tables)] if tables else []
    return Group(render.console(held_out), console(tables), *left_out, *answers, Text(f"report: {html}", style="bold"))
