"""Scores of every row, raw and calibrated. Letters: n test conditions, G genes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from perturbrl.effects import profile_metrics
from perturbrl.effects.observed import ObservedEffects
from perturbrl.errors import UserError
from perturbrl.evaluate.counterfactual.calibration import calibrate, dynamic_range
from perturbrl.evaluate.counterfactual.cellwise import CALLED
from perturbrl.evaluate.counterfactual.prediction import Prediction
from perturbrl.evaluate.counterfactual.values import ConditionValues, Values
from perturbrl.evaluate.files import finite
from perturbrl.metrics_info import DUPLICATES, HELD_OUT, TRUE_MEAN

Array = NDArray[np.float64]
BASE = "train_mean"
LOW_CEILING = 0.5
"""Score of the true mean's own cells below which a column of differential genes tells nothing of predicted means."""
_BY_TRUTH = ("pds_cosine", "wmse_ratio", "wr2_delta", "mse_norm", "energy_ratio", "r2_delta")


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of the rows of one table: ``values`` maps row -> metric -> [n], NaN where a value does not exist.

    Aggregates are over the cohort of each metric: conditions chosen by the truth alone. ``coverage`` is the part of
    the conditions that a row predicts.
    """

    metrics: ConditionValues
    values: Values
    coverage: dict[str, float]
    flags: tuple[str, ...]

    @cached_property
    def cohorts(self) -> dict[str, NDArray[np.bool_]]:
        """The conditions of each metric, [n]: by what the truth is, never by what a prediction says."""
        differential, base = self.metrics.cells.differential, self.values[BASE]
        everything = np.ones(len(differential), dtype=bool)
        cohorts = dict.fromkeys(HELD_OUT, everything) | dict.fromkeys(CALLED, differential)
        # NaN here for one row is NaN for all: a lone condition, a truth without spread, fewer than two cells
        return cohorts | {name: np.isfinite(base[name]) for name in _BY_TRUTH}

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One line for each row, metric and condition of the metric's cohort; NaN: undefined there.

        Columns: row, condition, stratum, n_cells, effect_size, metric, value.
        """
        truth = self.metrics.truth
        names, strata = np.array(truth.names, dtype=object), np.array(truth.strata, dtype=object)
        parts = []
        for row, metrics in self.values.items():
            for metric in HELD_OUT:
                cohort = self.cohorts[metric]
                part = {"condition": names[cohort], "stratum": strata[cohort], "n_cells": truth.n_cells[cohort]}
                part |= {"effect_size": truth.effect_size[cohort], "value": metrics[metric][cohort]}
                parts.append(pd.DataFrame(part).assign(row=row, metric=metric))
        order = ["row", "condition", "stratum", "n_cells", "effect_size", "metric", "value"]
        return pd.concat(parts, ignore_index=True)[order]

    @cached_property
    def rows(self) -> dict[str, dict[str, float]]:
        """What tables show of each row.

        ``<metric>`` (mean over the cohort), ``median/<metric>``, ``resistant/<metric>`` and ``calibrated/<metric>``
        (of means over the part of the cohort that can be halved).
        """
        rows = {row: self._aggregates(row) for row in self.values}
        for metric, column in HELD_OUT.items():
            # all three of (u - b) / (r - b) are means over the conditions for which there is a replicate
            replicate = self._replicate(metric)
            cohort = self.cohorts[metric] & np.isfinite(replicate)
            base = _mean(self._defined(BASE, metric)[cohort])
            for row, numbers in rows.items():
                value = self._defined(row, metric)[cohort & self._measured(row, metric)]
                numbers[f"calibrated/{metric}"] = calibrate(_mean(value), base, _mean(replicate[cohort]), column)
        return rows

    @cached_property
    def header(self) -> dict[str, Any]:
        """What the table says of the data: conditions, cells, systematic variation, dynamic range of each metric."""
        truth, cells = self.metrics.truth, self.metrics.cells
        base = self.values[BASE] | dict(self.metrics.halved_centre)
        drf = dict.fromkeys(HELD_OUT, math.nan)
        if DUPLICATES[0] in self.values:
            for metric, column in HELD_OUT.items():
                drf[metric] = dynamic_range(self._replicate(metric), _filled(base[metric], metric), column)
        return {
            "n_test": len(truth.conditions),
            **truth.design,
            "median_cells": float(np.median(truth.n_cells)),
            "systematic_variation": profile_metrics.mean_cosine(truth.change, truth.centre, truth.used),
            "drf": drf,
            "n_excluded_de": int((~cells.differential).sum()),
            "excluded_de": [name for name, is_in in zip(truth.names, cells.differential, strict=True) if not is_in],
            "de_prevalence": _mean(cells.prevalence[cells.differential]),
            "untested_genes": cells.named(np.asarray(~cells.tested.any(axis=0))),
            "induced_genes": cells.named(np.asarray(cells.induced.any(axis=0))),
            "low_ceiling": _low_ceiling(self.values[TRUE_MEAN], cells.differential),
            "n_control_cells": int(sum(len(rows) for rows in truth.controls.values())),
        }

    def summary(self) -> dict[str, Any]:
        """Return rows, header, coverage and flags for JSON: null where a number is not finite."""
        parts = {"header": self.header, "rows": self.rows, "coverage": self.coverage, "flags": list(self.flags)}
        return {name: finite(part) for name, part in parts.items()}

    def _aggregates(self, row: str) -> dict[str, float]:
        numbers: dict[str, float] = {}
        for metric in HELD_OUT:
            cohort = self.cohorts[metric] & self._measured(row, metric)
            value = self._defined(row, metric)
            numbers[metric] = _mean(value[cohort])
            numbers[f"median/{metric}"] = float(np.median(value[cohort])) if cohort.any() else math.nan
            numbers[f"resistant/{metric}"] = _mean(value[cohort & self.metrics.profiles.resistant])
        return numbers

    def _defined(self, row: str, metric: str) -> Array:
        return _filled(self.values[row][metric], metric)

    def _measured(self, row: str, metric: str) -> NDArray[np.bool_]:
        """Return where a row has a value at all, [n]: duplicates only where a condition can be halved."""
        value = self.values[row][metric]
        return np.isfinite(value) if row in DUPLICATES else np.ones(len(value), dtype=bool)

    def _replicate(self, metric: str) -> Array:
        """Return the values of the technical duplicate, [n]; NaN where there is none."""
        if DUPLICATES[0] not in self.values:
            return np.full(len(self.metrics.truth.conditions), np.nan)
        return self.values[DUPLICATES[0]][metric]


def score(
    truth: ObservedEffects, predictions: Mapping[str, Prediction], metrics: ConditionValues | None = None
) -> Scores:
    """Score every prediction, the training mean, and the oracles that the truth itself gives: its mean, its duplicates.

    Undefined values count as ``MetricInfo.undefined`` in aggregates; a change that is not finite is replaced by no
    change and flagged. ``metrics`` of the same truth, given again, computes nothing twice.

    Raises
    ------
    UserError
        A prediction has the wrong shape, or the name of an oracle row.
    """
    metrics = ConditionValues(truth) if metrics is None else metrics
    flags: list[str] = []
    coverage: dict[str, float] = {}
    cleaned: dict[str, Prediction] = {}
    for row, prediction in predictions.items():
        cleaned[row] = _clean(row, prediction, truth, flags)
        coverage[row] = 1.0 if prediction.covered is None else float(prediction.covered.mean())
    cleaned.setdefault(BASE, Prediction(truth.centre))
    coverage.setdefault(BASE, 1.0)
    cleaned[TRUE_MEAN] = metrics.true_mean
    coverage[TRUE_MEAN] = 1.0
    values = metrics.of(cleaned)
    duplicates = metrics.duplicates
    if duplicates:
        coverage |= dict.fromkeys(DUPLICATES, float(np.isfinite(duplicates[DUPLICATES[0]]["mse"]).mean()))
    flags += _unusable(values[BASE])
    if low := _low_ceiling(values[TRUE_MEAN], metrics.cells.differential):
        titles = ", ".join(HELD_OUT[name].title for name in low)
        flags.append(f"{titles}: below {LOW_CEILING} even for the true mean; they tell little of predicted means here")
    for row, prediction in cleaned.items():
        if prediction.note:
            flags.append(f"{row}: {prediction.note}")
        if count := metrics.short(prediction):
            flags.append(f"{row}: fewer predicted than test cells in {count} conditions; its tests have less power")
    return Scores(metrics, values | duplicates, coverage, tuple(flags))


def _filled(value: Array, metric: str) -> Array:
    """Return ``value`` with what the metric counts as undefined in place of NaN, [n]."""
    return np.where(np.isfinite(value), value, HELD_OUT[metric].undefined)


def _clean(row: str, prediction: Prediction, truth: ObservedEffects, flags: list[str]) -> Prediction:
    if row in (TRUE_MEAN, *DUPLICATES):
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
    change, cells = np.where(bad[:, None], 0.0, prediction.change), prediction.cells
    if cells is None:
        return replace(prediction, change=change)
    replaced = set(truth.conditions[bad].tolist())
    return replace(
        prediction, change=change, cells=lambda condition: None if condition in replaced else cells(condition)
    )


def _unusable(base: Mapping[str, Array]) -> list[str]:
    ratios = {"wmse_ratio": "the training mean is exact", "mse_norm": "no effect exceeds the sampling noise"}
    ratios["energy_ratio"] = "test cells do not differ from controls"
    ratios["pds_cosine"] = "every gene is a target, or every test condition is alone in its context"
    return [f"{name} is undefined: {why}" for name, why in ratios.items() if np.isnan(base[name]).all()]


def _low_ceiling(true_mean: Mapping[str, Array], differential: NDArray[np.bool_]) -> list[str]:
    """Return the metrics of differential genes in which even the true mean, as cells, scores low."""
    return [name for name in CALLED if _mean(true_mean[name][differential]) < LOW_CEILING]


def _mean(x: Array) -> float:
    return float(x.mean()) if len(x) else math.nan
