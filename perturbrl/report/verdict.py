"""Whether the proposed method won: under the released metric, and at the true task."""

from __future__ import annotations

from dataclasses import dataclass

from perturbrl.metrics_info import PAPER, PAPER_COLUMNS
from perturbrl.report.paper import DO_NOTHING, PaperRow, PaperTable
from perturbrl.report.published import PROPOSED
from perturbrl.report.text import spell
from perturbrl.stats import Interval, mean_interval


@dataclass(frozen=True)
class Verdict:
    """``answer`` is Yes, No or Open; ``why`` gives the numbers."""

    answer: str
    why: str


def released(table: PaperTable) -> Verdict:
    """Judge by the MSE of the released protocol, and count the ten columns in which the proposed method is first."""
    verdict = _judge(table, "mse")
    mine, others = _sides(table)
    if mine is None or not others:
        return verdict
    first = sum(all(_better(mine, other, m) for other in others) for m in PAPER)
    text = f"{verdict.why} First of {len(others) + 1} agents in {first} of {len(PAPER)} columns."
    if (still := _floor(table)) is not None:
        ahead = sum(_better(still, mine, m) for m in PAPER)
        text += f" Doing nothing beats it in {ahead} of {len(PAPER)}."
    return Verdict(verdict.answer, text)


def true_task(table: PaperTable) -> Verdict:
    """Judge by the return in the environment above that of doing nothing; to win is to beat doing nothing too."""
    verdict = _judge(table, "return_gain")
    mine, _ = _sides(table)
    if mine is None:
        return verdict
    gain = mine.cell("return_gain")
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


def _judge(table: PaperTable, metric: str) -> Verdict:
    mine, others = _sides(table)
    if mine is None:
        return Verdict("Open", f"{PROPOSED} is not among these runs, or no seed of it finished.")
    info = PAPER_COLUMNS[metric]
    stated = f"{info.title} of {mine.label}: {_spell(mine.cell(metric), metric)}"
    if not others:
        return Verdict("Open", f"{stated}; no other agent to compare with.")
    sign = info.sign
    gaps = {other.label: _paired(mine, other, metric) for other in others}
    values = "; ".join(f"{other.label} {_spell(other.cell(metric), metric)}" for other in others)
    text = f"{stated} against {values}."
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


def _sides(table: PaperTable) -> tuple[PaperRow | None, list[PaperRow]]:
    usable = [row for row in table.agents if row.n]
    mine = [row for row in usable if row.agent == PROPOSED]
    if not mine:
        return None, usable
    best = min(mine, key=lambda row: row.label != PROPOSED)  # the plain one, before its variants
    return best, [row for row in usable if row.agent != PROPOSED]


def _paired(mine: PaperRow, other: PaperRow, metric: str) -> Interval:
    a, b = (row.units[metric].groupby(level=0).mean() for row in (mine, other))
    return mean_interval((a - b).dropna())


def _better(row: PaperRow, other: PaperRow, metric: str) -> bool:
    a, b = row.cell(metric).mean, other.cell(metric).mean
    return PAPER_COLUMNS[metric].sign * (a - b) > 0


def _floor(table: PaperTable) -> PaperRow | None:
    return next((row for row in table.floors if row.label == DO_NOTHING), None)


def _spell(interval: Interval, metric: str) -> str:
    digits = PAPER_COLUMNS[metric].digits
    half = "" if interval.half is None else f" ± {spell(interval.half, digits)}"
    return spell(interval.mean, digits, signed=metric == "return_gain") + half
