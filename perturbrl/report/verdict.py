"""Whether the proposed method won: under the released metric, and at the true task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perturbrl.metrics_info import PAPER, PAPER_COLUMNS, MetricInfo
from perturbrl.report.paper import DO_NOTHING, PaperRow, PaperTable
from perturbrl.report.published import PROPOSED
from perturbrl.report.text import spell
from perturbrl.stats import Interval, mean_interval


@dataclass(frozen=True)
class Verdict:
    """``answer`` is Yes, No or Open; ``why`` gives the numbers."""

    answer: str
    why: str


def judged(tables: Sequence[PaperTable]) -> list[PaperTable]:
    """Return the tables that have a row of the proposed method."""
    return [table for table in tables if any(row.agent == PROPOSED for row in table.agents)]


def released(table: PaperTable) -> Verdict:
    """Judge by the MSE of the released protocol, and count the ten columns in which the proposed method is first."""
    verdict = _judge(table, "mse")
    proposed, others = _sides(table)
    if proposed is None or not others:
        return verdict
    first = sum(all(_gap(proposed, other, m) > 0 for other in others) for m in PAPER)
    text = f"{verdict.why} First of {len(others) + 1} agents in {first} of {len(PAPER)} columns."
    for floor in table.floors:
        if floor.label == DO_NOTHING:
            ahead = sum(_gap(floor, proposed, m) > 0 for m in PAPER)
            text += f" Doing nothing beats it in {ahead} of {len(PAPER)}."
    return Verdict(verdict.answer, text)


def true_task(table: PaperTable) -> Verdict:
    """Judge by the return in the environment above that of doing nothing; to win is to beat doing nothing too."""
    verdict = _judge(table, "return_gain")
    proposed, _ = _sides(table)
    if proposed is None or (gain := proposed.cell("return_gain")).n == 0:
        return verdict
    answer = verdict.answer
    if proposed.missing:
        return verdict
    if gain.half is not None and not gain.excludes(0.0):
        word = "not told apart from doing nothing"
        answer = "Open" if answer == "Yes" else answer
    elif gain.mean > 0:
        word = "better than doing nothing"
    else:
        word = "worse than doing nothing" if gain.mean < 0 else "no better than doing nothing"
        answer = "No"
    return Verdict(answer, f"{verdict.why} It is {word}.")


def _judge(table: PaperTable, metric: str) -> Verdict:
    """Compare the proposed method with every other agent, paired by seed.

    A seed that diverged has no number, so it may not speak for its agent by being left out: there is no Yes while a
    seed of the proposed method diverged, no No by an agent of which one did, and neither while runs that it rests on
    have no evaluation.
    """
    proposed, others = _sides(table)
    uncounted = _uncounted(table)
    if proposed is None:
        return Verdict("Open", f"{PROPOSED} is not among these runs, or no seed of it finished.{uncounted}")
    info = PAPER_COLUMNS[metric]
    text = f"{info.title} of {proposed.label}: {_spell(proposed, info)}"
    if not others:
        return Verdict("Open", f"{text}; no other agent to compare with.{uncounted}")
    text += f" against {'; '.join(f'{other.label} {_spell(other, info)}' for other in others)}.{uncounted}"
    gaps = {other.label: _paired(proposed, other, metric) for other in others}
    if any(gap.n == 0 for gap in gaps.values()):
        return Verdict("Open", f"{text} Not every pair shares a finished seed.")
    unsure = [name for name, gap in gaps.items() if gap.half is not None and not gap.excludes(0.0)]
    behind = [name for name, gap in gaps.items() if info.sign * gap.mean <= 0]
    ahead = set(behind) - set(unsure)
    if behind:  # one agent that is surely ahead is enough for a No
        unsure = [] if ahead else behind
    if unsure:
        return Verdict("Open", f"{text} The paired 95 % interval holds 0 against {', '.join(unsure)}.")
    if any(gap.half is None for gap in gaps.values()):
        return Verdict("Open", f"{text} One shared seed: no interval, so no test.")
    if proposed.missing or (behind and not any(other.label in ahead and _whole(other) for other in others)):
        return Verdict("Open", text)
    if not behind and (proposed.diverged or any(other.missing for other in others)):
        return Verdict("Open", text)
    return Verdict("No" if behind else "Yes", text)


def _whole(row: PaperRow) -> bool:
    """Return whether every run of a row has a number."""
    return not (row.diverged or row.missing)


def _uncounted(table: PaperTable) -> str:
    """Say which runs have no number, empty if all have one."""
    parts = []
    for row in table.agents:
        why = [f"{n} {what}" for n, what in ((row.diverged, "diverged"), (row.missing, "not evaluated")) if n]
        if why:
            total = len(row.runs) + row.missing
            parts.append(f"{row.label} {total - row.diverged - row.missing} of {total} ({', '.join(why)})")
    return f" Runs counted: {'; '.join(parts)}, of the others all." if parts else ""


def _sides(table: PaperTable) -> tuple[PaperRow | None, list[PaperRow]]:
    """Return the proposed method (the plain one, before its variants) and the other agents."""
    usable = [row for row in table.agents if row.n]
    proposed = sorted((row for row in usable if row.agent == PROPOSED), key=lambda row: row.label != PROPOSED)
    return proposed[0] if proposed else None, [row for row in usable if row.agent != PROPOSED]


def _paired(row: PaperRow, other: PaperRow, metric: str) -> Interval:
    a, b = (r.units[metric].groupby(level=0).mean() for r in (row, other))
    return mean_interval((a - b).dropna())


def _gap(row: PaperRow, other: PaperRow, metric: str) -> float:
    """Return by how much a row is better than another."""
    return PAPER_COLUMNS[metric].sign * (row.cell(metric).mean - other.cell(metric).mean)


def _spell(row: PaperRow, info: MetricInfo) -> str:
    interval = row.cell(info.name)
    half = "" if interval.half is None else f" ± {spell(interval.half, info.digits)}"
    return spell(interval.mean, info.digits, signed=info.name == "return_gain") + half
