"""Who is better than the best simple baseline: sentences made from intervals and tests alone.

The rules are in docs/glossary.md (Claims).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from perturbrl.metrics_info import HELD_OUT, MetricInfo
from perturbrl.report.held_out import HeldOutTable, title
from perturbrl.report.table import Row, Statement
from perturbrl.report.text import count, spell
from perturbrl.stats import Claim, CrossedMean, Interval, claim, crossed_mean, holm, least_units

ALPHA = 0.05


def best_simple(table: HeldOutTable, metric: MetricInfo) -> Row | None:
    """Return the best of the simple baselines by its mean over units; None where there is none."""
    return max(_simple(table, metric), key=lambda row: metric.sign * row.cell(metric.name).mean, default=None)


def _simple(table: HeldOutTable, metric: MetricInfo) -> list[Row]:
    return [row for row in table.rows if row.kind == "simple" and row.cell(metric.name).n]


@dataclass(frozen=True, eq=False)
class Tested:
    """An agent beside the best simple baseline; ``mean`` is None where nothing could be compared by condition."""

    table: HeldOutTable
    row: Row
    best: Row | None
    mean: CrossedMean | None
    p: float

    @property
    def name(self) -> tuple[str, str]:
        """What tells it from the others of a report."""
        return self.table.slug, self.row.label

    def obstacle(self, family: int) -> str:
        """Return why no claim may be made in a family of so many tests, empty if one may."""
        row, mean = self.row, self.mean
        if row.missing:
            return f"{row.missing} of its {row.missing + len(row.runs)} runs have no evaluation"
        if mean is None:
            return f"the scores by condition ({self.table.primary.title}) are missing; perturbrl evaluate writes them"
        return too_few(self.table, mean.conditions, mean.units, least_units(family, alpha_of(self.table)))


@dataclass(frozen=True)
class Family:
    """All tests of a report: Holm's correction covers them together. ``p`` maps each to its corrected p value.

    ``tests`` are those of each table. ``size`` counts them, ``absent`` of them of agents that were
    declared and have no result.
    """

    size: int
    absent: int
    tests: dict[HeldOutTable, list[Tested]]
    p: dict[tuple[str, str], float]

    @classmethod
    def of(cls, tables: Iterable[HeldOutTable]) -> Family:
        """Test every agent of every table that the runs' config declared (``claims.agents``), else all agents.

        Agents that were declared and have no result, and comparisons of which no claim may be made, count in the
        family: leaving them out after the fact would make it smaller.
        """
        tests: dict[HeldOutTable, list[Tested]] = {}
        absent = 0
        for table in tables:
            tests[table] = _tested(table)
            present = {name for each in tests[table] for name in (each.row.agent, each.row.label) if each.row.n}
            absent += len(set(table.declared.get("agents", [])) - present)
        tested = [each for of_table in tests.values() for each in of_table]
        size = len(tested) + absent
        p = holm([1.0 if each.obstacle(size) else each.p for each in tested] + [1.0] * absent)
        return cls(size, absent, tests, {each.name: float(value) for each, value in zip(tested, p, strict=False)})

    def rule(self, alpha: float) -> str:
        """Return the sentence on what the family counts and on how little supports no claim."""
        absent = f", {self.absent} of them of declared agents without a result" if self.absent else ""
        n = least_units(self.size, alpha)
        return (
            f"Claims: Holm's correction covers all {self.size} tests of this report ({count(len(self.tests), 'table')}"
            f"{absent}). A claim takes {n} or more distinct test conditions, and {n} or more held-out sets (seeds "
            f"where all runs have the same set): the least n for which 2/2^n times {self.size} is at most {alpha:g}."
        )


def statements(table: HeldOutTable, family: Family | None = None) -> list[Statement]:
    """Compare agents with the best simple baseline at the primary metric; ``family`` is that of the whole report."""
    family = family or Family.of([table])
    out = []
    for tested in family.tests[table]:
        row, best = tested.row, tested.best
        if best is None or not row.n:
            why = "no simple baseline was scored" if best is None else "no finished run"
            out.append(Statement(row, None, f"{row.label}: nothing to compare: {why}."))
            continue
        obstacle = tested.obstacle(family.size)
        difference = Interval(float("nan"), None, 0) if tested.mean is None else tested.mean.interval()
        made = claim(difference, 1.0 if obstacle else family.p[tested.name], alpha_of(table))
        out.append(Statement(row, made, _sentence(tested, best, made, family, obstacle), table.exploratory))
    return out


def exploratory(table: HeldOutTable, metrics: Sequence[str]) -> dict[tuple[str, str], tuple[Interval, float]]:
    """Return for each agent and metric its difference to the best simple baseline and its p value.

    No claim is made from these; correct the p values together (Benjamini & Hochberg) before reading them.
    """
    out: dict[tuple[str, str], tuple[Interval, float]] = {}
    for row in table.agents:
        for metric in metrics:
            best = best_simple(table, HELD_OUT[metric])
            if best is not None and (mean := _against(table, row, best, HELD_OUT[metric])) is not None:
                out[row.label, metric] = mean.interval(), mean.p_against_best(len(_simple(table, HELD_OUT[metric])))
    return out


def alpha_of(table: HeldOutTable) -> float:
    """Return the level that the claims were declared with."""
    return float(table.declared.get("alpha", ALPHA))


def too_few(table: HeldOutTable, conditions: int, units: int, least: int) -> str:
    """Return what there are too few of to support a claim, empty if nothing."""
    unit = "held-out set" if table.splits > 1 else "seed"
    both = ((conditions, "distinct test condition"), (units, unit))
    lacking = [count(n, what) for n, what in both if n < least]
    return f"too few: {' and '.join(lacking)}, where it takes {least}" if lacking else ""


def counts(table: HeldOutTable, mean: CrossedMean | None, runs: int) -> str:
    """Return what a comparison rests on: held-out sets, distinct test conditions, seeds and runs."""
    if mean is None:
        return f"{count(table.splits, 'held-out set')}, {count(runs, 'run')}"
    one = f"1 held-out set with {count(mean.units, 'seed')}"
    sets = count(mean.units, "held-out set") if table.splits > 1 else one
    return f"{sets}, {count(mean.conditions, 'distinct test condition')}, {count(runs, 'run')}"


def by_condition(frame: pd.DataFrame, index: str) -> pd.DataFrame:
    """Return scores of one row as a matrix: ``index`` (``run`` or ``unit``) by condition."""
    return frame.pivot_table(index=index, columns="condition", values="value", aggfunc="mean")


def _tested(table: HeldOutTable) -> list[Tested]:
    best, primary = best_simple(table, table.primary), table.primary
    declared = table.declared.get("agents", [])
    out = []
    for row in table.agents:
        if not declared or row.agent in declared or row.label in declared:
            mean = None if best is None else _against(table, row, best, primary)
            p = 1.0 if mean is None else mean.p_against_best(len(_simple(table, primary)))
            out.append(Tested(table, row, best, mean, p))
    return out


def _against(table: HeldOutTable, row: Row, best: Row, metric: MetricInfo) -> CrossedMean | None:
    """Return the mean difference to a baseline, paired by run and condition: each run fitted its own."""
    frame = table.of(best, metric.name)
    theirs = by_condition(frame[frame["run"].isin([run for run, _, _ in row.runs])], "run")
    gap = metric.sign * (by_condition(table.of(row, metric.name), "run") - theirs)
    gap = gap.groupby(pd.Series(table.unit)).mean().dropna(how="all")
    return crossed_mean(gap.dropna(axis=1, how="all")) if gap.size else None


def _sentence(tested: Tested, best: Row, made: Claim, family: Family, obstacle: str) -> str:
    table, row, name = tested.table, tested.row, f"{title(best)}, the best simple baseline"
    words = {
        "better": f"{row.label} is better than {name}",
        "worse": f"{row.label} is worse than {name}",
        "no evidence": f"no evidence that {row.label} differs from {name}",
    }
    gap = made.difference
    mean, low, high = (spell(value, signed=True) for value in (gap.mean, gap.low, gap.high))
    ends = "no interval" if gap.low != gap.low else f"95 % interval {low} to {high}"
    text = f"{words[made.word]}: {table.primary.title} {mean} ({ends}; "
    if not obstacle:
        text += f"p = {made.p:.3g} after Holm over {family.size}; "
    text += f"{counts(table, tested.mean, len(row.runs))})."
    if obstacle:
        text += f" No claim is made: {obstacle} (family of {family.size})."
    if row.diverged:
        text += f" Runs that diverged count as no change: {row.diverged} of {len(row.runs)}."
    return f"{text} Exploratory: {table.exploratory}." if table.exploratory else text
