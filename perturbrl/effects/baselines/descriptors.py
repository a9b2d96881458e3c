"""Baselines that learn from the descriptions a policy sees. Letters: n, M conditions, K numbers of each, G genes."""

from __future__ import annotations

import numpy as np

from perturbrl.effects.baselines.base import Array, Conditions
from perturbrl.effects.responses import Responses, trained, tuning
from perturbrl.screens.schema import PerturbationTable

GRID_RIDGE = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
GRID_WIDTH = (0.5, 1.0, 2.0)
GRID_NEIGHBOURS = (1, 3, 5, 10, 20)


def inputs(table: PerturbationTable) -> Array:
    """Return the descriptions and covariates of all conditions, each scaled by its training spread, [P, K].

    Numbers that do not vary over the training conditions are left out: nothing can be learnt about them.
    """
    x = np.hstack([table.description, table.covariates]).astype(np.float64)
    seen = x[trained(table).conditions]
    spread = seen.std(axis=0)
    varies = spread > 1e-12 * np.maximum(1.0, np.abs(seen).max(axis=0))
    return np.asarray((x - seen.mean(axis=0))[:, varies] / spread[varies])


class KernelRidge:
    """Ridge regression of changes (less the train mean) on descriptions, with a Gaussian kernel.

    The kernel is exp(-d^2 / 2 (w s)^2), s the median distance between training conditions; w and the ridge are chosen
    on validation.
    """

    name = "kernel_ridge"

    def fit(self, table: PerturbationTable) -> None:
        """Choose the settings, then fit on train."""
        self._x = inputs(table)
        fit, held = tuning(table)
        errors = {}
        for width in GRID_WIDTH:
            self._prepare(fit, width)
            for ridge in GRID_RIDGE:
                self._solve(ridge)
                errors[width, ridge] = float(np.square(self.predict(held.conditions) - held.change).sum())
        self.width, self.ridge = min(errors, key=lambda setting: (errors[setting], -setting[1], setting[0]))
        self._prepare(trained(table), self.width)
        self._solve(self.ridge)

    def predict(self, conditions: Conditions) -> Array:
        """Return the train mean plus the regression, [n, G]."""
        kernel = np.exp(-squared_distances(self._x[conditions], self._x[self._train.conditions]) / self._scale)
        return np.asarray(self._train.mean_changes(conditions) + kernel @ self._dual)

    def _prepare(self, train: Responses, width: float) -> None:
        self._train = train
        square = squared_distances(self._x[train.conditions], self._x[train.conditions])
        apart = square[np.triu_indices_from(square, 1)]
        median = float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0
        self._scale = 2 * median * width**2
        self._values, self._vectors = np.linalg.eigh(np.exp(-square / self._scale))
        self._projected = self._vectors.T @ (train.change - train.mean_changes(train.conditions))

    def _solve(self, ridge: float) -> None:
        self._dual = self._vectors @ (self._projected / (np.maximum(self._values, 0.0) + ridge)[:, None])


class NearestNeighbours:
    """The mean change of the k training conditions with the nearest descriptions; k is chosen on validation."""

    name = "knn"

    def fit(self, table: PerturbationTable) -> None:
        """Choose k, then keep the training conditions."""
        self._x = inputs(table)
        self._train, held = tuning(table)
        errors = {}
        for k in GRID_NEIGHBOURS:
            self.k = k
            errors[k] = float(np.square(self.predict(held.conditions) - held.change).sum())
        self.k = min(errors, key=lambda k: (errors[k], -k))
        self._train = trained(table)

    def predict(self, conditions: Conditions) -> Array:
        """Return the mean over the k nearest, [n, G]; equally near ones in the order of the conditions."""
        square = squared_distances(self._x[conditions], self._x[self._train.conditions])
        nearest = np.argsort(square, axis=1, kind="stable")[:, : self.k]
        return np.asarray(self._train.change[nearest].mean(axis=1))


def squared_distances(a: Array, b: Array) -> Array:
    """Return squared Euclidean distances between rows, [len(a), len(b)]."""
    square = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.maximum(square, 0.0))
