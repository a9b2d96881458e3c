"""One table on held-out perturbations as Markdown, CSV, LaTeX, HTML and on the console."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perturbrl.report.counterfactual.claims import Statement, statements
from perturbrl.report.counterfactual.gather import Table
from perturbrl.report.counterfactual.grids import Grid, Line, flags, grids, header
from perturbrl.report.counterfactual.names import COLUMNS, RL
from perturbrl.report.names import DASH, MINUS
from perturbrl.report.render import Cell
from perturbrl.report.tex import escape

if TYPE_CHECKING:
    from rich.console import RenderableType

_WORDS = {"better": "yes", "worse": "no", "no evidence": "open"}
_STATISTICS = ("", "calibrated/", "median/", "resistant/")


@dataclass(frozen=True)
class Sheet:
    """A table, and what is printed of it."""

    table: Table
    header: str
    claims: tuple[Statement, ...]
    grids: tuple[Grid, ...]
    flags: tuple[str, ...]


def sheet(table: Table) -> Sheet:
    """Work out what is printed of a table."""
    return Sheet(table, header(table), tuple(statements(table)), tuple(grids(table)), tuple(flags(table)))


def markdown(sheet: Sheet) -> str:
    """Return title, header, claims and every grid as GitHub-flavoured Markdown."""
    out = [f"### {sheet.table.title}", "", sheet.header, ""]
    out += [f"- {statement.text}" for statement in sheet.claims]
    for grid in sheet.grids:
        out += ["", *grid_markdown(grid)]
    out += ["", *(f"- {flag}" for flag in sheet.flags), ""]
    return "\n".join(out)


def grid_markdown(grid: Grid) -> list[str]:
    """Return the lines of one grid."""
    heads = " | ".join(c.replace("|", "\\|") for c in grid.columns)
    out = [f"#### {grid.title}", "", f"| | {heads} |", "|:--|" + "--:|" * len(grid.columns)]
    for line in grid.lines:
        label = f"**{line.label}**" if line.kind == "agent" else line.label
        label += f" — {line.mark}" if line.mark else ""
        cells = [c.value + (f" ± {c.half}" if c.half else "") for c in line.cells]
        out.append(f"| {' | '.join([label, *cells])} |")
    return [*out, "", grid.note]


def csv_text(table: Table) -> str:
    """Return full precision, one line a (row, statistic, metric): raw, calibrated, median or resistant."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("row", "kind", "coverage", "statistic", "metric", "units", "mean", "low", "high"))
    for row in table.rows:
        for prefix in _STATISTICS:
            for metric in (*COLUMNS, *(() if prefix else RL)):
                cell = row.cell(prefix + metric)
                if cell.n:
                    numbers = ("" if v != v else repr(float(v)) for v in (cell.mean, cell.low, cell.high))
                    writer.writerow(
                        (row.label, row.kind, row.coverage, prefix.rstrip("/") or "raw", metric, cell.n, *numbers)
                    )
    return out.getvalue()


def latex(sheet: Sheet) -> str:
    """Return every grid as a LaTeX ``table*`` (packages booktabs and graphicx)."""
    out: list[str] = []
    for grid in sheet.grids:
        out += [r"\begin{table*}[t]", r"\centering", rf"\caption{{{escape(f'{sheet.table.title}. {grid.title}.')}}}"]
        out += [r"\resizebox{\textwidth}{!}{%", rf"\begin{{tabular}}{{l*{{{len(grid.columns)}}}{{r}}}}", r"\toprule"]
        out += [" & ".join(["", *map(escape, grid.columns)]) + r" \\", r"\midrule"]
        out += [" & ".join([escape(line.label), *map(_tex_cell, line.cells)]) + r" \\" for line in grid.lines]
        out += [r"\bottomrule", r"\end{tabular}}", r"\par\smallskip\footnotesize\raggedright"]
        out += [escape(f"{sheet.header} {grid.note}"), r"\end{table*}", ""]
    return "\n".join(out)


def _tex_cell(cell: Cell) -> str:
    if cell.value == DASH:
        return "--"
    half = rf" \pm {cell.half}" if cell.half else ""
    return f"${cell.value.replace(MINUS, '-')}{half}$".replace(",", "{,}")


def section(sheet: Sheet, figures: str) -> str:
    """Return the section of the page: claims first, then the grids, then ``figures`` (HTML)."""
    said = "".join(f"<li>{_statement(s)}</li>" for s in sheet.claims)
    body = "".join(map(grid_html, sheet.grids))
    foot = "".join(f"<li>{_e(flag)}</li>" for flag in sheet.flags)
    return (
        f'<section id="{_e(sheet.table.slug)}"><h2>{_e(sheet.table.title)}</h2><ul class="claims">{said}</ul>'
        f'<p class="header">{_e(sheet.header)}</p>{body}<ul class="foot">{foot}</ul>{figures}</section>'
    )


def _statement(statement: Statement) -> str:
    word = statement.claim.word if statement.claim else "no evidence"
    return f'<b class="v {_WORDS[word]}">{_e(word)}</b> {_e(statement.text)}'


def grid_html(grid: Grid) -> str:
    """Return one grid for the page."""
    head = "".join(f'<th scope="col">{_e(c)}</th>' for c in grid.columns)
    body = "".join(_line(line) for line in grid.lines)
    return (
        f'<h3>{_e(grid.title)}</h3><div class="scroll"><table class="grid held"><thead><tr><th></th>{head}</tr></thead>'
        f'<tbody>{body}</tbody></table></div><p class="gridnote">{_e(grid.note)}</p>'
    )


def _line(line: Line) -> str:
    mark = f'<span class="mark">{_e(line.mark)}</span>' if line.mark else ""
    halves = (f'<span class="half">±{_e(c.half)}</span>' if c.half else "" for c in line.cells)
    cells = "".join(f"<td>{_e(c.value)}{half}</td>" for c, half in zip(line.cells, halves, strict=True))
    return f'<tr class="{line.kind}"><th scope="row">{_e(line.label)}{mark}</th>{cells}</tr>'


def _e(text: object) -> str:
    return html.escape(str(text), quote=True)


def console(sheets: Sequence[Sheet]) -> RenderableType:
    """Return what a terminal shows: claims, and the headline of each table."""
    from rich import box
    from rich.console import Group
    from rich.table import Table as Rich
    from rich.text import Text

    parts: list[RenderableType] = []
    for sheet in sheets:
        parts += [Text(sheet.table.title, style="bold"), Text(sheet.header, style="dim")]
        grid = sheet.grids[0]
        for start in range(0, len(grid.columns), 5):
            shown = Rich(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
            shown.add_column("", max_width=34)
            for column in grid.columns[start : start + 5]:
                shown.add_column(column, justify="right")
            for line in grid.lines:
                style = "bold" if line.kind == "agent" else "cyan" if line.kind == "simple" else "dim"
                cells = (c.value + (f"\n±{c.half}" if c.half else "") for c in line.cells[start : start + 5])
                shown.add_row(line.label, *cells, style=style)
            parts.append(shown)
        parts += [Text(s.text) for s in sheet.claims]
        parts.append(Text(""))
    return Group(*parts)
