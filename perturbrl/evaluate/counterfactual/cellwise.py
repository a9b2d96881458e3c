"""Metrics that need cells: differential genes and energy distances. Letters: n conditions, N cells, G genes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from perturbrl import status
from perturbrl.effects.observed import ObservedEffects, sample
from perturbrl.evaluate.counterfactual.differential_expression import AgainstControl, agreement
from perturbrl.evaluate.counterfactual.distribution import Sample, energy_distance
from perturbrl.evaluate.counterfactual.emission import Emission
from perturbrl.evaluate.counterfactual.prediction import Prediction, as_cells

Array = NDArray[np.float64]

CALLED = (
    *("de_jaccard", "de_mcc", "direction_fidelity", "auprc_de"),
    *("accuracy", "precision", "recall", "f1", "auprc"),
)
"""Metrics that exist only where the truth has differential genes."""


NAMED = 20
"""Most genes of a list that are named."""


class CellMetrics:
    """Scores predictions condition by condition, with the cells of one at a time.

    ``basis`` [K, G] spans the space of energy distances.
    """

    def __init__(self, truth: ObservedEffects, basis: Array) -> None:
        self._truth, self._basis = truth, basis
        self._emission = Emission(truth)
        self.differential = np.zeros(len(truth.conditions), dtype=bool)
        """Which conditions have real differential genes, [n]; known once scored."""
        self.prevalence = np.full(len(truth.conditions), np.nan)
        """Part of the tested genes that is differential, [n]; known once scored."""
        self.tested = np.zeros(truth.used.shape, dtype=bool)
        """Genes that are tested in each condition, [n, G]; known once scored."""
        self.induced = np.zeros(truth.used.shape, dtype=bool)
        """Those of them that only the perturbed cells express, [n, G]; known once scored."""
        self.short: dict[str, int] = {}
        """For how many conditions a prediction gave fewer cells than there are test cells; known once scored."""

    def scores(self, predictions: Mapping[str, Prediction]) -> dict[str, dict[str, Array]]:
        """Return the value of each metric for each condition, row -> metric -> [n]; NaN where it does not exist."""
        n = len(self._truth.conditions)
        out = {row: {name: np.full(n, np.nan) for name in (*CALLED, "energy_ratio")} for row in predictions}
        control = np.full(n, np.nan)
        contexts = np.array(self._truth.contexts)
        count = itertools.count(1)
        with status.step(f"scoring the cells of {len(predictions)} rows") as step:
            for context in np.unique(contexts):
                tester = self.tester(context)
                testers = {
                    row: self._against(prediction.controls[context])
                    for row, prediction in predictions.items()
                    if prediction.controls is not None
                }
                for i in np.flatnonzero(contexts == context):
                    step.at(f"condition {next(count)} of {n}")
                    control[i] = self._condition(int(i), tester, testers, predictions, out)
        usual = np.nanmean(control) if np.isfinite(control).any() else np.nan
        for scores in out.values():
            scores["energy_ratio"] /= usual if usual > 0 else np.nan
        return out

    def named(self, genes: NDArray[np.bool_]) -> dict[str, Any]:
        """Return how many ``genes`` [G] there are, and the names of those that the test conditions raise most."""
        highest = np.where(genes, self._truth.change.max(axis=0, initial=-np.inf), -np.inf)
        order = np.argsort(-highest, kind="stable")[: min(NAMED, int(genes.sum()))]
        return {"n": int(genes.sum()), "names": [self._truth.table.screen.features[g] for g in order]}

    def tester(self, context: str) -> AgainstControl:
        """Return the test against the controls of ``context``, at most ``max_controls`` of them."""
        return self._against(self._truth.table.screen.x[self._truth.compared_controls(context)])

    def _against(self, controls: sparse.csr_matrix) -> AgainstControl:
        config, slices = self._truth.config, list(self._truth.table.screen.slices.values())
        return AgainstControl(controls[: config.max_controls], slices, config.alpha, config.min_cpm)

    def _condition(
        self,
        i: int,
        tester: AgainstControl,
        testers: Mapping[str, AgainstControl],
        predictions: Mapping[str, Prediction],
        out: dict[str, dict[str, Array]],
    ) -> float:
        """Score condition ``i`` of every prediction into ``out``; return E(control, true)."""
        truth, config, x = self._truth, self._truth.config, self._truth.table.screen.x
        used = truth.used[i]
        true = x[sample(truth.cells[i], truth.n_compared(i), config.seed, "score/cells", truth.names[i])]
        control = self._emission.start(i)
        genes = tester.genes(true, used)
        real = tester.calls(true, genes)
        self.tested[i], self.induced[i] = genes, genes & ~tester.expressed
        self.differential[i] = real.significant.any()
        self.prevalence[i] = real.significant.mean() if len(real.significant) else np.nan
        basis = self._basis.T * used[:, None]
        target = Sample.of(_project(true, basis))
        for row, prediction in predictions.items():
            cells = self._predicted(i, row, prediction, control.cells.shape[0])
            against = tester if cells is None else testers.get(row, tester)
            cells = control.moved(prediction.change[i]) if cells is None else cells
            if self.differential[i]:
                for name, value in agreement(real, against.calls(cells, genes), config.min_log_fold).items():
                    out[row][name][i] = value
            out[row]["energy_ratio"][i] = _energy(_project(cells, basis), target)
        return _energy(_project(control.cells, basis), target)

    def _predicted(self, i: int, row: str, prediction: Prediction, n: int) -> sparse.csr_matrix | None:
        """Return at most ``n`` predicted cells of condition ``i``; None where only a mean is predicted."""
        cells = None if prediction.cells is None else prediction.cells(int(self._truth.conditions[i]))
        if cells is None:
            return None
        self.short[row] = self.short.get(row, 0) + int(cells.shape[0] < n)
        return as_cells(cells, n)


def _project(cells: sparse.csr_matrix, basis: Array) -> Array:
    return np.asarray(cells @ basis)


def _energy(a: Array, b: Sample) -> float:
    """Return the energy distance, NaN for fewer than two cells of either."""
    return energy_distance(Sample.of(a), b) if min(len(a), len(b.points)) > 1 else float("nan")
