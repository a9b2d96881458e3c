"""Baselines that predict the same for every perturbation, or nothing at all."""

from __future__ import annotations

import numpy as np

from perturbrl.effects.baselines.base import Array, BaselineConfig, Conditions, Configured
from perturbrl.effects.responses import trained
from perturbrl.registry import baselines
from perturbrl.rng import numpy_generator
from perturbrl.screens.schema import PerturbationTable


@baselines.register("no_change", BaselineConfig)
class NoChange(Configured):
    """mu_p = mu_0."""

    def fit(self, table: PerturbationTable) -> None:
        """Note how many genes there are."""
        self._n_genes = table.screen.x.shape[1]

    def predict(self, conditions: Conditions) -> Array:
        """Return zeros, [n, G]."""
        return np.zeros((len(conditions), self._n_genes))


@baselines.register("random", BaselineConfig)
class Random(Configured):
    """A change of independent N(0, rms^2) entries, new for each condition: a random policy of a given action norm.

    rms is that of the changes of the policy that it is compared with, in units of log expression.
    """

    def fit(self, table: PerturbationTable) -> None:
        """Note how many genes there are."""
        self._n_genes = table.screen.x.shape[1]

    def predict(self, conditions: Conditions) -> Array:
        """Return the draw that belongs to each condition, [n, G]."""
        seed, rms = self.context.seed, self.context.action_rms
        draws = [numpy_generator(seed, "baseline/random", int(c)).normal(size=self._n_genes) for c in conditions]
        return rms * np.array(draws).reshape(len(conditions), self._n_genes)


@baselines.register("best_constant", BaselineConfig)
class BestConstant(Configured):
    """The one action vector that is best on train: the mean change over all perturbed training cells.

    It minimises the summed squared error over training cells; unlike ``TrainMean`` it weighs conditions by their
    cells and knows no context (Systema's "nonctl-mean").
    """

    def fit(self, table: PerturbationTable) -> None:
        """Average the changes, weighted by numbers of cells."""
        train = trained(table)
        self._change = np.average(train.change, axis=0, weights=train.n_cells)

    def predict(self, conditions: Conditions) -> Array:
        """Return that change for each condition, [n, G]."""
        return np.tile(self._change, (len(conditions), 1))


@baselines.register("train_mean", BaselineConfig)
class TrainMean(Configured):
    """m - mu_0: the mean over training conditions of equal weight (Ahlmann-Eltze et al. 2025, Systema's centroid).

    Where the screen has several contexts, over those of the same context if it has enough (``LEAST_CONDITIONS``).
    """

    def fit(self, table: PerturbationTable) -> None:
        """Take the mean changes of the training conditions."""
        self._train = trained(table)

    def predict(self, conditions: Conditions) -> Array:
        """Return the mean change of each condition's context, [n, G]."""
        return self._train.mean_changes(conditions)
