"""How predictions of held-out perturbations are scored.

``score(observe_truth(table, config), {row: Prediction})`` is the entry. ``predict(baseline, truth)`` makes the
prediction of a baseline of ``perturbrl.effects``, ``read_predictions`` that of another program.
"""

from __future__ import annotations

from perturbrl.effects.observed import ScoreConfig, Truth, observe_truth
from perturbrl.evaluate.counterfactual.metrics import Scores, score
from perturbrl.evaluate.counterfactual.prediction import Prediction, predict
from perturbrl.evaluate.counterfactual.predictions import read_predictions

__all__ = [
    "Prediction",
    "ScoreConfig",
    "Scores",
    "Truth",
    "observe_truth",
    "predict",
    "read_predictions",
    "score",
]
