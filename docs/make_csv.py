"""Write the tables of a results page as CSV, one file for each section: ``python docs/make_csv.py PAGE FOLDER``.

A report prints its tables in Markdown (``tables.md``). This script reads them from a page, so that the page can keep a
few rows and the CSV files hold all of them. Digits are copied as they are printed; nothing is rounded again.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from pathlib import Path

COLUMNS = ("table", "row", "kind", "covered", "metric", "better", "value", "half_width")
BETTER = {"↑": "higher", "↓": "lower"}
KINDS = r"floor|oracle|negative control"


def tables(page: str) -> Iterator[tuple[str, str, list[list[str]]]]:
    """Yield file name, name and cells of each table: the name is the nearest ``**name**`` line or ``###`` heading.

    A file is named as the runs are, by ``name=`` or ``--out`` in the section's command, or else after its heading.
    """
    section = name = ""
    rows: list[list[str]] = []
    for line in [*page.splitlines(), ""]:
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            rows.append([cell.strip().replace("\\|", "|") for cell in cells])
            continue
        if rows:
            yield section, name, rows
            rows = []
        if line.startswith("## "):
            section, name = file_name(line[3:]), ""
        elif match := re.match(r"( {4}|`)perturbrl .*(?:\bname=|--out )(\w+)", line):
            section = f"{match[2]}.csv"
        elif match := re.fullmatch(r"### (.*)|\*\*(.*)\*\*", line):
            name = match[1] or match[2]


def entries(name: str, table: list[list[str]]) -> Iterator[tuple[str, ...]]:
    """Yield one line of the CSV for each cell that holds a value."""
    (_, *heads), _, *body = table
    published_for = ""
    for first, *cells in body:
        row, kind, covered = label(first)
        if row in ("published", "difference"):  # these belong to the agent above
            row, kind = published_for, row
        else:
            published_for = row
        for head, cell in zip(heads, cells, strict=True):
            value, half_width = number(cell)
            if value:
                better = BETTER.get(head[-1], "")
                metric = head[:-2] if better else head
                yield (name, row, kind, covered, metric, better, value, half_width)


def label(text: str) -> tuple[str, str, str]:
    """Part the label of a row into its name, what kind of row it is, and the share of conditions it covers, in %."""
    text = text.strip("*")
    kind = match[1] if (match := re.search(rf" \(({KINDS})\)", text)) else ""
    covered = match[1] if (match := re.search(r" \[(\d+) %\]", text)) else ""
    return re.sub(rf" \(({KINDS})\)| \[\d+ %\]", "", text), kind, covered


def number(text: str) -> tuple[str, str]:
    """Return a value and the half width of its 95 % interval, both as printed; empty where there is none."""
    value, _, half_width = text.replace("\N{MINUS SIGN}", "-").replace(",", "").partition(" ± ")
    return ("" if value == "\N{EN DASH}" else value.removeprefix("+")), half_width


def file_name(section: str) -> str:
    """Return a file name for a section: lower case, words joined by underscores."""
    return re.sub(r"[^a-z0-9]+", "_", section.lower()).strip("_") + ".csv"


def main(page: Path, folder: Path) -> None:
    """Write the tables of all sections that hold tables with a name."""
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[tuple[str, ...]]] = {}
    for section, name, table in tables(page.read_text(encoding="utf-8")):
        if name:
            lines.setdefault(section, []).extend(entries(name, table))
    for name, rows in lines.items():
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(rows)
        print(f"{folder / name}: {len(rows)} values")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
