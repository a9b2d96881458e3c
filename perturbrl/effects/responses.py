"""Mean changes of the conditions that a baseline may learn from. Letters: P conditions, M of them observed, G genes."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perturbrl.errors import UserError
from perturbrl.screens.schema import Condition, PerturbationTable, Rows

Array = NDArray[np.float64]

_RESPONSES: weakref.WeakKeyDictionary[PerturbationTable, tuple[Responses, Responses]] = weakref.WeakKeyDictionary()
HOLD_OUT = 5
"""Without validation conditions every fifth training condition is held out for tuning."""
LEAST_OWN = 5
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

        Those of ``context`` are averaged where there are ``LEAST_OWN``, all of them otherwise.
        """
        same = np.array([c == context for c in self.contexts], dtype=bool)
        return np.asarray((self.change[same] if same.sum() >= LEAST_OWN else self.change).mean(axis=0))

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
        own = [self.known[c] for c in self.conditions]
        found = [i for i, c in enumerate(own) if c.targets == targets and (c.context == context) != other]
        same = [i for i in found if own[i].dose == dose]
        picked = same or found
        return np.asarray(self.change[picked].mean(axis=0)) if picked else None


def observe(table: PerturbationTable, rows: Rows, controls: Rows, spare: Rows | None = None) -> Responses:
    """Return the responses of the perturbed conditions among ``rows`` against the control cells ``controls``.

    ``spare`` are the controls of contexts that have none among ``controls``.

    Raises
    ------
    UserError
        ``rows`` are empty, or a context has no control cells.
    """
    screen = table.screen
    counts = np.bincount(screen.condition[rows], minlength=len(screen.conditions))
    picked = np.array([i for i, c in enumerate(screen.conditions) if counts[i] and not c.is_control], dtype=np.int64)
    if not len(picked):
        raise UserError(
            f"split={table.split.kind}: no perturbed cells to learn from; a smaller test fraction leaves some"
        )
    control = _controls(table, controls) if spare is None else _controls(table, spare) | _controls(table, controls)
    without = sorted({screen.conditions[c].context for c in picked} - set(control))
    if without:
        raise UserError(
            f"split={table.split.kind}: context {without[0]!r} has perturbed cells to learn from but no control cells"
        )
    change = table.means(rows)[picked] - np.array([control[screen.conditions[c].context] for c in picked])
    return Responses(screen.conditions, picked, change, counts[picked], control)


def trained(table: PerturbationTable) -> Responses:
    """Return the responses of the training conditions (train and control_train cells only)."""
    return _both(table)[0]


def tuning(table: PerturbationTable) -> tuple[Responses, Responses]:
    """Return what to fit on and what to choose settings on: training and validation conditions.

    Without validation conditions every ``HOLD_OUT``-th training condition is held out.
    """
    train, held = _both(table)
    if len(held.conditions):
        return train, held
    out = np.arange(len(train.conditions)) % HOLD_OUT == HOLD_OUT - 1
    return (train.subset(~out), train.subset(out)) if out.any() else (train, train)


def _both(table: PerturbationTable) -> tuple[Responses, Responses]:
    """Return the responses of train and of validation (empty where there is none), computed once for a table."""
    if table not in _RESPONSES:
        split = table.split
        train = observe(table, split.train, split.control_train)
        held = train.subset(np.zeros(len(train.conditions), dtype=bool))
        if len(split.validation):
            held = observe(table, split.validation, split.control_validation, split.control_train)
        _RESPONSES[table] = (train, held)
    return _RESPONSES[table]


def _controls(table: PerturbationTable, rows: Rows) -> dict[str, Array]:
    means = table.means(rows)
    found = {c.context: means[i] for i, c in enumerate(table.screen.conditions) if c.is_control}
    return {context: mean for context, mean in found.items() if np.isfinite(mean).all()}
