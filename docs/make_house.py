"""Draw docs/img/house.svg, the rooms of the package and who imports whom: ``python docs/make_house.py``.

Rooms and rows are read from the table of that page, arrows from the import statements of the package (those inside
functions and under ``TYPE_CHECKING`` too). An arrow points at what is imported, always one floor up or more.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

DOCS = Path(__file__).resolve().parent
PACKAGE = DOCS.parent / "perturbrl"
PICTURE = DOCS / "img" / "house.svg"

WIDTH, LEFT, ROOM_WIDTH, ROOM, STEP = 900, 84, 400, 46, 62
GROUND = 6  # modules of row 0 beside each other
COLOURS = ("#4a6fa5", "#b3541e", "#3f8f5b", "#8e5aa8", "#a8862a", "#c0466e", "#2f8c97", "#6b7280")
STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #1c2530; }
  .small { font-size: 11px; fill: #5a6675; }
  .floor { fill: #f1f4f8; }
  .room { fill: #dfe9f7; stroke: #4a6fa5; stroke-width: 1.2; }
  .arrow { fill: none; stroke-opacity: 0.8; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6ebf2; }
    .small { fill: #a3afbf; }
    .floor { fill: #1b222c; }
    .room { fill: #243449; stroke: #8fb3e8; }
    .arrow, .head { filter: brightness(1.45); }
  }
"""


def floors() -> list[tuple[str, list[str]]]:
    """Return the rows of the table in docs/architecture.md, from the top: number and names of modules or folders."""
    table = []
    for line in (DOCS / "architecture.md").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\|\s*(\d+|top)\s*\|([^|]*)\|", line):
            names = " ".join(re.findall(r"`([^`]*)`", match[2])).split()
            table.append((match[1], [name.removesuffix("/") for name in names]))
    return table


def room_of(name: str) -> str | None:
    """Return the room of a module ``perturbrl.x.y``: its name at the top of the package."""
    package, _, rest = name.partition(".")
    return rest.partition(".")[0] or None if package == "perturbrl" else None


def imported(file: Path) -> Iterator[str]:
    """Yield the full names that a file imports, relative imports resolved."""
    parts = ("perturbrl", *file.relative_to(PACKAGE).with_suffix("").parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parts[: len(parts) - node.level] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imports(rooms: set[str]) -> Counter[tuple[str, str]]:
    """Count the import statements from one room to another."""
    edges: Counter[tuple[str, str]] = Counter()
    for file in sorted(PACKAGE.rglob("*.py")):
        source = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for target in {room_of(name) for name in imported(file)} & rooms - {source}:
            if source in rooms and target is not None:
                edges[source, target] += 1
    return edges


def lines_of(room: str) -> int:
    """Count the lines of a module or folder."""
    place = PACKAGE / room
    files = place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]
    return sum(file.read_text(encoding="utf-8").count("\n") for file in files if file.is_file())


def inside(room: str) -> str:
    """Name the folders inside a room and its size."""
    place = PACKAGE / room
    folders = sorted(f"{file.parent.name}/" for file in place.glob("*/__init__.py"))
    return " · ".join([*folders, f"{lines_of(room):,} lines"])


def box(left: float, top: float, width: float, title: str, note: str) -> str:
    """Return a room with its name and a small line under it."""
    middle = left + width / 2
    return (
        f'<rect class="room" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{ROOM}" rx="5"/>\n'
        f'<text x="{middle:.1f}" y="{top + 20:.1f}" text-anchor="middle">{escape(title)}</text>\n'
        f'<text class="small" x="{middle:.1f}" y="{top + 36:.1f}" text-anchor="middle">{escape(note)}</text>'
    )


def arrow(start: float, end: float, count: int, colour: int) -> str:
    """Return an arc on the right of the rooms from the height ``start`` up to ``end``, thicker for more imports."""
    right = LEFT + ROOM_WIDTH
    reach = right + 24 + 0.62 * (start - end)
    width = min(1 + count**0.5 / 3, 3)
    curve = f"M{right},{start:.1f} C{reach:.1f},{start:.1f} {reach:.1f},{end:.1f} {right + 7},{end:.1f}"
    path = f'<path class="arrow" d="{curve}" stroke="{COLOURS[colour]}" stroke-width="{width:.1f}"'
    return f'{path} marker-end="url(#head{colour})"/>'


def draw() -> str:
    """Return the picture as SVG: the rooms of row 0 side by side, the others below each other, arrows on the right."""
    (_, ground), *rows = floors()
    rooms = [(number, room) for number, names in rows for room in names]
    lines = -(-len(ground) // GROUND)
    floor = lines * STEP + 8
    parts = [f'<rect class="floor" width="{WIDTH}" height="{floor}" rx="6"/>', '<text x="12" y="40">row 0</text>']
    span = (WIDTH - LEFT - 12) / GROUND
    for j, room in enumerate(ground):
        left, top = LEFT + j % GROUND * span, 12 + j // GROUND * STEP
        parts.append(box(left, top, span - 8, room, inside(room)))
    tops = {room: floor + 20 + STEP * k for k, (_, room) in enumerate(rooms)}
    for number, room in rooms:
        parts.append(f'<text x="12" y="{tops[room] + 28}">{"row " if number != "top" else ""}{number}</text>')
        name = f"{room}/" if (PACKAGE / room).is_dir() else room
        parts.append(box(LEFT, tops[room], ROOM_WIDTH, name, inside(room)))
    edges = imports(set(tops))
    for k, (_, room) in enumerate(rooms):
        targets = sorted((b for a, b in edges if a == room), key=tops.__getitem__)
        for j, target in enumerate(targets):  # all leave from the upper half of a room and arrive at its lower half
            start = tops[room] + 4 + (ROOM / 2 - 4) * (j + 1) / (len(targets) + 1)
            sources = sorted((a for a, b in edges if b == target), key=tops.__getitem__)
            end = tops[target] + ROOM / 2 + (ROOM / 2 - 3) * (sources.index(room) + 0.5) / len(sources)
            parts.append(arrow(start, end, edges[room, target], k % len(COLOURS)))
    height = floor + 8 + STEP * len(rooms)
    heads = "".join(
        f'<marker id="head{k}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto" '
        f'markerUnits="userSpaceOnUse"><path class="head" d="M0,0 L8,4 L0,8 z" fill="{colour}"/></marker>'
        for k, colour in enumerate(COLOURS)
    )
    title = "<title>The rooms of the package by rows; an arrow points at what a room imports</title>"
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    body = "\n".join([title, f"<style>{STYLE}</style>", f"<defs>{heads}</defs>", *parts])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n{body}\n</svg>\n'


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(PICTURE)
