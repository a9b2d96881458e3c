"""Agents over several tables at once: each data set and split is a task that was trained on separately."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from perturbrl.report.counterfactual.claims import BOOTSTRAP_SEED, best_simple
from perturbrl.report.counterfactual.gather import Row, Table
from perturbrl.report.counterfactual.grids import Grid, Line
from perturbrl.report.names import MINUS
from perturbrl.report.render import Cell
from perturbrl.stats import Span, iqm, optimality_gap, probability_of_improvement, stratified_bootstrap

COLUMNS = ("IQM ↑", "optimality gap ↓", "P(better than the best simple baseline) ↑")


def across(tables: Sequence[Table]) -> Grid | None:
    """Return aggregates of the calibrated primary score over two or more tables, for agents that finished in each.

    Runs are drawn anew within each table (``stratified_bootstrap``); a table with more units than others gives its
    first.
    """
    if len(tables) < 2:
        return None
    shared = set.intersection(*({row.label for row in table.agents if _scores(table, row).size} for table in tables))
    lines = []
    for label in sorted(shared):
        rows = [next(row for row in table.agents if row.label == label) for table in tables]
        found = [_scores(table, row) for table, row in zip(tables, rows, strict=True)]
        n = min(len(x) for x in found)
        scores = np.stack([x[:n] for x in found], axis=1)
        spans = [
            stratified_bootstrap(scores, statistic, np.random.default_rng(BOOTSTRAP_SEED)) if n > 1 else None
            for statistic in (iqm, optimality_gap)
        ]
        values = [float(iqm(scores)), float(optimality_gap(scores)), _improvement(tables, scores)]
        lines.append(Line(label, "agent", tuple(map(_spell, values, [*spans, None]))))
    if not lines:
        return None
    note = (
        f"Calibrated primary score (0 training mean, 1 replicate) over {len(tables)} tables: interquartile mean, mean "
        "shortfall from 1, and the mean over tables of the part of runs above the best simple baseline. 95 % bootstrap "
        "interval, runs drawn anew within each table."
    )
    return Grid("Over all tables", COLUMNS, tuple(lines), note)


def _scores(table: Table, row: Row) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    column = f"calibrated/{table.primary}"
    return np.asarray(row.units[column].dropna().to_numpy(np.float64) if column in row.units else np.empty(0))


def _improvement(tables: Sequence[Table], scores: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    simple = [best_simple(table, table.primary) for table in tables]
    theirs = [
        np.nan if row is None else row.cell(f"calibrated/{t.primary}").mean
        for t, row in zip(tables, simple, strict=True)
    ]
    return float("nan") if np.isnan(theirs).any() else probability_of_improvement(scores, np.array([theirs]))


def _spell(value: float, span: Span | None) -> Cell:
    text = f"{value:.3f}" + ("" if span is None else f" [{span.low:.3f}, {span.high:.3f}]")
    return Cell(text.replace("-", MINUS) if value == value else "n/a")
