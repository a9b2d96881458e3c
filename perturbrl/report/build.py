"""From run directories to a report on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perturbrl import status
from perturbrl.errors import UserError
from perturbrl.files import write_text
from perturbrl.report import comparisons_section, fates, held_out_section, paper
from perturbrl.report.claims import Family
from perturbrl.report.collect import Collection, collect
from perturbrl.report.comparisons import compare
from perturbrl.report.held_out import HeldOutTable, gather
from perturbrl.report.paper import PaperTable, build_tables
from perturbrl.report.recorded import Settings
from perturbrl.report.style import Picture
from perturbrl.report.table import Section

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
    tables: tuple[PaperTable, ...]
    held_out: tuple[Section, ...]
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
    from perturbrl.report import exports
    from perturbrl.report.across import across
    from perturbrl.report.page import page
    from perturbrl.report.render import csv_text, document, grid_markdown, latex, markdown

    with status.step("reading runs"):
        collection = collect(where)
    with status.step("tables: intervals and tests"):
        tables, held_out = build_tables(collection), gather(collection)
        family = Family.of(held_out)
        compared = compare(tables, held_out)
        sections = [*(held_out_section.section(t, family) for t in held_out), *map(paper.section, tables)]
        sections = [comparisons_section.with_pairs(s, compared.get(s.slug, ())) for s in sections]
        steered = fates.build_tables(collection)
        sections += map(fates.section, steered)
    written: list[Path] = []

    def write(name: str, text: str) -> Path:
        file = out / name
        write_text(file, text)
        written.append(file)
        return file

    try:
        with status.step("drawing figures"):
            pictures = _draw(tables, held_out, steered, collection.differing, out / "figures") if figures else {}
            pictures |= fates.draw(steered, out / "figures") if figures else {}
        with status.step("writing the page"):
            over = across(held_out)
            html = write("report.html", page(collection, tables, sections, over, pictures))
        summary = ["\n".join([*grid_markdown(over), ""])] if over else []
        write("tables.md", "\n".join([*summary, *map(markdown, sections)]))
        write("tables.tex", document(sections))
        for section in sections:
            write(f"tables/{section.slug}.csv", csv_text(section))
            write(f"tables/{section.slug}.tex", latex(section))
        if compared:
            write(comparisons_section.FILE, comparisons_section.values(compared))
        for name, frame in (("values.csv", exports.values(collection)), ("curves.csv", exports.curves(collection))):
            write(name, frame.to_csv(index=False, lineterminator="\n"))
    except OSError as error:
        raise UserError(f"{error.filename or out}: the report cannot be written: {error.strerror or error}") from error
    written += [file for made in pictures.values() for picture in made for file in (picture.png, picture.svg)]
    shown = _console(collection, tables, sections, html)
    return Report(html, tuple(written), tuple(tables), tuple(sections[: len(held_out)]), collection, shown)


def _draw(
    tables: Sequence[PaperTable],
    held_out: Sequence[HeldOutTable],
    steered: Sequence[fates.FateTable],
    differing: Mapping[str, Settings],
    folder: Path,
) -> dict[str, list[Picture]]:
    """Return the figures of each table by its slug, and those over several tables by ``OVERVIEW``."""
    from perturbrl.report import held_out_figures, overview, paper_figures, swept
    from perturbrl.report.page import OVERVIEW

    folder.mkdir(parents=True, exist_ok=True)
    many = len(tables) > ALL_DRAWN
    pictures = {t.slug: paper_figures.draw(t, folder) for t in (tables[:FEW_DRAWN] if many else tables)}
    numbers = swept.figures(tables, held_out, steered, differing, folder)
    over = [*numbers, *([overview.draw(tables, folder)] if many else [])]
    if over:
        pictures[OVERVIEW] = over
    return pictures | {t.slug: held_out_figures.draw(t, folder) for t in held_out[:ALL_DRAWN]}


def _console(
    collection: Collection, tables: Sequence[PaperTable], sections: Sequence[Section], html: Path
) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from perturbrl.report.console import console, verdicts
    from perturbrl.report.verdict import judged

    left_out = [Text(f"left out: {item.run}: {item.reason}", style="yellow") for item in collection.incomplete[:10]]
    if (more := len(collection.incomplete) - len(left_out)) > 0:
        left_out.append(Text(f"and {more} more runs left out; {html} lists them", style="yellow"))
    answers = [verdicts(shown)] if (shown := judged(tables)) else []
    return Group(console(sections), *left_out, *answers, Text(f"report: {html}", style="bold"))
