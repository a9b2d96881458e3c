"""Mean changes of the conditions that a baseline may learn from. Letters: P conditions, M of them observed, G genes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perturbrl.effects.groups import Array, group_cells
from perturbrl.screens.schema import Condition, PerturbationTable, Rows

HOLD_OUT = 5
"""Without validation conditions every fifth training condition is held out for tuning."""
LEAST_CONDITIONS = 5
"""Conditions of a context below which their mean is no centre of it: after few shots it is those shots, and whatever
differs from them would seem to be specific to a perturbation."""


@dataclass(frozen=True)
class Responses:
    """What M perturbed conditions do to the mean cell of their context.

    ``conditions`` [M] index ``known`` (all P conditions of the screen), ``change`` [M, G] is mu_p - mu_0 (mean
    log-normalised expression of the condition minus that of the controls of its context), ``n_cells`` [M]. ``control``
    maps a context to mu_0 [G].
    """

    known: tuple[Condition, ...]
    conditions: NDArray[np.int64]
    change: Array
    n_cells: NDArray[np.int64]
    control: dict[str, Array]

    @property
    def contexts(self) -> list[str]:
        """Context of each observed condition, M of them."""
        return [self.known[c].context for c in self.conditions]

    def subset(self, keep: NDArray[np.bool_]) -> Responses:
        """Return the responses of the conditions where ``keep`` [M] holds."""
        return Responses(self.known, self.conditions[keep], self.change[keep], self.n_cells[keep], control=self.control)

    def mean_change(self, context: str) -> Array:
        """Return the mean change over observed conditions of equal weight, [G].

        Those of ``context`` are averaged where there are ``LEAST_CONDITIONS``, all of them otherwise.
        """
        same = np.array([c == context for c in self.contexts], dtype=bool)
        return np.asarray((self.change[same] if same.sum() >= LEAST_CONDITIONS else self.change).mean(axis=0))

    def mean_changes(self, conditions: NDArray[np.int64]) -> Array:
        """Return ``mean_change`` of the context of each of ``conditions`` [n], [n, G]."""
        contexts = [self.known[c].context for c in conditions]
        means = {context: self.mean_change(context) for context in set(contexts)}
        return np.array([means[context] for context in contexts]).reshape(len(conditions), -1)

    def of_targets(
        self, targets: tuple[str, ...], context: str, dose: float | None, other: bool = False
    ) -> Array | None:
        """Return the mean change of observed conditions with exactly these targets in ``context``, [G], or None.

        Those of the same dose are preferred. ``other`` takes every context but ``context`` instead.
        """
        observed = [self.known[c] for c in self.conditions]
        alike = [i for i, c in enumerate(observed) if c.targets == targets and (c.context == context) != other]
        rows = [i for i in alike if observed[i].dose == dose] or alike
        return np.asarray(self.change[rows].mean(axis=0)) if rows else None


def observe(table: PerturbationTable, rows: Rows, controls: Rows, use: str, spare: Rows | None = None) -> Responses:
    """Return the responses of the perturbed conditions among ``rows``; arguments and errors as of ``group_cells``."""
    groups = group_cells(table, rows, controls, use, spare)
    mean = groups.moments(table.screen.x).mean
    change = mean[: len(groups.cells)] - mean[groups.control_group]
    control = dict(zip(groups.controls, mean[len(groups.cells) :], strict=True))
    return Responses(table.screen.conditions, groups.conditions, change, groups.n_cells, control)


def trained(table: PerturbationTable) -> Responses:
    """Return the responses of the training conditions (train and control_train cells only)."""
    return _both(table)[0]


def tuning(table: PerturbationTable) -> tuple[Responses, Responses]:
    """Return what to fit on and what to choose settings on: training and validation conditions.

    Without validation conditions every ``HOLD_OUT``-th training condition is held out.
    """
    train, validation = _both(table)
    if len(validation.conditions):
        return train, validation
    out = np.arange(len(train.conditions)) % HOLD_OUT == HOLD_OUT - 1
    return (train.subset(~out), train.subset(out)) if out.any() else (train, train)


def _both(table: PerturbationTable) -> tuple[Responses, Responses]:
    """Return the responses of train and of validation (empty where there is none), computed once for a table."""

    def compute() -> tuple[Responses, Responses]:
        split = table.split
        train = observe(table, split.train, split.control_train, "training")
        if not len(split.validation):
            return train, train.subset(np.zeros(len(train.conditions), dtype=bool))
        spare = split.control_train
        return train, observe(table, split.validation, split.control_validation, "validation", spare)

    return table.once("responses", compute)
