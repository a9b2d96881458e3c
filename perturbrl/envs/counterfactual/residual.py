"""Where episodes begin: at the control cell, or at what a baseline already predicts.

A policy that starts from a baseline's prediction learns what the baseline misses on conditions that it has not seen.
On its own training conditions a baseline misses less; so those begin with predictions of fits that left them out.
Letters: P conditions of the screen, G genes.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from perturbrl.config import choice
from perturbrl.effects.baselines import BaselineContext, baseline_config, make_baseline, residual_names
from perturbrl.registry import baselines
from perturbrl.rng import numpy_generator
from perturbrl.screens.schema import PerturbationTable, Rows

FOLDS = 5


class ResidualName:
    """The bound of ``env.residual``: ``none``, or a baseline that says so in its YAML file."""

    def admit(self, value: str, where: str) -> None:
        """Raise ``UserError`` for another name, and list those that there are."""
        if value != "none" and not (value in baselines and baseline_config(value).residual):
            choice(value, ["none", *residual_names()], where)


def residual_changes(table: PerturbationTable, name: str) -> NDArray[np.float64]:
    """Return the change that each condition begins with, [P, G]; zero for controls and where nothing is predicted.

    ``name`` is ``none`` or a baseline. Training conditions are predicted by five fits, each without a fifth of them. A
    baseline that tunes itself does so on training conditions alone, so that learning curves on validation stay honest.
    Computed once for a table: training, learning curve and evaluation each have an environment. Do not write into it.
    """
    return table.once(f"residual {name}", lambda: _computed(table, name))


def _computed(table: PerturbationTable, name: str) -> NDArray[np.float64]:
    n, g = len(table.screen.conditions), table.screen.x.shape[1]
    changes = np.zeros((n, g))
    if name == "none":
        return changes
    train = table.conditions_of(table.split.train)
    perturbed = np.array([i for i, c in enumerate(table.screen.conditions) if not c.is_control], dtype=np.int64)
    others = np.setdiff1d(perturbed, train)
    changes[others] = _predict(table, name, others)
    order = numpy_generator(table.split.seed, "residual").permutation(train)
    folds = min(FOLDS, len(train))
    for k in range(folds if folds > 1 else 0):
        fold = np.sort(order[k::folds])
        changes[fold] = _predict(_without(table, fold), name, fold)
    return changes


def _predict(table: PerturbationTable, name: str, conditions: Rows) -> NDArray[np.float64]:
    if len(conditions) == 0:
        return np.zeros((0, table.screen.x.shape[1]))
    baseline = make_baseline(name, BaselineContext(seed=table.split.seed, action_rms=0.0))
    baseline.fit(_without_validation(table))
    return np.nan_to_num(np.asarray(baseline.predict(conditions), dtype=np.float64))


def _without_validation(table: PerturbationTable) -> PerturbationTable:
    none = np.zeros(0, dtype=np.int64)
    return dataclasses.replace(table, split=dataclasses.replace(table.split, validation=none))


def _without(table: PerturbationTable, conditions: Rows) -> PerturbationTable:
    screen, split = table.screen, table.split
    rows = split.train[~np.isin(screen.condition[split.train], conditions)]
    seen = table.seen.copy()
    seen[conditions] = False
    return dataclasses.replace(table, split=dataclasses.replace(split, train=rows), seen=seen)
