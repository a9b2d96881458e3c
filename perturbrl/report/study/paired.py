"""Tests of a study: paired over networks, which are its units of inference; Holm over what was declared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from perturbrl.report.study.results import Results
from perturbrl.report.text import count, spell
from perturbrl.stats import Claim, Span, claim, holm, least_units, sign_flip_test, stratified_bootstrap


@dataclass(frozen=True)
class Tested:
    """A claim and its test.

    ``difference`` is the mean over networks of first minus second, positive where the first is better, with its
    bootstrap interval (networks drawn anew). ``p`` is that of the exact paired sign-flip test, ``made`` the conclusion
    after Holm's correction over the declared claims. ``wins`` and ``losses`` count networks. ``obstacle`` says why no
    claim is made, empty if one may be.
    """

    first: str
    second: str
    metric: str
    task: str
    difference: Span
    p: float
    n: int
    wins: int
    losses: int
    declared: bool
    obstacle: str
    made: Claim

    @property
    def word(self) -> str:
        """``better``, ``worse``, ``no evidence``, or ``exploratory`` for what was not declared before the runs."""
        return self.made.word if self.declared else "exploratory"

    @property
    def sentence(self) -> str:
        """The claim in words."""
        verb = {"better": "is better than", "worse": "is worse than"}.get(self.word, "against")
        who, d = f"{self.first} {verb} {self.second} in {self.metric} on {self.task}", self.difference
        if not self.n:
            return f"{who}: not run."
        interval = f"95 % interval {spell(d.low, signed=True)} to {spell(d.high, signed=True)}"
        adjusted = (
            f"p = {self.p:.3g}, {self.made.p:.3g} after Holm" if self.declared else f"p = {self.p:.3g}, uncorrected"
        )
        counts = f"{self.wins} of {count(self.n, 'network')} better, {self.losses} worse"
        text = f"{who}: {spell(d.mean, signed=True)}"
        text += f" ({interval}; {adjusted}; {counts}; positive: the first is better)."
        text += f" No claim is made: {self.obstacle}." if self.obstacle else ""
        return text if self.declared else f"{text} Exploratory: not declared before the runs."


def paired_tests(results: Results) -> list[Tested]:
    """Test every claim that was declared before the runs, and those that the study's file has now, as exploratory."""
    declared = list(results.about["declared"]["claims"]["tests"])
    later = [one for one in results.about["claims"]["tests"] if one not in declared]
    alpha = float(results.about["declared"]["claims"]["alpha"])
    metrics = {**results.metrics, **results.about["declared"]["claims"]["metrics"]}
    numbers = [_numbers(results, one, metrics) for one in (*declared, *later)]
    n_networks = len(results.about["networks"]["test"])
    obstacles = [_obstacle(len(gaps), n_networks, len(declared), alpha) for gaps in numbers]
    p = [_p(gaps) for gaps in numbers]
    family = [1.0 if obstacle else value for value, obstacle in zip(p, obstacles, strict=True)][: len(declared)]
    adjusted = [*holm(family), *([math.nan] * len(later))] if declared else [math.nan] * len(later)
    out = []
    for k, (one, gaps, obstacle) in enumerate(zip((*declared, *later), numbers, obstacles, strict=True)):
        is_declared = k < len(declared)
        made = claim(span := _span(gaps), float(adjusted[k]) if is_declared else 1.0, alpha)
        wins, losses = int((gaps > 0).sum()), int((gaps < 0).sum())
        out.append(Tested(**one, difference=span, p=p[k], n=len(gaps), wins=wins, losses=losses,
                          declared=is_declared, obstacle=obstacle, made=made))  # fmt: skip
    return out


def means(results: Results, task: str, metric: str) -> dict[str, Span]:
    """Return the mean of each arm over networks and its bootstrap interval, of the arms with any."""
    table = results.by_network(task, metric)
    return {str(arm): _span(values) for arm in table if len(values := table[arm].dropna().to_numpy(np.float64))}


def _numbers(results: Results, one: Mapping[str, Any], metrics: Mapping[str, str]) -> np.ndarray[Any, Any]:
    """Return the difference on each network that has both, positive where the first is better."""
    if one["metric"] not in results.runs:
        return np.empty(0)
    table = results.by_network(one["task"], one["metric"])
    if not {one["first"], one["second"]} <= set(table.columns):
        return np.empty(0)
    gaps: pd.Series[float] = table[one["first"]] - table[one["second"]]
    sign = 1.0 if metrics[one["metric"]] == "larger" else -1.0
    return np.asarray(sign * gaps.dropna().to_numpy(np.float64))


def _obstacle(n: int, of: int, family: int, alpha: float) -> str:
    least = least_units(max(1, family), alpha)
    if n < of:
        return f"{of - n} of {count(of, 'network')} have no result of both"
    return f"too few networks, {n} where it takes {least}" if n < least else ""


def _p(gaps: np.ndarray[Any, Any]) -> float:
    return sign_flip_test(gaps) if len(gaps) else 1.0


def _span(values: Sequence[float] | np.ndarray[Any, Any]) -> Span:
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2:
        return Span(float(x[0]) if len(x) else math.nan, math.nan, math.nan)
    generator = np.random.default_rng(0)  # the same interval for the same numbers
    return stratified_bootstrap(x[:, None], lambda scores: scores.mean(axis=(-2, -1)), generator)
