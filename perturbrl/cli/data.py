"""The verbs under ``perturbrl data``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perturbrl import status
from perturbrl.errors import UserError


def list_sources() -> None:
    """Print every source with its modalities, size, origin and whether it is at hand."""
    from rich.console import Console
    from rich.table import Table

    from perturbrl.data.sources import catalogue

    table = Table(header_style="bold")
    for heading in ("source=", "modalities", "cells", "origin", "licence", "download"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "source=")
    for row in catalogue.describe():
        download = ("done" if row.cached else "at first use") if row.download else "-"
        cells = "-" if row.cells is None else f"{row.cells:,}"
        table.add_row(row.name, " ".join(row.modalities) or "-", cells, row.origin, row.licence, download)
    Console().print(table)


def show_source(name: str) -> None:
    """Print the facts about the source ``name``, one in each line.

    Raises
    ------
    UserError
        There is no such source.
    """
    from perturbrl.data.sources import catalogue

    facts = catalogue.show(name)
    width = max(map(len, facts))
    for label, text in facts.items():
        print(f"{label:<{width}}  {text}")


def validate_file(file: Path, overrides: Sequence[str]) -> None:
    """Print what ``file`` holds and lacks, and which tasks can be trained on it with ``overrides``.

    Raises
    ------
    UserError
        No choice of ``data=`` can be trained, in the words of ``perturbrl train``; or an override is wrong.
    """
    from rich.console import Console

    from perturbrl.data.findings import table
    from perturbrl.runner import validate

    with status.step(f"checking {file}"):
        findings = validate.validate(file, overrides)
    if any(finding.location != "task" for finding in findings):
        Console().print(table(findings))
    if not validate.usable(findings):
        raise UserError(validate.refusal(findings))


def write_split_file(out: Path, overrides: Sequence[str]) -> None:
    """Write the split that ``perturbrl train`` would draw with ``overrides`` to ``out``, and say what it holds out.

    Raises
    ------
    UserError
        As ``runner.split_file.write``.
    """
    from perturbrl.runner import split_file
    from perturbrl.screens.held_out import sentences

    table = split_file.write(out, overrides)
    screen, split = table.screen, table.split
    for line in (*screen.notes, *sentences(screen, split), *split.notes, *table.leaks):
        print(line)
    for use in ("train", "validation", "test"):
        cells, controls = len(getattr(split, use)), len(getattr(split, f"control_{use}"))
        conditions = len(table.conditions_of(getattr(split, use)))
        print(f"{use}: conditions {conditions}, cells {cells}, controls {controls}")
    print(f"written: {out} (sha256 {split.sha256[:10]}); to use it: split={split.kind} split.file={out}")
