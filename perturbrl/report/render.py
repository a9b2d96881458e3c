"""One table as Markdown, CSV, LaTeX (booktabs) and on the console."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table as Grid
from rich.text import Text

from perturbrl.report.names import COLUMNS, DASH, HEADINGS, MINUS, PROPOSED, number
from perturbrl.report.tables import Row, Table
from perturbrl.report.tex import escape
from perturbrl.report.verdict import released, true_task

PUBLISHED, DIFFERENCE, LATER = "published", "difference", "published, equal budgets"


@dataclass(frozen=True)
class Cell:
    """What stands in one cell: the value, and half of its interval (empty where there is none)."""

    value: str
    half: str = ""


@dataclass(frozen=True)
class Line:
    """One printed line. ``kind`` is floor, agent, published, difference or later."""

    label: str
    kind: str
    cells: dict[str, Cell]
    mark: str = ""


def lines(table: Table) -> Iterator[Line]:
    """Yield the lines of a table: floors, then each agent with the published values and the differences under it."""
    for row in table.rows:
        kind = "agent" if row.agent else "floor"
        label = "do_nothing (floor)" if row.label == "do_nothing" else row.label
        yield Line(label, kind, {m: _cell(row, m) for m in COLUMNS}, row.mark)
        if row.published:
            yield Line(PUBLISHED, "published", {m: _plain(row.published.get(m), m) for m in COLUMNS})
            yield Line(DIFFERENCE, "difference", {m: _plain(row.difference(m), m, signed=True) for m in COLUMNS})
        if row.later:
            yield Line(LATER, "later", {m: _plain(row.later.get(m), m) for m in COLUMNS})


def _cell(row: Row, metric: str) -> Cell:
    interval = row.cells[metric]
    signed = metric == "return_gain"
    spread = interval.half
    if spread == 0.0 and not row.agent:
        spread = None  # a floor that does not depend on the seed
    half = "" if spread is None else number(spread, metric)
    return Cell(number(interval.mean, metric, signed), half)


def _plain(value: float | None, metric: str, signed: bool = False) -> Cell:
    return Cell("" if value is None else number(value, metric, signed))


def markdown(table: Table) -> str:
    """Return the table as GitHub-flavoured Markdown, title and footer included."""
    out = [f"### {table.title}", "", _pipes(["", *(HEADINGS[m].replace("|", "\\|") for m in COLUMNS)])]
    out.append("|:--|" + "--:|" * len(COLUMNS))
    for line in lines(table):
        label = {"agent": f"**{line.label}**", "floor": line.label}.get(line.kind, f"*{line.label}*")
        label = f"{label} — {line.mark}" if line.mark else label
        cells = [c.value + (f" ± {c.half}" if c.half else "") for c in line.cells.values()]
        out.append(_pipes([label, *cells]))
    out += ["", *(f"- {text}" for text in (str(table.within), *table.footer)), ""]
    return "\n".join(out)


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def csv_text(table: Table) -> str:
    """Return the table in full precision: one line a (row, metric), empty where there is no value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = ("mean", "low", "high", "published", "difference", "published_equal_budgets")
    writer.writerow(("row", "kind", "seeds", "diverged", "metric", *columns))
    for row in table.rows:
        for metric in COLUMNS:
            cell = row.cells[metric]
            ours = (cell.mean, cell.low, cell.high)
            theirs = (row.published.get(metric), row.difference(metric), row.later.get(metric))
            spelled = ("" if v is None or v != v else repr(float(v)) for v in (*ours, *theirs))
            writer.writerow((row.label, "agent" if row.agent else "floor", row.n, row.diverged, metric, *spelled))
    return out.getvalue()


def latex(table: Table) -> str:
    """Return the table as a LaTeX ``table*`` (packages booktabs and graphicx)."""
    heads = ["", *(escape(HEADINGS[m]) for m in COLUMNS)]
    out = [r"\begin{table*}[t]", r"\centering", rf"\caption{{{escape(table.title)}. {escape(str(table.within))}}}"]
    out += [rf"\label{{tab:{re.sub(r'[^A-Za-z0-9-]+', '-', table.slug)}}}", r"\resizebox{\textwidth}{!}{%"]
    out += [rf"\begin{{tabular}}{{l*{{{len(COLUMNS)}}}{{r}}}}", r"\toprule", " & ".join(heads) + r" \\", r"\midrule"]
    previous = ""
    for line in lines(table):
        if line.kind == "agent" and previous:
            out.append(r"\midrule" if previous == "floor" else r"\addlinespace")
        sub = line.kind not in ("agent", "floor")
        label = rf"\quad\textit{{{escape(line.label)}}}" if sub else rf"\texttt{{{escape(line.label)}}}"
        label += rf" \textit{{{escape(line.mark)}}}" if line.mark else ""
        out.append(" & ".join([label, *(_tex_cell(c) for c in line.cells.values())]) + r" \\")
        previous = line.kind
    out += [r"\bottomrule", r"\end{tabular}}", r"\par\smallskip\footnotesize\raggedright"]
    out += [escape(" ".join(table.footer)), r"\end{table*}", ""]
    return "\n".join(out)


def _tex_cell(cell: Cell) -> str:
    if not cell.value or cell.value == DASH:
        return escape(cell.value)
    half = rf" \pm {cell.half}" if cell.half else ""
    return f"${cell.value.replace(MINUS, '-')}{half}$"


class ConsoleTable:
    """A table for rich, its columns in as many blocks as the terminal's width asks for."""

    def __init__(self, table: Table, left_out: Sequence[str] = ()) -> None:
        self.table, self.left_out = table, left_out

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render for the width at hand."""
        yield Text(self.table.title, style="bold")
        for columns in self._blocks(console, options):
            yield self._grid(columns)
        yield Text(str(self.table.within), style="bold")
        for text in self.table.footer:
            if text not in self.left_out:
                yield Text(text, style="dim")

    def _blocks(self, console: Console, options: ConsoleOptions) -> list[Sequence[str]]:
        unbounded = options.update(max_width=10_000)
        for size in (len(COLUMNS), 6, 4, 3, 2):
            blocks: list[Sequence[str]] = [COLUMNS[k : k + size] for k in range(0, len(COLUMNS), size)]
            if all(console.measure(self._grid(b), options=unbounded).maximum <= options.max_width for b in blocks):
                return blocks
        return [(metric,) for metric in COLUMNS]

    def _grid(self, columns: Sequence[str]) -> Grid:
        grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        grid.add_column("", max_width=20 if len(columns) < len(COLUMNS) else None)
        for metric in columns:
            grid.add_column(HEADINGS[metric], justify="right", no_wrap=True)
        styles = {"agent": "bold", "floor": "cyan"}
        before = ""
        for line in lines(self.table):
            if line.kind == "agent" and before:
                grid.add_section()
            style = styles.get(line.kind, "dim")
            label = Text(line.label if line.kind in styles else f"  {line.label}", style=style)
            grid.add_row(label, *(self._cell(line.cells[m], style) for m in columns))
            if line.mark:
                grid.add_row(Text(f"  {line.mark}", style="red"))
            before = line.kind
        return grid

    @staticmethod
    def _cell(cell: Cell, style: str) -> Text:
        text = Text(cell.value, style=style)
        return text.append(f"\n±{cell.half}", style="dim not bold") if cell.half else text


def console(tables: Sequence[Table]) -> RenderableType:
    """Return what a terminal shows of all tables; what is true of each stands once, below the last."""
    footers = [table.footer for table in tables]
    shared = [text for text in footers[0] if all(text in footer for footer in footers)] if len(tables) > 1 else []
    parts = [part for table in tables for part in (ConsoleTable(table, shared), Text(""))]
    return Group(*parts, *(Text(text, style="dim") for text in ([*shared, ""] if shared else [])))


def verdicts(tables: Sequence[Table]) -> RenderableType:
    """Return one line a table: whether the proposed method won, and how many published cells ours lies close to."""
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    grid.add_column(f"Verdict: did {PROPOSED} win?")
    for heading in ("released\nmetric", "true\ntask", "published\nwithin 0.05", "published\nwithin 0.10"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for table in tables:
        within = table.within
        near = (f"{n} of {within.cells}" if within.cells else DASH for n in (within.by_005, within.by_010))
        grid.add_row(table.title, released(table).answer, true_task(table).answer, *near)
    return grid
