"""What every baseline is: config, context, and what it predicts. Letters: n conditions, G genes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from perturbrl.bounds import NonNegativeInt
from perturbrl.screens.schema import PerturbationTable

Array = NDArray[np.float64]
Conditions = NDArray[np.int64]


@dataclass(frozen=True)
class BaselineConfig:
    """What every baseline has; ``conf/baseline/*.yaml`` says what each key means."""

    name: str
    row: NonNegativeInt
    residual: bool


@dataclass(frozen=True)
class BaselineContext:
    """What baselines need besides data: a seed, and the rms of the changes of the policy that ``random`` matches."""

    seed: int
    action_rms: float


class Baseline(Protocol):
    """A predictor of mean changes that learns from training cells (and is tuned on validation cells) only."""

    name: str

    def fit(self, table: PerturbationTable) -> None:
        """Learn from ``table.split.train`` and ``control_train``; settings are chosen on validation.

        Raises
        ------
        UserError
            There are no perturbed training cells, or a context of them has no control cells.
        """

    def predict(self, conditions: Conditions) -> Array:
        """Return mu_p - mu_0 of each of ``conditions`` [n] (indices of the table's conditions), [n, G] float64.

        A row of NaN is a condition that the baseline does not predict.
        """


class Configured:
    """A baseline that is made from its config and context, and is called as its config is."""

    def __init__(self, config: Any, context: BaselineContext) -> None:
        self.name: str = config.name
        self.config, self.context = config, context


def covered(change: Array) -> NDArray[np.bool_]:
    """Return which rows of ``change`` [n, G] a baseline predicts, [n]."""
    return np.asarray(~np.isnan(change).all(axis=1))
