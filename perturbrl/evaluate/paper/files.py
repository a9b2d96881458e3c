"""Write the evaluation of one run: ``per_feature.parquet``, then ``summary.json``; each appears whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from perturbrl import paths, records
from perturbrl.data.schema import CellTable
from perturbrl.errors import UserError
from perturbrl.evaluate.actions import Act
from perturbrl.evaluate.paper.scores import PaperProtocolConfig, PaperResult, Row, evaluate_paper

NOTE = "reproduction of the published computation; not a measure of prediction"


def evaluate_run(
    policy: Act | None,
    table: CellTable,
    env_name: str,
    env_config: Any,
    info: Mapping[str, Any],
    out_dir: Path,
    config: PaperProtocolConfig,
    floors: Mapping[str, Row] | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Evaluate a policy (None: one that diverged), write both files under ``out_dir`` and return the summary.

    ``info`` joins the summary as it is (steps, agent, seed of the run, ...); ``out_dir`` is the run's ``evaluation``
    folder, made if absent. A number that does not exist (a diverged policy) is null in the summary and NaN in the
    table.

    Raises
    ------
    UserError
        A key of ``info`` is one that the protocol writes, a file cannot be written, or see ``evaluate_paper``.
    """
    result = evaluate_paper(policy, table, env_name, env_config, config, floors, device)
    summary = summarise(result, config, info)
    features = feature_table(result, table)
    try:
        records.write_parquet(out_dir / paths.PER_FEATURE, features)
        records.write_json(out_dir / paths.SUMMARY, summary)
    except OSError as error:
        raise UserError(f"{out_dir}: the evaluation cannot be written ({error.strerror or error})") from error
    return summary


def summarise(result: PaperResult, config: PaperProtocolConfig, info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``summary.json`` holds: the protocol, ``info``, the names of diverged rows, each row's numbers."""
    rows = {name: {key: _or_none(value) for key, value in row.numbers().items()} for name, row in result.rows.items()}
    own = {
        "protocol": config.name,
        "note": NOTE,
        "n_cells": result.n_cells,
        "clip": config.clip,
        "discrete_step": config.discrete_step,
        "return_episodes": config.return_episodes,
        "evaluation_seed": config.seed,
        "diverged": [name for name, row in result.rows.items() if row.diverged],
    }
    if taken := set(info) & {*own, "rows"}:
        raise UserError(f"{paths.SUMMARY}: the key {sorted(taken)[0]} is written by the protocol; call it otherwise")
    return {**own, **info, "rows": rows}


def feature_table(result: PaperResult, table: CellTable) -> pd.DataFrame:
    """Return one line for each row and feature: ``row``, ``feature``, ``modality`` (or empty), then the metrics."""
    modality = np.full(table.n_features, "", dtype=object)
    for name, columns in table.slices.items():
        modality[columns] = name
    blocks = [
        pd.DataFrame({"row": name, "feature": list(table.features), "modality": modality, **row.per_feature})
        for name, row in result.rows.items()
    ]
    return pd.concat(blocks, ignore_index=True)


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
