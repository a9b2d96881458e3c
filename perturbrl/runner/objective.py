"""The number that a sweeper optimises: what ``perturbrl train`` returns to Hydra for a run."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from perturbrl import paths, records
from perturbrl.errors import UserError
from perturbrl.records import RunDir

COLUMNS = ("eval/return", "return_mean")  # of the training log; the first that has a value


def objective(folder: Path) -> float:
    """Return the last return in the log of a complete run; larger is better.

    It is the true return of the deterministic policy, on the cells of the learning curve; with ``curve_points=0`` the
    mean return of the episodes of training. NaN for a run that diverged or whose log cannot be read.
    """
    try:
        if RunDir(folder).run.get("status") != "complete":
            return math.nan
        log = records.read_parquet(folder / paths.PROGRESS)
    except UserError:
        return math.nan
    values = (last_value(log, column) for column in COLUMNS)
    return next((value for value in values if not math.isnan(value)), math.nan)


def last_value(log: pd.DataFrame, column: str) -> float:
    """Return the last value of a column of a training log; NaN where it has none, or there is no such column."""
    values = log[column].dropna() if column in log else pd.Series(dtype=float)
    return float(values.iloc[-1]) if len(values) else math.nan
