"""Every metric of every row, raw and calibrated. Letters: n test conditions, G genes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from perturbrl.effects import profile_metrics
from perturbrl.effects.observed import ObservedEffects
from perturbrl.errors import UserError
from perturbrl.evaluate.counterfactual.calibration import calibrate, dynamic_range
from perturbrl.evaluate.counterfactual.cellwise import CALLED, CellMetrics
from perturbrl.evaluate.counterfactual.judge import Values, judge_of
from perturbrl.evaluate.counterfactual.prediction import Prediction
from perturbrl.metrics_info import DUPLICATES, HELD_OUT

Array = NDArray[np.float64]
BASE = "train_mean"
_BY_TRUTH = ("pds_cosine", "wmse_ratio", "wr2_delta", "mse_norm", "energy_ratio", "r2_delta")


@dataclass(frozen=True)
class Scores:
    """Scores of the rows of one table.

    ``frame`` has the columns row, condition, stratum, n_cells, effect_size, metric, value: one line for each row,
    metric and condition of that metric's cohort, the same for every row but the oracles (NaN: undefined there).
    ``rows`` maps a row to ``<metric>`` (mean over the cohort), ``median/<metric>``, ``resistant/<metric>`` and
    ``calibrated/<metric>`` (of means over the part of the cohort that can be halved). ``coverage`` is the part of the
    conditions that a row says anything of.
    """

    frame: pd.DataFrame
    rows: dict[str, dict[str, float]]
    header: dict[str, Any]
    coverage: dict[str, float]
    flags: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """Return rows, header, coverage and flags for JSON: null where a number is not finite."""
        return {
            "header": _jsonable(self.header),
            "rows": _jsonable(self.rows),
            "coverage": _jsonable(self.coverage),
            "flags": list(self.flags),
        }


def score(truth: ObservedEffects, predictions: Mapping[str, Prediction]) -> Scores:
    """Score every prediction, the training mean, and the duplicates that the truth itself gives.

    Undefined values count as ``MetricInfo.undefined`` in aggregates; a change that is not finite is replaced by no
    change and flagged. Cohorts are chosen by the truth alone.

    Raises
    ------
    UserError
        A prediction has the wrong shape, or the name of an oracle row.
    """
    flags: list[str] = []
    coverage: dict[str, float] = {}
    cleaned: dict[str, Prediction] = {}
    for row, prediction in predictions.items():
        cleaned[row] = _clean(row, prediction, truth, flags)
        coverage[row] = 1.0 if prediction.covered is None else float(prediction.covered.mean())
    cleaned.setdefault(BASE, Prediction(truth.centre))
    coverage.setdefault(BASE, 1.0)
    judge = judge_of(truth)
    values, cells = judge.values(cleaned), judge.cells
    oracles = judge.oracles()
    values = values | oracles
    if oracles:
        coverage |= dict.fromkeys(DUPLICATES, float(np.isfinite(oracles[DUPLICATES[0]]["mse"]).mean()))
    cohorts = _cohorts(values[BASE], cells.differential)
    frame = _frame(truth, values, cohorts)
    rows = _aggregate(values, cohorts, judge.profiles.resistant)
    flags += _unusable(values[BASE])
    for row, prediction in cleaned.items():
        if count := judge.short(prediction):
            flags.append(f"{row}: fewer predicted than test cells in {count} conditions; its tests have less power")
    header = _header(truth, values, judge.halved_centre(), cells)
    return Scores(frame, rows, header, coverage, tuple(flags))


def _cohorts(base: Mapping[str, Array], differential: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """Return the conditions of each metric, [n]: by what the truth is, never by what a prediction says."""
    everything = np.ones(len(differential), dtype=bool)
    cohorts = dict.fromkeys(HELD_OUT, everything) | dict.fromkeys(CALLED, differential)
    # NaN here for one row is NaN for all: a lone condition, a truth without spread, fewer than two cells
    return cohorts | {name: np.isfinite(base[name]) for name in _BY_TRUTH}


def _frame(truth: ObservedEffects, values: Values, cohorts: Mapping[str, NDArray[np.bool_]]) -> pd.DataFrame:
    names, strata = np.array(truth.names, dtype=object), np.array(truth.strata, dtype=object)
    parts = []
    for row, metrics in values.items():
        for metric in HELD_OUT:
            kept = cohorts[metric]
            part = {"condition": names[kept], "stratum": strata[kept], "n_cells": truth.n_cells[kept]}
            part |= {"effect_size": truth.effect_size[kept], "value": metrics[metric][kept]}
            parts.append(pd.DataFrame(part).assign(row=row, metric=metric))
    order = ["row", "condition", "stratum", "n_cells", "effect_size", "metric", "value"]
    return pd.concat(parts, ignore_index=True)[order]


def _aggregate(
    values: Values, cohorts: Mapping[str, NDArray[np.bool_]], resistant: NDArray[np.bool_]
) -> dict[str, dict[str, float]]:
    rows: dict[str, dict[str, float]] = {}
    for row, metrics in values.items():
        found: dict[str, float] = {}
        for name, column in HELD_OUT.items():
            value, cohort = metrics[name], cohorts[name]
            if row in DUPLICATES:
                cohort = cohort & np.isfinite(value)
            filled = np.where(np.isfinite(value), value, column.undefined)
            found[name] = _mean(filled[cohort])
            found[f"median/{name}"] = float(np.median(filled[cohort])) if cohort.any() else math.nan
            found[f"resistant/{name}"] = _mean(filled[cohort & resistant])
        rows[row] = found
    for name, column in HELD_OUT.items():
        u = {row: np.where(np.isfinite(v[name]), v[name], column.undefined) for row, v in values.items()}
        # all three of (u - b) / (r - b) are means over the conditions for which there is a replicate
        ceiling = values[DUPLICATES[0]][name] if DUPLICATES[0] in values else np.full_like(u[BASE], np.nan)
        cohort = cohorts[name] & np.isfinite(ceiling)
        for row, found in rows.items():
            kept = cohort & np.isfinite(values[row][name]) if row in DUPLICATES else cohort
            found[f"calibrated/{name}"] = calibrate(
                _mean(u[row][kept]), _mean(u[BASE][cohort]), _mean(ceiling[cohort]), column
            )
    return rows


def _header(truth: ObservedEffects, values: Values, halved: Mapping[str, Array], cells: CellMetrics) -> dict[str, Any]:
    undefined = {name: column.undefined for name, column in HELD_OUT.items()}
    base = {name: np.where(np.isfinite(v), v, undefined[name]) for name, v in (values[BASE] | dict(halved)).items()}
    drf = dict.fromkeys(HELD_OUT, math.nan)
    if DUPLICATES[0] in values:
        drf = {m: dynamic_range(values[DUPLICATES[0]][m], base[m], column) for m, column in HELD_OUT.items()}
    return {
        "n_test": len(truth.conditions),
        "median_cells": float(np.median(truth.n_cells)),
        "systematic_variation": profile_metrics.mean_cosine(truth.change, truth.centre, truth.used),
        "drf": drf,
        "n_excluded_de": int((~cells.differential).sum()),
        "de_prevalence": _mean(cells.prevalence[cells.differential]),
        "n_control_cells": int(sum(len(rows) for rows in truth.controls.values())),
    }


def _clean(row: str, prediction: Prediction, truth: ObservedEffects, flags: list[str]) -> Prediction:
    if row in DUPLICATES:
        raise UserError(f"row {row!r} is made from test cells by the evaluation itself; call the prediction otherwise")
    if prediction.change.shape != truth.change.shape:
        raise UserError(
            f"row {row!r}: changes of shape {prediction.change.shape}; expected {truth.change.shape}, "
            "a row for each test condition and a column for each gene"
        )
    bad = np.asarray(~np.isfinite(prediction.change).all(axis=1))
    if not bad.any():
        return prediction
    flags.append(f"{row}: {int(bad.sum())} of {len(bad)} predictions are not finite and count as no change")
    kept, cells = np.where(bad[:, None], 0.0, prediction.change), prediction.cells
    if cells is None:
        return replace(prediction, change=kept)
    silent = set(truth.conditions[bad].tolist())
    return replace(prediction, change=kept, cells=lambda condition: None if condition in silent else cells(condition))


def _unusable(base: Mapping[str, Array]) -> list[str]:
    ratios = {"wmse_ratio": "the training mean is exact", "mse_norm": "no effect exceeds the sampling noise"}
    ratios["energy_ratio"] = "test cells do not differ from controls"
    ratios["pds_cosine"] = "every gene is a target, or every test condition is alone in its context"
    return [f"{name} is undefined: {why}" for name, why in ratios.items() if np.isnan(base[name]).all()]


def _mean(x: Array) -> float:
    return float(x.mean()) if len(x) else math.nan


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _jsonable(v) for key, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
