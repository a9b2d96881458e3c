"""A section as Markdown, CSV and LaTeX, and what they all share."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from perturbrl.report.table import Cell, Grid, Line, Section
from perturbrl.report.text import DASH, MINUS, escape_tex

PACKAGES = r"\usepackage{booktabs,graphicx}"  # of LaTeX, for every table
GEOMETRY = r"\usepackage[landscape,margin=15mm]{geometry}"


def markdown(section: Section) -> str:
    """Return the section as GitHub-flavoured Markdown."""
    out = [f"### {section.title}"]
    out += ["", section.summary] if section.summary else []
    out += ["", *(f"- {claim.text}" for claim in section.claims)] if section.claims else []
    for grid in section.grids:
        out += ["", *grid_markdown(grid)]
    if listed := [text for text in (section.result, *section.notes, *section.remarks) if text]:
        out += ["", *(f"- {text}" for text in listed)]
    return "\n".join([*out, ""])


def grid_markdown(grid: Grid) -> list[str]:
    """Return the lines of one grid."""
    out = [f"#### {grid.title}", ""] if grid.title else []
    out.append(_pipes(["", *(column.replace("|", "\\|") for column in grid.columns)]))
    out.append("|:--|" + "--:|" * len(grid.columns))
    for line in grid.lines:
        label = f"**{line.label}**" if line.kind == "agent" else f"*{line.label}*" if line.below else line.label
        out.append(_pipes([f"{label} — {line.mark}" if line.mark else label, *map(str, line.cells)]))
    return [*out, "", grid.note] if grid.note else out


def _pipes(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def csv_text(section: Section) -> str:
    """Return the values in full precision, empty where there is none."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([_full(value) for value in line] for line in section.values)
    return out.getvalue()


def _full(value: object) -> object:
    if isinstance(value, float):
        return "" if value != value else repr(float(value))
    return "" if value is None else value


def document(sections: Sequence[Section]) -> str:
    """Return a LaTeX document of all tables that compiles by itself, a page for each table."""
    head = [r"\documentclass{article}", PACKAGES, GEOMETRY, r"\begin{document}", ""]
    tables = (latex(section).replace("\\end{table*}", "\\end{table*}\n\\clearpage") for section in sections)
    return "\n".join([*head, *tables, r"\end{document}", ""])


def latex(section: Section) -> str:
    """Return every grid as a LaTeX ``table*``, to be read into a document by ``input``."""
    out = [f"% The document needs {PACKAGES}"]
    label = re.sub(r"[^A-Za-z0-9-]+", "-", section.slug)
    for k, grid in enumerate(section.grids):
        out += [r"\begin{table*}[t]", r"\centering", rf"\caption{{{_caption(section, grid)}}}"]
        out += [rf"\label{{tab:{label}{f'-{k}' if k else ''}}}", r"\resizebox{\textwidth}{!}{%"]
        out += [rf"\begin{{tabular}}{{l*{{{len(grid.columns)}}}{{r}}}}", r"\toprule"]
        out += [" & ".join(["", *map(escape_tex, grid.columns)]) + r" \\", r"\midrule"]
        previous = ""
        for line in grid.lines:
            if line.kind == "agent" and previous:
                out.append(r"\addlinespace" if previous in ("agent", "below") else r"\midrule")
            out.append(" & ".join([_tex_label(line), *map(_tex_cell, line.cells)]) + r" \\")
            previous = "below" if line.below else line.kind
        out += [r"\bottomrule", r"\end{tabular}}", r"\par\smallskip\footnotesize\raggedright"]
        notes = (section.summary, section.result, grid.note, *section.notes)
        out += [escape_tex(" ".join(filter(None, notes))), r"\end{table*}", ""]
    return "\n".join(out)


def _caption(section: Section, grid: Grid) -> str:
    """Say what the table shows in one sentence or two; results and notes stand below it."""
    heading = section.title.replace(" · ", ", ")
    return escape_tex(" ".join(f"{text}." for text in (heading, grid.title) if text))


def _tex_label(line: Line) -> str:
    label = escape_tex(line.label)
    label = rf"\quad\textit{{{label}}}" if line.below else rf"\texttt{{{label}}}" if line.kind == "agent" else label
    return rf"{label} \textit{{{escape_tex(line.mark)}}}" if line.mark else label


def _tex_cell(cell: Cell) -> str:
    if not cell.value or cell.value == DASH or any(letter.isalpha() for letter in cell.value):
        return escape_tex(cell.value)
    half = rf" \pm {cell.half}" if cell.half else ""
    return f"${cell.value.replace(MINUS, '-')}{half}$".replace(",", "{,}")
