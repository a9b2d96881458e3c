"""Findings on a file of cells, and the table that shows them."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table

Severity = Literal["ok", "warning", "error"]
_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "error": ("ERROR", "red")}


@dataclass(frozen=True)
class Finding:
    """One finding: its location in the file, what it is, the remedy (may be empty), and the tasks that it affects.

    With an ``error`` the ``tasks`` cannot run. With a ``warning`` they run, or the file does not support them.
    """

    severity: Severity
    location: str
    what: str
    remedy: str
    tasks: tuple[str, ...]


def table(findings: list[Finding]) -> Table:
    """Return the findings as a rich table; equal findings on several tasks share a row."""
    from rich.table import Table
    from rich.text import Text

    out = Table(show_lines=False, header_style="bold")
    for heading in ("", "where", "what", "to mend it", "affects"):
        out.add_column(heading, overflow="fold")
    rows: dict[tuple[Severity, str, str, str], list[str]] = {}
    for f in findings:
        rows.setdefault((f.severity, f.location, f.what, f.remedy), []).extend(f.tasks)
    for (severity, *words), tasks in rows.items():
        mark, colour = _MARKS[severity]
        out.add_row(Text(mark, style=colour), *(Text(t) for t in (*words, " ".join(tasks))))
    return out


def render(findings: list[Finding], width: int = 140) -> str:
    """Return the findings as text of at most ``width`` columns."""
    from rich.console import Console

    stream = StringIO()
    Console(file=stream, width=width, color_system=None).print(table(findings))
    return stream.getvalue()
