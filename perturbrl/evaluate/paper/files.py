"""What ``protocol=paper`` writes: the summary of a run, and its metrics for each feature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from perturbrl import paths
from perturbrl.data.schema import CellTable
from perturbrl.errors import UserError
from perturbrl.evaluate.files import score_settings
from perturbrl.evaluate.paper.config import PaperProtocolConfig
from perturbrl.evaluate.paper.rows import Row

NOTE = "reproduction of the published computation; not a measure of prediction"


def summarise(
    rows: Mapping[str, Row], n_cells: int, config: PaperProtocolConfig, info: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what ``summary.json`` holds: the protocol, ``info`` of the run, the diverged rows, each row's numbers.

    Raises
    ------
    UserError
        A key of ``info`` is one that the protocol writes.
    """
    summary = {
        "protocol": config.name,
        "note": NOTE,
        "n_cells": n_cells,
        "clip": config.clip,
        "discrete_step": config.discrete_step,
        "return_episodes": config.return_episodes,
        "evaluation_seed": config.seed,
        "settings": score_settings(config),
        "diverged": [name for name, row in rows.items() if row.diverged],
    }
    if taken := set(info) & {*summary, "rows"}:
        raise UserError(f"{paths.SUMMARY}: the key {sorted(taken)[0]} is written by the protocol; call it otherwise")
    return {**summary, **info, "rows": {name: row.numbers() for name, row in rows.items()}}


def feature_table(rows: Mapping[str, Row], table: CellTable) -> pd.DataFrame:
    """Return one line for each row and feature: ``row``, ``feature``, ``modality`` (or empty), then the metrics."""
    modality = np.full(table.n_features, "", dtype=object)
    for name, columns in table.slices.items():
        modality[columns] = name
    blocks = [
        pd.DataFrame({"row": name, "feature": list(table.features), "modality": modality, **row.per_feature})
        for name, row in rows.items()
    ]
    return pd.concat(blocks, ignore_index=True)
