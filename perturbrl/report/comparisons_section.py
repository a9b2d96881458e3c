"""What is printed of the comparisons of any two agents: a grid in each section, a line on the console, one CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from perturbrl.report.comparisons import Comparison
from perturbrl.report.table import Cell, Grid, Line, Section
from perturbrl.report.text import DASH, MINUS, spell

FILE = "comparisons.csv"
MOST_SHOWN = 45  # pairs of a grid, those of ten agents; the file has all
VALUES = (
    *("table", "metric", "first", "second", "difference", "low", "high", "p_holm", "family", "better", "obstacle"),
    *("exploratory", "n", "unit", "conditions", "first_runs", "second_runs", "first_diverged", "second_diverged"),
    *("first_missing", "second_missing", "first_steps", "second_steps", "equal_steps"),
)
"""Columns of the file: ``difference`` is the first minus the second, positive where the first is better."""


def with_pairs(section: Section, compared: Sequence[Comparison]) -> Section:
    """Return the section with a grid of all pairs of its agents and a line for the console."""
    if not compared:
        return section
    return replace(section, grids=(*section.grids, _grid(compared)), short=_short(compared))


def values(compared: Mapping[str, Sequence[Comparison]]) -> str:
    """Return the CSV of all comparisons, in full precision, empty where there is no number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(VALUES)
    for slug, each in ((slug, c) for slug, pairs in compared.items() for c in pairs):
        gap, rows = each.difference, (each.first, each.second)
        numbers = ["" if v != v else repr(float(v)) for v in (gap.mean, gap.low, gap.high)]
        about = [slug, each.metric.name, *(row.label for row in rows), *numbers, repr(each.p), each.family]
        counts = [gap.n, each.unit, "" if each.conditions is None else each.conditions, *(len(r.runs) for r in rows)]
        lost = [*(row.diverged for row in rows), *(row.missing for row in rows)]
        steps = [" ".join(map(str, s)) for s in each.steps]
        writer.writerow(
            [
                *about,
                each.better,
                each.obstacle,
                each.exploratory,
                *counts,
                *lost,
                *steps,
                str(each.equal_steps).lower(),
            ]
        )
    return out.getvalue()


def _grid(compared: Sequence[Comparison]) -> Grid:
    metrics = list(dict.fromkeys(each.metric for each in compared))
    pairs: dict[tuple[str, str], list[Comparison]] = {}
    for each in compared:
        pairs.setdefault((each.first.label, each.second.label), []).append(each)
    first = compared[0]
    held_out = first.conditions is not None
    heads = [head for m in metrics for head in (f"{m.title}: difference", "p", "better")]
    heads += [f"{first.unit}s", *(["distinct test conditions"] if held_out else []), "environment steps"]
    shown = list(pairs.items())[:MOST_SHOWN]
    lines = [Line(f"{a} {MINUS} {b}", "other", tuple(_cells(each))) for (a, b), each in shown]
    paired = "unit and test condition" if held_out else "seed"
    note = (
        f"First minus second, positive: the first is better, whatever the direction of the metric. Paired by {paired}; "
        f"95 % {'crossed' if held_out else 't'} interval and the t test that belongs to it, p after Holm over all "
        f"{first.family} comparisons of this report. better: interval and p agree."
    )
    obstacles = list(dict.fromkeys(each.obstacle for each in compared if each.obstacle))
    note += f" No conclusion where: {'; '.join(obstacles[:5])}." if obstacles else ""
    note += f" Exploratory: {first.exploratory}." if first.exploratory else ""
    if more := len(pairs) - len(shown):
        note += f" {more} more pairs are in {FILE}."
    return Grid("Any two agents", tuple(heads), tuple(lines), note)


def _cells(compared: Iterable[Comparison]) -> list[Cell]:
    cells = []
    for each in compared:
        gap, digits = each.difference, each.metric.digits
        half = "" if gap.half is None else spell(gap.half, digits)
        p = DASH if gap.half is None else f"{each.p:.2g}"
        cells += [Cell(spell(gap.mean, digits, signed=True), half), Cell(p), Cell(each.better or "no evidence")]
    last = each
    cells.append(Cell(str(last.difference.n)))
    cells += [] if last.conditions is None else [Cell(str(last.conditions))]
    a, b = (" or ".join(f"{s:,}" for s in steps) or DASH for steps in last.steps)
    return [*cells, Cell(f"equal ({a})" if last.equal_steps else f"not equal ({a}; {b})")]


def _short(compared: Sequence[Comparison]) -> str:
    parts = []
    for metric in dict.fromkeys(each.metric for each in compared):
        mine = [each for each in compared if each.metric == metric]
        found: dict[str, list[str]] = {}
        for each in mine:
            if each.better:
                other = each.second if each.better == each.first.label else each.first
                found.setdefault(each.better, []).append(other.label)
        open_ = sum(not each.better for each in mine)
        words = [f"{label} better than {', '.join(others[:5])}" for label, others in list(found.items())[:3]]
        words += [f"no evidence in {open_} of {len(mine)} pairs"] if open_ else []
        parts.append(f"{metric.title}: {'; '.join(words)}")
    unequal = sum(not each.equal_steps for each in compared)
    steps = "" if not unequal else "not at equal steps; " if unequal == len(compared) else "some not at equal steps; "
    steps = f"exploratory; {steps}" if compared[0].exploratory else steps
    return f"Any two agents ({steps}Holm over {compared[0].family}; {FILE}): {'. '.join(parts)}."
