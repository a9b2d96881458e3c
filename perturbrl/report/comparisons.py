"""Any two agents of a table: who is better, by how much, and on what that rests.

Agents are paired by seed in Tables I-III, and by unit and test condition on held-out perturbations. The rules are in
docs/glossary.md (Comparisons).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from perturbrl.metrics_info import PAPER_COLUMNS, MetricInfo
from perturbrl.report.claims import ALPHA, alpha_of, by_condition, too_few
from perturbrl.report.held_out import HeldOutTable
from perturbrl.report.paper import PaperTable
from perturbrl.report.table import Row, Table
from perturbrl.stats import Interval, claim, crossed_mean, holm, least_units, mean_interval, t_test

Steps = tuple[int, ...]  # of environment; several where runs differ
PAPER_METRICS = ("mse", "return_gain")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two agents at one metric; ``difference`` is the first minus the second, positive where the first is better.

    ``steps`` are those of the finished runs of both. ``p`` is corrected over all ``family`` comparisons of the report.
    ``unit`` names what ``difference.n`` counts, ``conditions`` is the number of distinct test conditions (None: those
    do not matter). ``obstacle`` says why neither may be called better, empty if one may; ``exploratory`` why the metric
    was not one declared before training.
    """

    table: Table[Row]
    metric: MetricInfo
    first: Row
    second: Row
    difference: Interval
    p: float
    unit: str
    steps: tuple[Steps, Steps]
    conditions: int | None = None
    obstacle: str = ""
    exploratory: str = ""
    alpha: float = ALPHA
    family: int = 1

    @property
    def better(self) -> str:
        """The label of the better agent, empty where there is no evidence."""
        word = "no evidence" if self.obstacle else claim(self.difference, self.p, self.alpha).word
        return {"better": self.first.label, "worse": self.second.label}.get(word, "")

    @property
    def equal_steps(self) -> bool:
        """Whether all runs of both agents took the same number of steps."""
        first, second = self.steps
        return first == second and len(first) == 1


def compare(paper: Sequence[PaperTable], held_out: Sequence[HeldOutTable]) -> dict[str, list[Comparison]]:
    """Compare all pairs of agents of every table; return them by the slug of the table.

    Holm's correction covers all comparisons of the report together.
    """
    found = [c for table in paper for c in _paper(table)] + [c for table in held_out for c in _held_out(table)]
    size = len(found)
    adjusted = holm([c.p for c in found])
    by_table: dict[str, list[Comparison]] = {}
    for each, p in zip(found, adjusted, strict=True):
        by_table.setdefault(each.table.slug, []).append(_corrected(each, float(p), size))
    return by_table


def _corrected(each: Comparison, p: float, size: int) -> Comparison:
    """Return a comparison as one of a family; what the family is too large for becomes an obstacle."""
    obstacle = each.obstacle
    if not obstacle and each.conditions is not None and isinstance(each.table, HeldOutTable):
        obstacle = too_few(each.table, each.conditions, each.difference.n, least_units(size, each.alpha))
    return replace(each, p=p, family=size, obstacle=obstacle)


def _paper(table: PaperTable) -> Iterator[Comparison]:
    """Yield the comparisons of one of Tables I-III and their like, paired by seed."""
    seeds: Mapping[str, pd.DataFrame] = {row.label: row.units.groupby(level=0).mean() for row in table.agents}
    steps = _steps(table)
    for first, second in itertools.combinations(table.agents, 2):
        both = steps[first.label], steps[second.label]
        for metric in (PAPER_COLUMNS[name] for name in PAPER_METRICS):
            a, b = (seeds[row.label][metric.name] for row in (first, second))
            gaps = metric.sign * (a - b).dropna()
            gap = mean_interval(gaps)
            leads = first if gap.mean > 0 else second
            obstacle = "no shared seed that both finished" if not gap.n else _lacking(first, second, leads)
            yield Comparison(table, metric, first, second, gap, t_test(gaps), "seed", both, obstacle=obstacle)


def _lacking(first: Row, second: Row, leads: Row | None) -> str:
    """Return which runs without a number forbid a conclusion: not evaluated, or diverged ones of the agent ahead."""
    parts = [_of(row, row.missing, "have no evaluation") for row in (first, second) if row.missing]
    if leads is not None and leads.diverged:
        parts.append(_of(leads, leads.diverged, "diverged"))
    return " and ".join(parts)


def _of(row: Row, n: int, what: str) -> str:
    return f"{n} of {len(row.runs) + row.missing} runs of {row.label} {what}"


def _held_out(table: HeldOutTable) -> Iterator[Comparison]:
    """Yield the comparisons of a table on held-out perturbations, paired by unit and test condition."""
    metric, unit = table.primary, "held-out set" if table.splits > 1 else "seed"
    steps = _steps(table)
    scores = {row.label: by_condition(table.of(row), "unit") for row in table.agents}
    for first, second in itertools.combinations(table.agents, 2):
        gap = metric.sign * (scores[first.label] - scores[second.label])
        values = gap.to_numpy(np.float64)
        obstacle = _lacking(first, second, None)  # runs that diverged count as no change
        conditions = 0
        difference, p = mean_interval([]), 1.0
        if np.isfinite(values).any():
            mean = crossed_mean(values)
            difference, p, conditions = mean.interval(), mean.p, mean.conditions
        else:
            obstacle = f"no {unit} that both have scores by condition of"
        late, alpha = table.exploratory, alpha_of(table)
        both = steps[first.label], steps[second.label]
        yield Comparison(table, metric, first, second, difference, p, unit, both, conditions, obstacle, late, alpha)


def _steps(table: Table[Row]) -> dict[str, Steps]:
    """Return the environment steps of the finished runs of each agent."""
    taken = dict(zip(table.runs["run"], table.runs["steps"], strict=True))
    return {
        row.label: tuple(sorted({int(taken[run]) for run, _, status in row.runs if status == "complete"}))
        for row in table.agents
    }
