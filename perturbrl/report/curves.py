"""Learning curves, read from progress.parquet only when they are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perturbrl import paths
from perturbrl.metrics_info import PAPER_COLUMNS
from perturbrl.stats import mean_interval

RETURN = "return_mean"
EVAL = {metric: f"eval/{'return' if metric == 'return_gain' else metric}" for metric in PAPER_COLUMNS}
Points = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Curve:
    """One run's progress: ``steps`` [n] ascending, the ``values`` [n] of each column (NaN where none was written).

    ``handover`` is the last step of the first stage, where a run has more than one.
    """

    seed: int
    diverged: bool
    steps: NDArray[np.float64]
    values: Mapping[str, NDArray[np.float64]]
    handover: float | None = None

    def points(self, column: str) -> Points:
        """Return the steps and values of one column, leaving out the iterations without a value."""
        if column not in self.values:
            return np.empty(0), np.empty(0)
        there = np.isfinite(self.values[column])
        return self.steps[there], self.values[column][there]


def read(run: Path, seed: int = 0, diverged: bool = False, columns: Sequence[str] = ()) -> Curve | None:
    """Read the columns that figures use, or ``columns``; ``None`` where there is no readable progress file."""
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    wanted = columns or (RETURN, *EVAL.values())
    try:
        with pq.ParquetFile(run / paths.PROGRESS) as file:
            there = set(file.schema_arrow.names)
            table = file.read(columns=[c for c in ("step", "stage", *wanted) if c in there], use_threads=False)
    except (OSError, ArrowException):
        return None
    if "step" not in there or not len(table):
        return None
    values = {c: table.column(c).to_numpy().astype(np.float64) for c in table.column_names if c != "stage"}
    order = np.argsort(values["step"], kind="stable")
    last = np.append(np.diff(values["step"][order]) != 0, True)  # a resumed run repeats a step: the later line holds
    order = order[last]
    steps = values.pop("step")[order]
    handover = None
    if "stage" in there:
        stage = table.column("stage").to_numpy()[order]
        first = steps[stage == stage[0]]
        handover = float(first[-1]) if len(first) < len(steps) else None
    return Curve(seed, diverged, steps, {c: v[order] for c, v in values.items()}, handover)


def of_runs(runs: Sequence[tuple[str, int, str]], columns: Sequence[str] = ()) -> list[Curve]:
    """Read the curves of runs given as (directory, seed, status), diverged ones included."""
    curves = [read(Path(run), seed, status == "diverged", columns) for run, seed, status in runs]
    return [curve for curve in curves if curve is not None]


@dataclass(frozen=True)
class Band:
    """The mean over seeds at ``steps`` [n], and half the width of its 95 % t interval (NaN of a single seed)."""

    steps: NDArray[np.float64]
    mean: NDArray[np.float64]
    half: NDArray[np.float64]


def band(curves: Sequence[Curve], column: str) -> Band:
    """Average the finished seeds on the steps that all of them cover.

    Runs of one configuration share their steps and nothing is interpolated; otherwise each is interpolated linearly at
    the steps of the coarsest.
    """
    points = [p for curve in curves if not curve.diverged and len((p := curve.points(column))[0])]
    if not points:
        return Band(np.empty(0), np.empty(0), np.empty(0))
    low, high = max(x[0] for x, _ in points), min(x[-1] for x, _ in points)
    grid = min((x for x, _ in points), key=len)
    grid = grid[(grid >= low) & (grid <= high)]
    values = np.array([np.interp(grid, x, y) for x, y in points])
    intervals = [mean_interval(column) for column in values.T]
    half = np.array([np.nan if one.half is None else one.half for one in intervals])
    return Band(grid, np.mean(values, axis=0), half)
