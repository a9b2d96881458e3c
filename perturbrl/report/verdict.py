"""Whether the proposed method won: under the released metric, and at the true task."""

from __future__ import annotations

from dataclasses import dataclass

from perturbrl.report.names import HEADINGS, LOWER_IS_BETTER, METRICS, PROPOSED, number
from perturbrl.report.tables import Row, Table
from perturbrl.stats import Interval, mean_interval


@dataclass(frozen=True)
class Verdict:
    """``answer`` is Yes, No or Open; ``why`` gives the numbers."""

    answer: str
    why: str


def released(table: Table) -> Verdict:
    """Judge by the MSE of the released protocol, and count the ten columns in which the proposed method is first."""
    verdict = _judge(table, "mse")
    mine, others = _sides(table)
    if mine is None or not others:
        return verdict
    first = sum(all(_better(mine, other, m) for other in others) for m in METRICS)
    text = f"{verdict.why} First of {len(others) + 1} agents in {first} of {len(METRICS)} columns."
    if (still := _floor(table)) is not None:
        ahead = sum(_better(still, mine, m) for m in METRICS)
        text += f" Doing nothing beats it in {ahead} of {len(METRICS)}."
    return Verdict(verdict.answer, text)


def true_task(table: Table) -> Verdict:
    """Judge by the return in the environment above that of doing nothing; to win is to beat doing nothing too."""
    verdict = _judge(table, "return_gain")
    mine, _ = _sides(table)
    if mine is None:
        return verdict
    gain = mine.cells["return_gain"]
    if gain.n == 0:
        return verdict
    answer = verdict.answer
    if gain.half is not None and not gain.excludes(0.0):
        word = "not told apart from doing nothing"
        answer = "Open" if answer == "Yes" else answer
    elif gain.mean > 0:
        word = "better than doing nothing"
    else:
        word = "worse than doing nothing" if gain.mean < 0 else "no better than doing nothing"
        answer = "No"
    return Verdict(answer, f"{verdict.why} It is {word}.")


def _judge(table: Table, metric: str) -> Verdict:
    mine, others = _sides(table)
    if mine is None:
        return Verdict("Open", f"{PROPOSED} is not among these runs, or no seed of it finished.")
    own = f"{HEADINGS[metric]} of {mine.label}: {_spell(mine.cells[metric], metric)}"
    if not others:
        return Verdict("Open", f"{own}; no other agent to compare with.")
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    gaps = {other.label: _paired(mine, other, metric) for other in others}
    values = "; ".join(f"{other.label} {_spell(other.cells[metric], metric)}" for other in others)
    text = f"{own} against {values}."
    if any(gap.n == 0 for gap in gaps.values()):
        return Verdict("Open", f"{text} Not every pair shares a finished seed.")
    if all(sign * gap.mean > 0 for gap in gaps.values()):
        unsure = [name for name, gap in gaps.items() if gap.half is not None and not gap.excludes(0.0)]
        answer = "Yes"
    else:
        behind = {name: gap for name, gap in gaps.items() if sign * gap.mean <= 0}
        sure = [name for name, gap in behind.items() if gap.half is None or gap.excludes(0.0)]
        unsure = [] if sure else list(behind)
        answer = "No"
    if unsure:
        return Verdict("Open", f"{text} The paired 95 % interval holds 0 against {', '.join(unsure)}.")
    if any(gap.half is None for gap in gaps.values()):
        return Verdict("Open", f"{text} One shared seed: no interval, so no test.")
    return Verdict(answer, text)


def _sides(table: Table) -> tuple[Row | None, list[Row]]:
    usable = [row for row in table.agents if row.n]
    mine = [row for row in usable if row.agent == PROPOSED]
    if not mine:
        return None, usable
    best = min(mine, key=lambda row: row.label != PROPOSED)  # the plain one, before its variants
    return best, [row for row in usable if row.agent != PROPOSED]


def _paired(mine: Row, other: Row, metric: str) -> Interval:
    a, b = (row.per_seed[metric].groupby(level=0).mean() for row in (mine, other))
    return mean_interval((a - b).dropna())


def _better(row: Row, other: Row, metric: str) -> bool:
    a, b = row.cells[metric].mean, other.cells[metric].mean
    return a < b if metric in LOWER_IS_BETTER else a > b


def _floor(table: Table) -> Row | None:
    return next((row for row in table.floors if row.label == "do_nothing"), None)


def _spell(interval: Interval, metric: str) -> str:
    half = "" if interval.half is None else f" ± {number(interval.half, metric)}"
    return number(interval.mean, metric, metric == "return_gain") + half
