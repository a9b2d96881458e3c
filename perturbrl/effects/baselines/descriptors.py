"""Baselines that learn from the descriptions a policy sees. Letters: n, M conditions, K numbers of each, G genes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from perturbrl.bounds import NotEmpty, PositiveFloat, PositiveInt
from perturbrl.effects.baselines.base import Array, BaselineConfig, Conditions, Configured
from perturbrl.effects.responses import Responses, trained, tuning
from perturbrl.registry import baselines
from perturbrl.screens.schema import PerturbationTable


@dataclass(frozen=True)
class KernelRidgeConfig(BaselineConfig):
    """Settings to choose from."""

    widths: Annotated[list[PositiveFloat], NotEmpty("[1.0]")]
    ridges: Annotated[list[PositiveFloat], NotEmpty("[0.1]")]


@dataclass(frozen=True)
class NeighboursConfig(BaselineConfig):
    """Numbers of neighbours to choose from."""

    neighbours: Annotated[list[PositiveInt], NotEmpty("[5]")]


def inputs(table: PerturbationTable) -> Array:
    """Return the descriptions and covariates of all conditions, each scaled by its training spread, [P, K].

    Numbers that do not vary over the training conditions are left out: nothing can be learnt about them.
    """
    x = np.hstack([table.description, table.covariates]).astype(np.float64)
    seen = x[trained(table).conditions]
    spread = seen.std(axis=0)
    varies = spread > 1e-12 * np.maximum(1.0, np.abs(seen).max(axis=0))
    return np.asarray((x - seen.mean(axis=0))[:, varies] / spread[varies])


@baselines.register("kernel_ridge", KernelRidgeConfig)
class KernelRidge(Configured):
    """Ridge regression of changes (less the train mean) on descriptions, with a Gaussian kernel.

    The kernel is exp(-d^2 / 2 (w s)^2), s the median distance between training conditions; w and the ridge are chosen
    on validation. A kernel of the table (``description.kinds=[network]``) takes the place of the Gaussian one.
    """

    def fit(self, table: PerturbationTable) -> None:
        """Choose the settings, then fit on train."""
        self._x, self._kernel = inputs(table), table.kernel
        train, validation = tuning(table)
        errors = {}
        for width in self.config.widths if self._kernel is None else self.config.widths[:1]:
            self._prepare(train, width)
            for ridge in self.config.ridges:
                self._solve(ridge)
                errors[width, ridge] = float(np.square(self.predict(validation.conditions) - validation.change).sum())
        self.width, self.ridge = min(errors, key=lambda setting: (errors[setting], -setting[1], setting[0]))
        self._prepare(trained(table), self.width)
        self._solve(self.ridge)

    def predict(self, conditions: Conditions) -> Array:
        """Return the train mean plus the regression, [n, G]."""
        kernel = self._between(conditions, self._train.conditions)
        return np.asarray(self._train.mean_changes(conditions) + kernel @ self._dual)

    def _prepare(self, train: Responses, width: float) -> None:
        self._train = train
        if self._kernel is None:
            self._scale = self._squared_width(train, width)
        self._values, self._vectors = np.linalg.eigh(self._between(train.conditions, train.conditions))
        self._projected = self._vectors.T @ (train.change - train.mean_changes(train.conditions))

    def _between(self, some: Conditions, others: Conditions) -> Array:
        if self._kernel is not None:
            return np.asarray(self._kernel[np.ix_(some, others)])
        return np.asarray(np.exp(-squared_distances(self._x[some], self._x[others]) / self._scale))

    def _squared_width(self, train: Responses, width: float) -> float:
        square = squared_distances(self._x[train.conditions], self._x[train.conditions])
        apart = square[np.triu_indices_from(square, 1)]
        median = float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0
        return 2 * median * width**2

    def _solve(self, ridge: float) -> None:
        self._dual = self._vectors @ (self._projected / (np.maximum(self._values, 0.0) + ridge)[:, None])


@baselines.register("knn", NeighboursConfig)
class NearestNeighbours(Configured):
    """The mean change of the k training conditions with the nearest descriptions; k is chosen on validation.

    Nearest are those with the largest kernel, where the table has one (``description.kinds=[network]``).
    """

    def fit(self, table: PerturbationTable) -> None:
        """Choose k, then keep the training conditions."""
        self._x, self._kernel = inputs(table), table.kernel
        self._train, validation = tuning(table)
        errors = {}
        for k in self.config.neighbours:
            self.k = k
            errors[k] = float(np.square(self.predict(validation.conditions) - validation.change).sum())
        self.k = min(errors, key=lambda k: (errors[k], -k))
        self._train = trained(table)

    def predict(self, conditions: Conditions) -> Array:
        """Return the mean over the k nearest, [n, G]; equally near ones in the order of the conditions."""
        others = self._train.conditions
        square = squared_distances(self._x[conditions], self._x[others])
        square = square if self._kernel is None else -self._kernel[np.ix_(conditions, others)]
        nearest = np.argsort(square, axis=1, kind="stable")[:, : self.k]
        return np.asarray(self._train.change[nearest].mean(axis=1))


def squared_distances(a: Array, b: Array) -> Array:
    """Return squared Euclidean distances between rows, [len(a), len(b)]."""
    square = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.maximum(square, 0.0))
