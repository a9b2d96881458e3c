"""From the ``study.json`` of a study to its page, figures and CSV files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from perturbrl import status
from perturbrl.files import write_text
from perturbrl.report import style
from perturbrl.report.html import DARK, render
from perturbrl.report.study import figures
from perturbrl.report.study.paired import Tested, means, paired_tests
from perturbrl.report.study.results import Results, read
from perturbrl.report.text import DASH, count, spell
from perturbrl.stats import Span, least_units

PAGE = "study.html"
WORDS = {"better": "yes", "worse": "no", "no evidence": "open", "exploratory": "open"}  # classes of the page


@dataclass(frozen=True)
class StudyReport:
    """The page of a study, and its conclusions as lines for a terminal."""

    page: Path
    sentences: tuple[str, ...]


def build_study(folder: Path) -> StudyReport:
    """Write ``study.html``, ``values.csv``, ``networks.csv``, ``claims.csv`` and figures beside ``study.json``.

    Raises
    ------
    UserError
        ``study.json`` cannot be read.
    """
    with status.step("reading runs"):
        results = read(folder)
        tests = paired_tests(results)
    with status.step("drawing figures"):
        pictures = figures.draw(results, tests, folder / "figures")
        sharp = figures.draw_sharpness(results, folder)
    for name, frame in (("values", _values(results)), ("networks", _networks(results)), ("claims", _claims(tests))):
        write_text(folder / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
    page = folder / PAGE
    write_text(page, _page(results, tests, pictures, sharp, folder))
    return StudyReport(page, tuple(f"{one.word}: {one.sentence}" for one in tests))


def _values(results: Results) -> pd.DataFrame:
    return pd.concat([results.runs, results.rows.assign(seed=pd.NA, status="", steps=0)], ignore_index=True)


def _networks(results: Results) -> pd.DataFrame:
    parts = [
        results.by_network(str(task), metric).rename_axis(index="network", columns="arm").stack()
        .rename("mean").reset_index().assign(task=task, metric=metric)
        for task in results.about["tasks"] for metric in results.metrics
    ]  # fmt: skip
    whole = pd.concat(parts, ignore_index=True)
    return whole.assign(family=whole["network"].map(results.about["networks"]["test"]))


def _claims(tests: Sequence[Tested]) -> pd.DataFrame:
    keys = ("first", "second", "metric", "task", "n", "wins", "losses", "p", "declared", "obstacle")
    return pd.DataFrame(
        [
            {key: getattr(one, key) for key in keys}
            | asdict(one.difference)
            | {"p_holm": one.made.p if one.declared else None, "conclusion": one.word}
            for one in tests
        ]
    )


def _cell(span: Span | None) -> dict[str, str]:
    if span is None:
        return {"value": DASH, "ends": ""}
    digits, group = (0, ",") if abs(span.mean) >= 1000 else (3, "")  # steps, or scores
    mean, low, high = (spell(value, digits, group=group) for value in (span.mean, span.low, span.high))
    return {"value": mean, "ends": f"{low} to {high}" if span.low == span.low else ""}


def _grid(results: Results, task: str) -> dict[str, Any]:
    """Return the table of one task: arms by metrics, means over networks with intervals, and steps of a run."""
    spans = {metric: means(results, task, metric) for metric in results.metrics}
    runs = results.runs[results.runs["task"] == task]
    lines = []
    for arm in results.arms:
        own = runs[runs["arm"] == arm]
        steps = sorted({int(n) for n in own["steps"]})
        chosen = results.about["chosen"].get(task, {}).get(arm, "")
        diverged = int((own["status"] == "diverged").sum())
        lines.append(
            {
                "arm": arm,
                "trained": arm in results.about["arms"],
                "chosen": chosen,
                "diverged": diverged,
                "steps": " to ".join(f"{n:,}" for n in dict.fromkeys((steps[0], steps[-1]))) if steps else DASH,
                "cells": [_cell(spans[metric].get(arm)) for metric in results.metrics],
            }
        )
    return {"task": task, "lines": lines}


def _page(
    results: Results,
    tests: Sequence[Tested],
    pictures: Sequence[style.Picture],
    sharp: Sequence[style.Picture],
    folder: Path,
) -> str:
    about = results.about
    return render(
        "study/study.html",
        light=style.PALETTE,
        dark=DARK,
        about=about,
        lead=_lead(results),
        methods=_methods(about, len(tests)),
        tests=tests,
        words=WORDS,
        metrics=results.metrics,
        grids=[_grid(results, str(task)) for task in about["tasks"]],
        pictures=pictures,
        sharp=sharp,
        missing=results.missing,
        files=sorted(f.name for f in folder.glob("*.csv")),
    )


def _lead(results: Results) -> str:
    about, test = results.about, results.about["networks"]["test"]
    parts = [
        f"{count(len(test), 'network')} of {', '.join(dict.fromkeys(test.values()))}",
        count(len(about["arms"]), "trained arm"),
        f"{count(about['seeds'], 'seed')} each",
        count(len(about["tasks"]), "task"),
        f"{count(len(results.runs), 'run')}, {int(results.runs['steps'].sum()):,} environment steps",
    ]
    return "; ".join(parts) + "."


def _methods(about: Mapping[str, Any], n_tests: int) -> list[str]:
    """Return what a reviewer asks: budgets, tuning, unit of inference, tests, and when claims were declared."""
    declared, tuning = about["declared"], about["networks"]["tuning"]
    claims = declared["claims"]
    n = len(claims["tests"])
    tried = next(iter(about["arms"].values()))["candidates"]
    steps = f"{about['steps']:,} environment steps" if about.get("steps") else "the steps of the budget"
    tune_runs = f"{count(about['tuning_runs'], 'tuning run')} on {count(len(tuning), 'validation network')}"
    return [
        f"Budget: a run of an arm has {steps}, times the arm's share; stages are rounded up to whole rollouts.",
        f"Tuning: {count(len(tried), 'candidate')} for each arm, {tune_runs} ({', '.join(tuning)}), none of which is a "
        f"test network; tuning seeds {', '.join(map(str, about['tuning_seeds']))}; the best mean is chosen.",
        "The unit of inference is the network: seeds are averaged within each, arms are paired on it. Intervals: "
        "percentile bootstrap over networks, 95 %. Tests: exact sign-flip permutation over networks (t test above 40).",
        f"Holm's correction covers the {count(n, 'claim')} declared before the first run, level {claims['alpha']:g}; a "
        f"claim takes {least_units(max(1, n), claims['alpha'])} or more networks. Declared claims, sha256 "
        f"{declared['sha256']}. {count(n_tests - n, 'comparison')} added later: exploratory.",
        "A run that diverged counts as doing nothing. A network without every run of an arm has no mean for it.",
    ]
