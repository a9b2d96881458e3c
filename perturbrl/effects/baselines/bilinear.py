"""The linear model with gene embeddings of Ahlmann-Eltze, Huber & Anders 2025. Letters: P conditions, K dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Annotated

import numpy as np

from perturbrl.bounds import NotEmpty, PositiveFloat, PositiveInt
from perturbrl.effects.baselines.base import Array, BaselineConfig, Conditions, Configured, covered
from perturbrl.effects.responses import Responses, trained, tuning
from perturbrl.registry import baselines
from perturbrl.rng import numpy_generator
from perturbrl.screens.schema import PerturbationTable, Screen


@dataclass(frozen=True)
class BilinearConfig(BaselineConfig):
    """Dimensions of the gene embedding, and the ridge penalty."""

    dimensions: PositiveInt
    ridge: PositiveFloat


@dataclass(frozen=True)
class TunedBilinearConfig(BaselineConfig):
    """Settings to choose from."""

    dimensions: Annotated[list[PositiveInt], NotEmpty("[10]")]
    ridges: Annotated[list[PositiveFloat], NotEmpty("[0.1]")]


class BilinearModel:
    """Y = b + G W P', with W = (G'G + lam I)^-1 G'(Y - b) P (P'P + lam I)^-1 and b the row means of Y.

    Y [G, M] holds the changes of M training conditions and, as columns of zeros, the controls of each context. The
    gene embedding is the PCA of the training profiles (genes are the samples; each condition's column centred over
    genes, unscaled; scores U s). A condition's embedding is the sum of the rows of its targets (minus the row for one
    whose label says that it is held down), zero for controls; conditions with a target that is no measured gene are
    left out of the fit and get NaN.
    """

    def __init__(self, train: Responses, screen: Screen, dimensions: int, ridge: float) -> None:
        """Fit on ``train``, conditions of ``screen``."""
        self._screen, self._columns = screen, {gene: i for i, gene in enumerate(screen.features)}
        control = np.array(list(train.control.values()))
        profiles = np.vstack([train.change + np.array([train.control[c] for c in train.contexts]), control])
        centred = profiles - profiles.mean(axis=1, keepdims=True)
        # scores of genes are the left singular vectors of centred'
        _, s, vt = np.linalg.svd(centred, full_matrices=False)
        self._genes = (vt * s[:, None]).T[:, :dimensions]
        embedded = self._embed(train.conditions)
        used = covered(embedded)
        y = np.vstack([train.change[used], np.zeros_like(control)])
        p = np.vstack([embedded[used], np.zeros((len(control), embedded.shape[1]))])
        self._offset = y.mean(axis=0)
        left = np.linalg.solve(_ridged(self._genes, ridge), self._genes.T @ (y - self._offset).T @ p)
        self._weights = np.linalg.solve(_ridged(p, ridge), left.T).T

    def predict(self, conditions: Conditions) -> Array:
        """Return b + G W P_p for each condition, [n, G]; NaN where a target is no measured gene."""
        return np.asarray(self._offset + self._embed(conditions) @ self._weights.T @ self._genes.T)

    def _embed(self, conditions: Conditions) -> Array:
        out = np.full((len(conditions), self._genes.shape[1]), np.nan)
        for row, index in enumerate(conditions):
            targets = self._screen.conditions[index].targets
            signed = [(self._columns.get(self._screen.gene_of(t)), self._screen.sign_of(t)) for t in targets]
            known = [sign * self._genes[column] for column, sign in signed if column is not None]
            if len(known) == len(targets):
                out[row] = np.sum(known, axis=0)
        return out


@baselines.register("bilinear", BilinearConfig)
class Bilinear(Configured):
    """``BilinearModel`` with fixed settings."""

    def fit(self, table: PerturbationTable) -> None:
        """Fit on the training conditions."""
        self._model = BilinearModel(trained(table), table.screen, self.config.dimensions, self.config.ridge)

    def predict(self, conditions: Conditions) -> Array:
        """Return the changes of the model, [n, G]; NaN where a target is no measured gene."""
        return self._model.predict(conditions)


@baselines.register("bilinear_tuned", TunedBilinearConfig)
class TunedBilinear(Configured):
    """``BilinearModel`` with K and lam chosen by squared error on the validation conditions, then fitted on train."""

    def fit(self, table: PerturbationTable) -> None:
        """Try every setting of the grid; ties go to the smaller K and lam."""
        train, validation = tuning(table)
        errors: dict[tuple[int, float], float] = {}
        for dimensions, ridge in product(self.config.dimensions, self.config.ridges):
            predicted = BilinearModel(train, table.screen, dimensions, ridge).predict(validation.conditions)
            rows = covered(predicted)
            error = float(np.square(predicted[rows] - validation.change[rows]).sum()) if rows.any() else 0.0
            errors[dimensions, ridge] = error
        self.dimensions, self.ridge = min(errors, key=lambda setting: (errors[setting], setting))
        self._model = BilinearModel(trained(table), table.screen, self.dimensions, self.ridge)

    def predict(self, conditions: Conditions) -> Array:
        """Return the changes of the chosen model, [n, G]; NaN where a target is no measured gene."""
        return self._model.predict(conditions)


@baselines.register("permuted", BilinearConfig)
class Permuted(Bilinear):
    """The bilinear predictions under shuffled labels of the asked conditions: no information on which is which."""

    def predict(self, conditions: Conditions) -> Array:
        """Return the bilinear changes (the train mean where it has none) in a drawn order, [n, G]."""
        change = super().predict(conditions)
        change = np.where(covered(change)[:, None], change, self._train.mean_changes(conditions))
        return change[numpy_generator(self.context.seed, "baseline/permuted").permutation(len(conditions))]

    def fit(self, table: PerturbationTable) -> None:
        """Fit the bilinear model."""
        super().fit(table)
        self._train = trained(table)


def _ridged(x: Array, ridge: float) -> Array:
    return np.asarray(x.T @ x + ridge * np.eye(x.shape[1]))
