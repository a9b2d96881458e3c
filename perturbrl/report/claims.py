"""Who is better than the best simple baseline: sentences made from intervals and tests alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from perturbrl.metrics_info import HELD_OUT, MetricInfo
from perturbrl.report.held_out import HeldOutTable, title
from perturbrl.report.table import Row, Statement
from perturbrl.report.text import spell
from perturbrl.stats import (
    Claim,
    Interval,
    Span,
    claim,
    crossed_bootstrap,
    holm,
    mean_interval,
    sign_flip_test,
    smallest_p,
)

ALPHA = 0.05
BOOTSTRAP_SEED = 0  # of every interval, so that the same runs give the same report
Units = np.ndarray[tuple[int], np.dtype[np.float64]]


def best_simple(table: HeldOutTable, metric: MetricInfo) -> Row | None:
    """Return the best of the simple baselines by its mean over units; None where there is none."""
    rows = [row for row in table.rows if row.kind == "simple" and row.cell(metric.name).n]
    return max(rows, key=lambda row: metric.sign * row.cell(metric.name).mean, default=None)


def statements(table: HeldOutTable) -> list[Statement]:
    """Compare every agent with the best simple baseline at the primary metric; Holm's correction over the family.

    The family is what the runs' config declared (``claims.agents``), else all agents of the table, and the text says
    that it was not declared.
    """
    best = best_simple(table, table.primary)
    family = table.declared.get("agents", [])
    agents = [row for row in table.agents if not family or row.agent in family or row.label in family]
    units = {row.label: _paired(row, best, table.primary) for row in agents}
    tested = [row for row in agents if len(units[row.label])]
    # agents that were declared and have no result make the family no smaller
    missing = len(set(family) - {name for row in tested for name in (row.agent, row.label)})
    p = holm([sign_flip_test(units[row.label]) for row in tested] + [1.0] * missing)
    adjusted = dict(zip((row.label for row in tested), p, strict=False))
    out = []
    for row in agents:
        if best is None or row.label not in adjusted:
            why = "no simple baseline was scored" if best is None else "no finished run"
            out.append(Statement(row, None, f"{row.label}: nothing to compare: {why}."))
            continue
        difference = _difference(table, row, best, units[row.label])
        alpha = float(table.declared.get("alpha", ALPHA))
        made = claim(difference, float(adjusted[row.label]), alpha)
        out.append(Statement(row, made, _sentence(table, row, best, made, len(units[row.label]), len(p), alpha)))
    return out


def exploratory(table: HeldOutTable, metrics: Sequence[str]) -> dict[tuple[str, str], tuple[Interval, float]]:
    """Return for each agent and metric its difference to the best simple baseline (t interval) and its p value.

    No claim is made from these; correct the p values together (Benjamini & Hochberg) before reading them.
    """
    out: dict[tuple[str, str], tuple[Interval, float]] = {}
    for row in table.agents:
        for metric in metrics:
            units = _paired(row, best_simple(table, HELD_OUT[metric]), HELD_OUT[metric])
            if len(units):
                out[row.label, metric] = mean_interval(units), sign_flip_test(units)
    return out


def _paired(row: Row, best: Row | None, metric: MetricInfo) -> Units:
    if best is None or metric.name not in row.units or metric.name not in best.units:
        return np.empty(0)
    gap = metric.sign * (row.units[metric.name] - best.units[metric.name])
    return np.asarray(gap.dropna().to_numpy(np.float64))


def _difference(table: HeldOutTable, row: Row, best: Row, units: Units) -> Interval | Span:
    """Draw seeds and perturbations anew; several splits have other perturbations each, so theirs is the t interval."""
    if len(units) > 1 and table.splits == 1:
        ours, theirs = (_crossed(table, r) for r in (row, best))
        gap = (table.primary.sign * (ours - theirs)).dropna(how="all")
        if len(gap) == len(units):
            return crossed_bootstrap(gap, np.random.default_rng(BOOTSTRAP_SEED))
    return mean_interval(units)


def _crossed(table: HeldOutTable, row: Row) -> pd.DataFrame:
    """Values of the primary metric, units [U] by conditions [P]."""
    return table.of(row).pivot_table(index="unit", columns="condition", values="value", aggfunc="mean")


def _sentence(table: HeldOutTable, row: Row, best: Row, made: Claim, units: int, family: int, alpha: float) -> str:
    name = title(best)
    words = {
        "better": f"{row.label} is better than {name}, the best simple baseline",
        "worse": f"{row.label} is worse than {name}, the best simple baseline",
        "no evidence": f"no evidence that {row.label} differs from {name}, the best simple baseline",
    }
    gap = made.difference
    mean, low, high = (spell(value, signed=True) for value in (gap.mean, gap.low, gap.high))
    ends = "no interval" if gap.low != gap.low else f"95 % interval {low} to {high}"
    unit = ("split" if table.splits > 1 else "seed") + ("s" if units != 1 else "")
    text = (
        f"{words[made.word]}: {table.primary.title} {mean} ({ends}; p = {made.p:.3g} after Holm over {family}; "
        f"{units} {unit})."
    )
    if (least := min(1.0, smallest_p(units) * family)) > alpha:
        text += f" So few {unit} support no claim: the least p they can give is {least:.3g}."
    if row.diverged:
        text += f" Runs that diverged count as no change: {row.diverged} of {len(row.runs)}."
    if not table.declared.get("agents"):
        text += " The family was not declared before the runs: exploratory."
    return text
