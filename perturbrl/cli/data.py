"""The verbs under ``perturbrl data``."""

from __future__ import annotations

from pathlib import Path

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
    """Print what is known of the source ``name``, one fact a line.

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


def validate_file(file: Path) -> bool:
    """Print what ``file`` holds and lacks; return whether it is without errors.

    Raises
    ------
    UserError
        There is no such file.
    """
    from rich.console import Console

    from perturbrl.data import validate

    if not file.expanduser().exists():
        raise UserError(f"{file}: no such file or folder")
    findings = validate.validate(file)
    Console().print(validate.table(findings))
    return not any(finding.severity == "error" for finding in findings)
