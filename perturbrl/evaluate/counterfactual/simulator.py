"""Where the cells were simulated: the true changes as a row of their own, and how far from them every prediction stays.

Letters: P conditions of the screen, n test conditions, G genes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from perturbrl.effects.observed import ObservedEffects
from perturbrl.evaluate.counterfactual.prediction import Prediction
from perturbrl.metrics_info import SIMULATOR


def known_changes(means: NDArray[np.float64], truth: ObservedEffects) -> Prediction:
    """Return the changes of the test conditions in the simulator's own ``means`` [P, G] of many cells."""
    screen = truth.table.screen
    control = [screen.control_of(int(condition)) for condition in truth.conditions]
    return Prediction(means[truth.conditions] - means[control])


def regrets(predictions: Mapping[str, Prediction]) -> dict[str, float]:
    """Return row -> sum ||change - true change||^2 / sum ||true change||^2 over the test conditions; {} if unknown.

    What a row leaves of the return that the simulator's own changes would earn with ``reward=shift``, free of the noise
    of measured cells: 0 the optimum, 1 no change, above 1 worse than none.
    """
    if SIMULATOR not in predictions:
        return {}
    true = predictions[SIMULATOR].change
    whole = float(np.square(true).sum())
    return {row: float(np.square(prediction.change - true).sum()) / whole for row, prediction in predictions.items()}
