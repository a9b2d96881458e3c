"""Who is better than the best simple baseline: sentences made from intervals and tests alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from perturbrl.report.counterfactual.gather import Row, Table
from perturbrl.report.counterfactual.names import COLUMNS, SPELLED
from perturbrl.report.names import MINUS
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


@dataclass(frozen=True)
class Statement:
    """What may be said of one agent: ``claim`` is None where nothing could be compared."""

    agent: Row
    claim: Claim | None
    text: str


def best_simple(table: Table, metric: str) -> Row | None:
    """Return the best of the simple baselines by its mean over units; None where there is none."""
    rows = [row for row in table.rows if row.kind == "simple" and row.cell(metric).n]
    sign = _sign(metric)
    return max(rows, key=lambda row: sign * row.cell(metric).mean, default=None)


def statements(table: Table) -> list[Statement]:
    """Compare every agent with the best simple baseline at the primary metric; Holm's correction over the family.

    The family is what the runs' config declared (``claims.agents``), else all agents of the table, which the text says.
    """
    metric = table.primary
    best = best_simple(table, metric)
    family = table.declared.get("agents", [])
    alpha = float(table.declared.get("alpha", ALPHA))
    agents = [row for row in table.agents if not family or row.agent in family or row.label in family]
    compared = [(row, _paired(table, row, best, metric)) for row in agents] if best is not None else []
    tested = [(row, units) for row, units in compared if len(units)]
    found_names = {name for row, _ in tested for name in (row.agent, row.label)}
    missing = len(set(family) - found_names)  # declared, and without a result: the family is no smaller for it
    p = holm([sign_flip_test(u) for _, u in tested] + [1.0] * missing)
    adjusted = dict(zip((row.label for row, _ in tested), p, strict=False))
    out = []
    for row in agents:
        if best is None or row.label not in adjusted:
            why = "no simple baseline was scored" if best is None else "no finished run"
            out.append(Statement(row, None, f"{row.label}: nothing to compare: {why}."))
            continue
        units = next(u for r, u in tested if r is row)
        found = claim(_difference(table, row, best, metric, units), float(adjusted[row.label]), alpha)
        out.append(Statement(row, found, _sentence(table, row, best, found, len(units), len(p), alpha)))
    return out


def exploratory(table: Table, metrics: Sequence[str]) -> dict[str, dict[str, tuple[Interval, float]]]:
    """Return for each agent and metric its difference to the best simple baseline (t interval) and its p value.

    No claim is made from these; correct the p values together (Benjamini & Hochberg) before reading them.
    """
    out: dict[str, dict[str, tuple[Interval, float]]] = {row.label: {} for row in table.agents}
    for metric in metrics:
        best = best_simple(table, metric)
        for row in table.agents if best is not None else ():
            units = _paired(table, row, best, metric)
            if len(units):
                out[row.label][metric] = (mean_interval(units), sign_flip_test(units))
    return out


def _paired(table: Table, row: Row, best: Row | None, metric: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if best is None or metric not in row.units or metric not in best.units:
        return np.empty(0)
    gap = _sign(metric) * (row.units[metric] - best.units[metric])
    return np.asarray(gap.dropna().to_numpy(np.float64))


def _difference(
    table: Table, row: Row, best: Row, metric: str, units: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> Interval | Span:
    """Draw seeds and perturbations anew; several splits have other perturbations each, so theirs is the t interval."""
    if len(units) > 1 and table.splits == 1:
        ours, theirs = (_crossed(table, r) for r in (row, best))
        gap = (_sign(metric) * (ours - theirs)).dropna(how="all")
        if len(gap) == len(units):
            return crossed_bootstrap(gap, np.random.default_rng(BOOTSTRAP_SEED))
    return mean_interval(units)


def _crossed(table: Table, row: Row) -> pd.DataFrame:
    """Values of the primary metric, units [U] by conditions [P]."""
    return table.of(row).pivot_table(index="unit", columns="condition", values="value", aggfunc="mean")


def _sentence(table: Table, row: Row, best: Row, found: Claim, units: int, family: int, alpha: float) -> str:
    metric = table.primary
    title, name = COLUMNS[metric].title, SPELLED.get(best.name, best.name)
    words = {
        "better": f"{row.label} is better than {name}, the best simple baseline",
        "worse": f"{row.label} is worse than {name}, the best simple baseline",
        "no evidence": f"no evidence that {row.label} differs from {name}, the best simple baseline",
    }
    gap = found.difference
    ends = "no interval" if gap.low != gap.low else f"95 % interval {_spell(gap.low)} to {_spell(gap.high)}"
    unit = "splits" if table.splits > 1 else "seeds"
    if units == 1:
        unit = unit[:-1]
    text = (
        f"{words[found.word]}: {title} {_spell(gap.mean)} ({ends}; p = {found.p:.3g} after Holm over {family}; "
        f"{units} {unit})."
    )
    if (least := min(1.0, smallest_p(units) * family)) > alpha:
        text += f" So few {unit} support no claim: the least p they can give is {least:.3g}."
    if row.diverged:
        text += f" Runs that diverged count as no change: {row.diverged} of {len(row.runs)}."
    if not table.declared.get("agents"):
        text += " The family was not declared before the runs: exploratory."
    return text


def _spell(value: float) -> str:
    return f"{value:+.3f}".replace("-", MINUS)


def _sign(metric: str) -> float:
    return 1.0 if COLUMNS[metric].better == "up" else -1.0
