"""How a protocol writes the folder ``evaluation`` of a run. Each file appears whole or not at all, the summary last."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from perturbrl import paths, records
from perturbrl.errors import UserError
from perturbrl.metrics_info import NOT_SCORES


def score_settings(config: Any) -> dict[str, Any]:
    """Return the settings of a protocol that can change a score; reports keep runs apart that differ in them."""
    return {key: value for key, value in asdict(config).items() if key not in NOT_SCORES}


def write_evaluation(
    folder: Path,
    summary: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
    export: Callable[[], None] | None = None,
) -> None:
    """Write ``tables`` (file name -> rows), call ``export`` for other files, then write ``summary.json``.

    Numbers of ``summary`` that are not finite are written as null; ``folder`` is made if absent.

    Raises
    ------
    UserError
        A file cannot be written.
    """
    try:
        for name, frame in tables.items():
            records.write_parquet(folder / name, frame)
        if export is not None:
            export()
        records.write_json(folder / paths.SUMMARY, finite(summary))
    except OSError as error:
        raise UserError(f"{folder}: the evaluation cannot be written ({error.strerror or error})") from error


def finite(value: Any) -> Any:
    """Return ``value`` with None for every float, at any depth of its dicts, that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
