"""Baselines that say the same of every perturbation, or nothing at all."""

from __future__ import annotations

import numpy as np

from perturbrl.effects.baselines.base import Array, Conditions
from perturbrl.effects.responses import trained
from perturbrl.rng import numpy_generator
from perturbrl.screens.schema import PerturbationTable


class NoChange:
    """mu_p = mu_0."""

    name = "no_change"

    def fit(self, table: PerturbationTable) -> None:
        """Remember how many genes there are."""
        self._n_genes = table.screen.x.shape[1]

    def predict(self, conditions: Conditions) -> Array:
        """Return zeros, [n, G]."""
        return np.zeros((len(conditions), self._n_genes))


class Random:
    """A change of independent N(0, rms^2) entries, new for each condition: a random policy of a given action norm.

    ``rms`` is the root mean square of the changes of the policy that it is set beside, in units of log expression.
    """

    name = "random"

    def __init__(self, rms: float, seed: int) -> None:
        self.rms = rms
        self.seed = seed

    def fit(self, table: PerturbationTable) -> None:
        """Remember how many genes there are."""
        self._n_genes = table.screen.x.shape[1]

    def predict(self, conditions: Conditions) -> Array:
        """Return the draw that belongs to each condition, [n, G]."""
        draws = [numpy_generator(self.seed, "baseline/random", int(c)).normal(size=self._n_genes) for c in conditions]
        return self.rms * np.array(draws).reshape(len(conditions), self._n_genes)


class BestConstant:
    """The one action vector that is best on train: the mean change over all perturbed training cells.

    It minimises the summed squared error over training cells; unlike ``TrainMean`` it weighs conditions by their
    cells and knows no context (Systema's "nonctl-mean").
    """

    name = "best_constant"

    def fit(self, table: PerturbationTable) -> None:
        """Average the changes, weighted by numbers of cells."""
        train = trained(table)
        self._change = np.average(train.change, axis=0, weights=train.n_cells)

    def predict(self, conditions: Conditions) -> Array:
        """Return that change for each condition, [n, G]."""
        return np.tile(self._change, (len(conditions), 1))


class TrainMean:
    """m - mu_0: the mean over training conditions of equal weight (Ahlmann-Eltze et al. 2025, Systema's centroid).

    Where the screen has several contexts, over those of the same context if it has enough (``LEAST_CONDITIONS``).
    """

    name = "train_mean"

    def fit(self, table: PerturbationTable) -> None:
        """Take the mean changes of the training conditions."""
        self._train = trained(table)

    def predict(self, conditions: Conditions) -> Array:
        """Return the mean change of each condition's context, [n, G]."""
        return self._train.mean_changes(conditions)
