"""Learning curves, read from progress.parquet only when they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from perturbrl import paths
from perturbrl.report.names import COLUMNS
from perturbrl.report.tables import Row

RETURN = "return_mean"
EVAL = {metric: f"eval/{'return' if metric == 'return_gain' else metric}" for metric in COLUMNS}
Points = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Curve:
    """One run's progress. ``frame`` has ``step`` (ascending), and ``stage`` and values where they were written."""

    seed: int
    diverged: bool
    frame: pd.DataFrame

    def points(self, column: str) -> Points:
        """Return the steps and values of one column, leaving out the iterations without a value."""
        if column not in self.frame:
            return np.empty(0), np.empty(0)
        kept = self.frame[["step", column]].dropna()
        return kept["step"].to_numpy(np.float64), kept[column].to_numpy(np.float64)

    @property
    def handover(self) -> float | None:
        """The last step of the first stage, where a run has more than one."""
        if "stage" not in self.frame or not len(self.frame):
            return None
        stage = self.frame["stage"]
        first = self.frame.loc[stage == stage.iloc[0], "step"]
        return float(first.iloc[-1]) if len(first) < len(self.frame) else None


def read(run: Path, seed: int = 0, diverged: bool = False) -> Curve | None:
    """Read the columns that figures use; ``None`` where there is no readable progress file."""
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        with pq.ParquetFile(run / paths.PROGRESS) as file:
            there = set(file.schema_arrow.names)
            wanted = [c for c in ("step", "stage", RETURN, *EVAL.values()) if c in there]
            frame = file.read(columns=wanted).to_pandas()
    except (OSError, ArrowException):
        return None
    if "step" not in frame:
        return None
    frame = frame.replace([np.inf, -np.inf], np.nan).drop_duplicates("step", keep="last").sort_values("step")
    return Curve(seed, diverged, frame)


def of_row(row: Row) -> list[Curve]:
    """Read the curves of every seed of one agent's row, diverged ones included."""
    found = [read(Path(run), seed, status == "diverged") for run, seed, status in row.runs]
    return [curve for curve in found if curve is not None]


def mean(curves: Sequence[Curve], column: str) -> Points:
    """Average the finished seeds on the steps that all of them cover.

    Runs of one configuration share their steps and nothing is interpolated; otherwise each is interpolated linearly at
    the steps of the coarsest.
    """
    points = [p for curve in curves if not curve.diverged and len((p := curve.points(column))[0])]
    if not points:
        return np.empty(0), np.empty(0)
    low, high = max(x[0] for x, _ in points), min(x[-1] for x, _ in points)
    grid = min((x for x, _ in points), key=len)
    grid = grid[(grid >= low) & (grid <= high)]
    return grid, np.mean([np.interp(grid, x, y) for x, y in points], axis=0)
