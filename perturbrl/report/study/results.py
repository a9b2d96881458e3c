"""What the runs of a study scored, as tables: a line for each run, and the means over seeds of each network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from perturbrl.files import read_json
from perturbrl.report import run_files
from perturbrl.report.curves import read as read_curve
from perturbrl.report.run_files import LeftOut

STUDY = "study.json"
POLICY, FLOOR = "policy", "do_nothing"  # rows of an evaluation; a run that diverged counts as the floor
STEPS = "steps_to_optimal"
KEYS = ["task", "network", "family", "arm"]


@dataclass(frozen=True)
class Results:
    """A study and its scores.

    ``about`` is the content of ``study.json``. ``runs`` has a line for each run: ``KEYS``, ``seed``, ``status``,
    ``steps`` and a column for each metric. ``rows`` has a line for each row without training, on each task and network:
    ``KEYS`` (its name as ``arm``) and the metrics. ``missing`` says of each run that could not be read why.
    """

    about: Mapping[str, Any]
    runs: pd.DataFrame
    rows: pd.DataFrame
    missing: tuple[str, ...]

    @property
    def metrics(self) -> dict[str, str]:
        """Metrics, and whether larger or smaller is better."""
        return dict(self.about["metrics"])

    @property
    def arms(self) -> list[str]:
        """Names of what was trained, then of the rows without training."""
        return [*self.about["arms"], *self.about["rows"]]

    def by_network(self, task: str, metric: str) -> pd.DataFrame:
        """Return the mean over seeds: networks by arms; NaN where a network lacks a run of the arm.

        A network of which some seeds are missing has no mean: those left might be the lucky ones.
        """
        runs = self.runs[self.runs["task"] == task]
        seeds = int(self.about["seeds"])
        counted = runs.pivot_table(index="network", columns="arm", values="seed", aggfunc="count")
        means = runs.pivot_table(index="network", columns="arm", values=metric, aggfunc="mean", dropna=False)
        whole = means.where(counted.reindex_like(means) >= seeds)
        rows = self.rows[self.rows["task"] == task]
        without = rows.pivot_table(index="network", columns="arm", values=metric, aggfunc="mean", dropna=False)
        networks = [n for n in self.about["networks"]["test"] if n in set(whole.index) | set(without.index)]
        return pd.concat([whole.reindex(networks), without.reindex(networks)], axis=1).reindex(columns=self.arms)

    def family(self, network: str) -> str:
        """Return the family of a test network."""
        return str(self.about["networks"]["test"][network])


def read(folder: Path) -> Results:
    """Read the study whose report stands in ``folder``; runs lie beside that folder.

    Raises
    ------
    UserError
        ``study.json`` cannot be read.
    """
    about = read_json(folder / STUDY)
    metrics = list(about["metrics"])
    runs: list[dict[str, Any]] = []
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    missing: list[str] = []
    for one in about["runs"]:
        place = folder.parent / one["run"]
        try:
            run, summary = run_files.run_json(place), run_files.summary(place)
        except LeftOut as error:
            missing.append(f"{one['run']}: {error}")
            continue
        scores = summary.get("rows", {})
        key = {"task": one["task"], "network": one["network"], "family": about["networks"]["test"][one["network"]]}
        floor = run.get("status") == "diverged"
        scores = _optimal(about["claims"].get("optimal"), place, int(run["steps"]), scores)
        about_run = {**key, "arm": one["arm"], "seed": one["seed"], "status": run.get("status"), "steps": run["steps"]}
        runs.append(about_run | _numbers(scores.get(FLOOR if floor else POLICY, {}), metrics))
        for name in about["rows"]:
            if name in scores:
                numbers = _numbers({k: v for k, v in scores[name].items() if k != STEPS}, metrics)  # it is not trained
                rows.setdefault((one["task"], one["network"], name), {**key, "arm": name} | numbers)
    columns = [*KEYS, "seed", "status", "steps", *metrics]
    without = pd.DataFrame(list(rows.values()), columns=[*KEYS, *metrics])
    return Results(about, pd.DataFrame(runs, columns=columns), without, tuple(missing))


def _optimal(
    optimal: Mapping[str, Any] | None, run: Path, steps: int, rows: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Add to each row whether it is in the optimal basin, and to the policy's the steps at which it came there.

    A run that never came there counts with all its steps, which is a lower bound.
    """
    made: dict[str, dict[str, Any]] = {name: dict(row) for name, row in rows.items()}
    if optimal is None:
        return made
    within, column = float(optimal["within"]), str(optimal["column"])
    for row in made.values():
        regret = row.get("regret")
        row["optimal_share"] = None if regret is None else float(regret <= within)
    best = made.get("optimum", {}).get("return")
    curve = None if best is None else read_curve(run, columns=(column,))
    if curve is not None and best is not None:
        at, values = curve.points(column)
        there = at[values >= best - within]
        for name in (POLICY, FLOOR):
            made.setdefault(name, {})[STEPS] = float(there[0]) if name == POLICY and len(there) else float(steps)
    return made


def _numbers(scores: Mapping[str, Any], metrics: list[str]) -> dict[str, float]:
    return {metric: math.nan if scores.get(metric) is None else float(scores[metric]) for metric in metrics}
