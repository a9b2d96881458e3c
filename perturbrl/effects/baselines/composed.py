"""Baselines that put a condition together from training conditions with the same targets."""

from __future__ import annotations

import numpy as np

from perturbrl.effects.baselines.base import Array, Conditions
from perturbrl.effects.responses import Responses, trained
from perturbrl.screens.schema import Condition, PerturbationTable


class _FromTraining:
    def fit(self, table: PerturbationTable) -> None:
        """Take the mean changes of the training conditions."""
        self._train = trained(table)

    def predict(self, conditions: Conditions) -> Array:
        """Return one row for each condition, [n, G]; NaN where training conditions do not determine it."""
        out = np.full((len(conditions), self._train.change.shape[1]), np.nan)
        for row, index in enumerate(conditions):
            change = self._change(self._train, self._train.known[index])
            if change is not None:
                out[row] = change
        return out

    def _change(self, train: Responses, condition: Condition) -> Array | None:
        raise NotImplementedError


class MatchingMean(_FromTraining):
    """The average over targets of each one's own change where it was seen alone, else the train mean (Systema)."""

    name = "matching_mean"

    def _change(self, train: Responses, condition: Condition) -> Array | None:
        mean = train.mean_change(condition.context)
        members = [train.of_targets((t,), condition.context, condition.dose) for t in condition.targets]
        return np.asarray(np.mean([mean if change is None else change for change in members], axis=0))


class Additive(_FromTraining):
    """mu_A + mu_B - mu_0: the sum of the changes of the targets alone; undefined where one was not seen alone."""

    name = "additive"

    def _change(self, train: Responses, condition: Condition) -> Array | None:
        members = [train.of_targets((t,), condition.context, condition.dose) for t in condition.targets]
        found = [change for change in members if change is not None]
        return np.asarray(np.sum(found, axis=0)) if len(found) == len(members) else None


class TransferMean(_FromTraining):
    """The mean change that the same targets have in the other contexts."""

    name = "transfer_mean"

    def _change(self, train: Responses, condition: Condition) -> Array | None:
        return train.of_targets(condition.targets, condition.context, condition.dose, other=True)
