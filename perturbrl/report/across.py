"""Agents over several tables at once: each data set and split is a task that was trained on separately."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from perturbrl.report.claims import best_simple
from perturbrl.report.held_out import HeldOutTable
from perturbrl.report.table import Cell, Grid, Line, Row
from perturbrl.report.text import spell
from perturbrl.stats import Span, iqm, optimality_gap, probability_of_improvement, stratified_bootstrap

BOOTSTRAP_SEED = 0  # of every interval, so that the same runs give the same report
COLUMNS = ("IQM ↑", "optimality gap ↓", "P(better than the best simple baseline) ↑")


def across(tables: Sequence[HeldOutTable]) -> Grid | None:
    """Return aggregates of the calibrated primary score over two or more tables, for agents that finished in each.

    Runs are drawn anew within each table (``stratified_bootstrap``); a table with more units than others gives its
    first.
    """
    if len(tables) < 2:
        return None
    scores = [{row.label: x for row in table.agents if (x := _scores(table, row)).size} for table in tables]
    lines = []
    for label in sorted(set.intersection(*map(set, scores))):
        n = min(len(table[label]) for table in scores)
        stacked = np.stack([table[label][:n] for table in scores], axis=1)
        cells = []
        for statistic in (iqm, optimality_gap):
            generator = np.random.default_rng(BOOTSTRAP_SEED)
            span = stratified_bootstrap(stacked, statistic, generator) if n > 1 else None
            cells.append(_cell(float(statistic(stacked)), span))
        lines.append(Line(label, "agent", (*cells, _cell(_improvement(tables, stacked), None))))
    if not lines:
        return None
    note = (
        f"Calibrated primary score (0 training mean, 1 replicate) over {len(tables)} tables: interquartile mean, mean "
        "shortfall from 1, and the mean over tables of the part of runs above the best simple baseline. 95 % bootstrap "
        "interval, runs drawn anew within each table."
    )
    if late := next((table.exploratory for table in tables if table.exploratory), ""):
        note += f" Exploratory: {late}."
    return Grid("Over all tables", COLUMNS, tuple(lines), note)


def _scores(table: HeldOutTable, row: Row) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    column = f"calibrated/{table.primary.name}"
    return np.asarray(row.units[column].dropna().to_numpy(np.float64) if column in row.units else np.empty(0))


def _improvement(tables: Sequence[HeldOutTable], scores: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    theirs = []
    for table in tables:
        best = best_simple(table, table.primary)
        theirs.append(np.nan if best is None else best.cell(f"calibrated/{table.primary.name}").mean)
    return float("nan") if np.isnan(theirs).any() else probability_of_improvement(scores, np.array([theirs]))


def _cell(value: float, span: Span | None) -> Cell:
    if value != value:
        return Cell("n/a")
    return Cell(spell(value) + ("" if span is None else f" [{spell(span.low)}, {spell(span.high)}]"))
