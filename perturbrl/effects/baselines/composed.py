"""Baselines that put a condition together from training conditions with the same targets."""

from __future__ import annotations

import numpy as np

from perturbrl.effects.baselines.base import Array, BaselineConfig, Conditions, Configured
from perturbrl.effects.responses import Responses, trained
from perturbrl.registry import baselines
from perturbrl.screens.schema import Condition, PerturbationTable


class _FromTraining(Configured):
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


@baselines.register("matching_mean", BaselineConfig)
class MatchingMean(_FromTraining):
    """The average over targets of each one's change where it was seen alone, else the train mean (Systema)."""

    def _change(self, train: Responses, condition: Condition) -> Array | None:
        mean = train.mean_change(condition.context)
        members = [train.of_targets((t,), condition.context, condition.dose) for t in condition.targets]
        return np.asarray(np.mean([mean if change is None else change for change in members], axis=0))


@baselines.register("additive", BaselineConfig)
class Additive(_FromTraining):
    """mu_A + mu_B - mu_0: the sum of the changes of the targets alone; undefined where one was not seen alone."""

    def _change(self, train: Responses, condition: Condition) -> Array | None:
        members = [train.of_targets((t,), condition.context, condition.dose) for t in condition.targets]
        known = [change for change in members if change is not None]
        return np.asarray(np.sum(known, axis=0)) if len(known) == len(members) else None


@baselines.register("transfer_mean", BaselineConfig)
class TransferMean(_FromTraining):
    """The mean change that the same targets have in the other contexts."""

    def _change(self, train: Responses, condition: Condition) -> Array | None:
        return train.of_targets(condition.targets, condition.context, condition.dose, other=True)
