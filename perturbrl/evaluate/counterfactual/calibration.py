"""Where a value stands between the training mean and a replicate of the experiment. Letters: n conditions, G genes.

A replicate is made of half the cells: its noise is larger than that of the whole experiment, and a model can do better.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from perturbrl.effects.observed import ObservedEffects, effects_of
from perturbrl.evaluate.counterfactual.cellwise import CellMetrics
from perturbrl.evaluate.counterfactual.prediction import Prediction
from perturbrl.metrics_info import MetricInfo
from perturbrl.rng import numpy_generator

Array = NDArray[np.float64]
_LEAST = 4
"""Fewest cells that can be halved with a variance in each half."""


def calibrate(value: float, base: float, replicate: float, column: MetricInfo) -> float:
    """Return (u - b) / (r - b): 0 is the training mean, 1 a replicate; NaN where the replicate is no better.

    After Mejia et al. 2025 and cell-eval2.
    """
    span = replicate - base
    better = span > 0 if column.better == "up" else span < 0
    return (value - base) / span if better and abs(span) > 1e-9 else float("nan")


def dynamic_range(replicate: Array, base: Array, column: MetricInfo) -> float:
    """Return the median over conditions of (pos - neg) / (perfect - neg), clipped to [-1, 1] (Mejia et al. 2025)."""
    known = np.isfinite(replicate) & np.isfinite(base) & (base != column.perfect)
    if not known.any():
        return float("nan")
    part = (replicate[known] - base[known]) / (column.perfect - base[known])
    return float(np.median(np.clip(part, -1.0, 1.0)))


def duplicates(truth: ObservedEffects) -> Iterator[tuple[ObservedEffects, dict[str, Prediction]]]:
    """Halve the test cells at random, ``n_duplicates`` times: the truth of one half, and what the other half predicts.

    Each half has its own half of the controls. The technical duplicate is the other half's change and cells; the
    interpolated one is a_g of it and 1 - a_g of the training mean, a_g = 1 - FDR of the gene in the predicting half.
    Conditions with fewer than four cells or controls are left out.
    """
    for repeat in range(truth.config.n_duplicates):
        generator = numpy_generator(truth.config.seed, "score/duplicate", repeat)
        left = {c: _halves(rows, generator) for c, rows in truth.controls.items() if len(rows) >= _LEAST}
        cells = [
            _halves(rows, generator)
            for rows, context in zip(truth.cells, truth.contexts, strict=True)
            if len(rows) >= _LEAST and context in left
        ]
        if not cells:
            return
        one, other = (
            effects_of(
                truth.table,
                truth.config,
                np.concatenate([half[side] for half in cells]),
                np.concatenate([half[side] for half in left.values()]),
                "test",
            )
            for side in (0, 1)
        )
        yield other, {"technical_duplicate": _technical(one), "interpolated_duplicate": _interpolated(one)}


def _technical(half: ObservedEffects) -> Prediction:
    x = half.table.screen.x
    rows = dict(zip(half.conditions.tolist(), half.cells, strict=True))
    controls = {context: x[cells] for context, cells in half.controls.items()}
    # tested against controls of its own: two halves that share them would agree on their noise
    return Prediction(half.change, lambda condition: x[rows[condition]], controls)


def _interpolated(half: ObservedEffects) -> Prediction:
    x = half.table.screen.x
    change = half.centre.copy()
    metrics = CellMetrics(half, np.empty((0, x.shape[1])))
    testers = {context: metrics.tester(context) for context in half.controls}
    for i, (context, used) in enumerate(zip(half.contexts, half.used, strict=True)):
        tester = testers[context]
        cells = x[half.cells[i]]
        genes = tester.genes(cells, used)
        trust = 1 - tester.calls(cells, genes).fdr
        change[i, genes] = trust * half.change[i, genes] + (1 - trust) * half.centre[i, genes]
    return Prediction(change)


def _halves(rows: NDArray[np.int64], generator: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    drawn = generator.permutation(rows)
    return np.sort(drawn[: len(rows) // 2]), np.sort(drawn[len(rows) // 2 :])
