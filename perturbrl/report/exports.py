"""``values.csv`` and ``curves.csv``: every score and every learning curve of a report, for other programs.

docs/use.md says what each column holds.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from perturbrl import paths
from perturbrl.report.collect import Collection
from perturbrl.report.curves import RETURN
from perturbrl.report.recorded import spelled

ABOUT = (
    *("run", "name", "source", "data", "env", "cells", "task", "agent", "variant", "encoder", "policy", "seed"),
    *("schedule", "steps", "preset", "status", "config_hash"),
)
SCORES = ("row", "metric", "value")
CURVE = ("run", "variant", "seed", "status", "step", "stage", RETURN)
EVALUATED = "eval/"  # start of the names of columns at evaluation points


def values(collection: Collection) -> pd.DataFrame:
    """Return one line for each run, row and metric: ``ABOUT``, the settings that differ between runs, ``SCORES``."""
    about = _about(collection)
    index = about.set_index(collection.runs["run"])
    scores = collection.frame[["run", *SCORES]]
    lines = index.loc[scores["run"]].reset_index(drop=True)
    return pd.concat([lines, scores[list(SCORES)].reset_index(drop=True)], axis=1)


def curves(collection: Collection) -> pd.DataFrame:
    """Return one line for each run and logged iteration: ``CURVE``, then every ``eval/`` column that a run has."""
    parts = []
    about = _about(collection)
    for place, line in zip(collection.runs["run"], about.to_dict("records"), strict=True):
        frame = _progress(Path(place))
        if frame is not None:
            parts.append(frame.assign(**{key: line[key] for key in ("run", "variant", "seed", "status")}))
    if not parts:
        return pd.DataFrame(columns=list(CURVE))
    whole = pd.concat(parts, ignore_index=True)
    return whole.reindex(columns=[*CURVE, *(c for c in whole if str(c).startswith(EVALUATED))])


def outputs_folder(collection: Collection) -> Path:
    """Return the folder that the paths of runs in the files are relative to: what is above all their sweeps."""
    return Path(os.path.commonpath(list(collection.runs["outputs"])))


def _about(collection: Collection) -> pd.DataFrame:
    root = outputs_folder(collection)
    about = collection.runs.rename(columns={"label": "variant"})
    about["run"] = [Path(run).relative_to(root).as_posix() for run in about["run"]]
    settings = [collection.differing.get(run, {}) for run in collection.runs["run"]]
    keys = sorted({key for one in settings for key in one})
    columns = {key: [spelled(one[key]) if key in one else "" for one in settings] for key in keys}
    return pd.concat([about[list(ABOUT)], pd.DataFrame(columns, index=about.index)], axis=1)


def _progress(run: Path) -> pd.DataFrame | None:
    """Return the log of a run, each step once; None where there is no readable one."""
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        with pq.ParquetFile(run / paths.PROGRESS) as file:
            names = file.schema_arrow.names
            wanted = [c for c in names if c in ("step", "stage", RETURN) or c.startswith(EVALUATED)]
            frame: pd.DataFrame = file.read(columns=wanted, use_threads=False).to_pandas()
    except (OSError, ArrowException):
        return None
    if "step" not in frame:
        return None
    # a resumed run repeats a step: the later line holds
    return frame.drop_duplicates("step", keep="last").sort_values("step", kind="stable")
