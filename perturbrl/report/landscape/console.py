"""What a terminal shows of a landscape: its tables."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from perturbrl.landscape.pictures.scene import Facts, Scene
from perturbrl.report.landscape.theme import DARK


def tables(scene: Scene) -> RenderableType:
    """Return the tables of a scene; names have the colours of the pictures."""
    parts: list[RenderableType] = [Text(scene.title, style="bold"), Text(scene.lead, style="dim"), Text("")]
    for facts in scene.tables:
        parts += [
            Text(facts.title, style="bold"),
            _table(scene, facts),
            *(Text(note, style="dim") for note in facts.notes),
        ]
        parts.append(Text(""))
    return Group(*parts)


def _table(scene: Scene, facts: Facts) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for k, column in enumerate(facts.columns):
        table.add_column(column, overflow="fold", no_wrap=k == 0, min_width=4)
    for group, row in zip(facts.groups, facts.rows, strict=True):
        color = DARK.color(scene.groups, group) if group in scene.groups else "default"
        table.add_row(Text(row[0], style=f"bold {color}"), *row[1:])
    return table
