"""One self-contained page: what was run, the tables with their floors, and whether the proposed method won."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from markupsafe import Markup

from perturbrl.report import style
from perturbrl.report.collect import Collection
from perturbrl.report.html import DARK, render
from perturbrl.report.paper import NOTE, PaperTable
from perturbrl.report.published import PROPOSED
from perturbrl.report.style import Picture
from perturbrl.report.table import Grid, Section
from perturbrl.report.text import DASH, count
from perturbrl.report.verdict import judged, released, true_task

_SHOWN_INCOMPLETE = 50
_WORDS = {"better": "yes", "worse": "no", "no evidence": "open"}  # classes of the page
OVERVIEW = "overview"  # the key of the figure over all tables


def page(
    collection: Collection,
    tables: Sequence[PaperTable],
    sections: Sequence[Section],
    over: Grid | None,
    pictures: Mapping[str, Sequence[Picture]],
) -> str:
    """Return the HTML of a report, which needs nothing from outside.

    ``sections`` are those on held-out perturbations, summed up by ``over``, then those of ``tables``; ``pictures``
    maps the slug of a table to its figures.
    """
    undrawn = [table for table in tables if pictures and not pictures.get(table.slug)]
    return render(
        "page.html",
        light=style.PALETTE,
        dark=DARK,
        lead=_lead(collection),
        verdicts=[(table, released(table), true_task(table), _near(table)) for table in judged(tables)],
        compared=any(table.within.cells for table in tables),
        proposed=PROPOSED,
        note=NOTE,
        words=_WORDS,
        sections=sections,
        over=over,
        overview=OVERVIEW,
        pictures=pictures,
        undrawn={table.slug: os.path.commonpath([*table.runs["run"]]) for table in undrawn},
        breakable=_breakable,
        incomplete=collection.incomplete,
        shown_incomplete=_SHOWN_INCOMPLETE,
    )


def _near(table: PaperTable) -> str:
    within = table.within
    return f"{within.by_005} / {within.by_010} of {within.cells}" if within.cells else DASH


def _breakable(label: str) -> Markup:
    """Let a label break where a setting begins."""
    return Markup(",<wbr>").join(label.split(","))


def _lead(collection: Collection) -> str:
    runs = collection.runs
    diverged = int((runs["status"] == "diverged").sum())
    parts = [
        f"{count(len(runs), 'run')}: {_join(runs['agent'])}",
        f"on {_join(runs['data'])} of {_join(runs['source'])}",
        _seeds(runs),
        f"schedule {_join(runs['schedule'])}",
        f"{int(runs['steps'].sum()):,} environment steps in all",
    ]
    parts += [f"{diverged} diverged"] if diverged else []
    parts += [f"{len(collection.incomplete)} unfinished and left out"] if collection.incomplete else []
    shared = f" Set by the commands: {', '.join(collection.shared)}." if collection.shared else ""
    return "; ".join(parts) + "." + shared


def _seeds(runs: pd.DataFrame) -> str:
    counts = runs.groupby(["name", "cells", "task", "schedule", "label"])["seed"].nunique()
    low, high = counts.min(), counts.max()
    return count(high, "seed") if low == high else f"{low} to {high} seeds a row"


def _join(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(str(v) for v in values if str(v))) or "not recorded"
