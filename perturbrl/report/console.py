"""What a terminal shows of a report."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from perturbrl.report.paper import PaperTable
from perturbrl.report.published import PROPOSED
from perturbrl.report.table import Cell, Grid, Section
from perturbrl.report.text import DASH
from perturbrl.report.verdict import released, true_task

STYLES = {"agent": "bold", "floor": "cyan", "simple": "cyan"}
LABEL_WIDTH = 20  # letters, where the columns do not fit side by side


class ConsoleGrid:
    """A grid for rich, its columns in as many blocks as the terminal's width asks for."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render for the width at hand."""
        n = len(self.grid.columns)
        unbounded = options.update(max_width=10_000)
        for size in (n, 6, 5, 4, 3, 2, 1):
            blocks = [self._block(slice(k, k + size), whole=size == n) for k in range(0, n, size)]
            if size == 1 or all(console.measure(b, options=unbounded).maximum <= options.max_width for b in blocks):
                break
        yield from blocks

    def _block(self, shown: slice, whole: bool) -> Table:
        table = _plain_table()
        table.add_column("", max_width=None if whole else LABEL_WIDTH, overflow="fold")  # cut labels would be alike
        for column in self.grid.columns[shown]:
            table.add_column(column if whole else column.replace(" ", "\n"), justify="right", no_wrap=True)
        for k, line in enumerate(self.grid.lines):
            if line.kind == "agent" and k:
                table.add_section()
            style = STYLES.get(line.kind, "dim")
            table.add_row(
                Text(f"  {line.label}" if line.below else line.label if whole else _broken(line.label), style=style),
                *(_cell(cell, style) for cell in line.cells[shown]),
            )
            if line.mark:
                table.add_row(Text(f"  {line.mark}", style="red"))
        return table


def _broken(label: str) -> str:
    """Break a label that is too long where a setting begins."""
    return label.replace(",", ",\n") if len(label) > LABEL_WIDTH else label


def _plain_table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))


def _cell(cell: Cell, style: str) -> Text:
    text = Text(cell.value, style=style)
    return text.append(f"\n±{cell.half}", style="dim not bold") if cell.half else text


def console(sections: Sequence[Section]) -> RenderableType:
    """Return the first grid of each section with its claims; notes that hold for all stand once, below the last."""
    first = sections[0].notes if len(sections) > 1 else ()
    shared = [note for note in first if all(note in section.notes for section in sections)]
    parts: list[RenderableType] = []
    for section in sections:
        parts.append(Text(section.title, style="bold"))
        parts += [Text(section.summary, style="dim")] if section.summary else []
        parts.append(ConsoleGrid(section.grids[0]))
        parts += [Text(section.result, style="bold")] if section.result else []
        parts += [Text(claim.text) for claim in section.claims]
        parts += [Text(section.short)] if section.short else []
        parts += [Text(note, style="dim") for note in section.notes if note not in shared]
        parts.append(Text(""))
    return Group(*parts, *(Text(note, style="dim") for note in ([*shared, ""] if shared else [])))


def verdicts(tables: Sequence[PaperTable]) -> RenderableType:
    """Return one line a table: whether the proposed method won, and how many published cells ours lies close to."""
    grid = _plain_table()
    grid.add_column(f"Verdict: did {PROPOSED} win?")
    compared = any(table.within.cells for table in tables)
    near_published = ("published\nwithin 0.05", "published\nwithin 0.10") if compared else ()
    for heading in ("released\nmetric", "true\ntask", *near_published):
        grid.add_column(heading, justify="right", no_wrap=True)
    for table in tables:
        within = table.within
        near = [f"{n} of {within.cells}" if within.cells else DASH for n in (within.by_005, within.by_010)]
        near = near if compared else []
        grid.add_row(table.title, released(table).answer, true_task(table).answer, *near)
    return grid
