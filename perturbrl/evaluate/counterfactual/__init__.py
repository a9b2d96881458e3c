"""How predictions of held-out perturbations are scored.

``score(observe_effects(table, config), {row: Prediction})`` is the entry. ``predict(baseline, truth)`` makes the
prediction of a baseline of ``perturbrl.effects``, ``read_predictions`` that of another program.
"""

from __future__ import annotations

from perturbrl.effects.observed import ObservedEffects, ScoreConfig, observe_effects
from perturbrl.evaluate.counterfactual.metrics import Scores, score
from perturbrl.evaluate.counterfactual.prediction import Prediction, predict
from perturbrl.evaluate.counterfactual.predictions import read_predictions

__all__ = [
    "ObservedEffects",
    "Prediction",
    "ScoreConfig",
    "Scores",
    "observe_effects",
    "predict",
    "read_predictions",
    "score",
]
