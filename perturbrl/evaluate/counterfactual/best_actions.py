"""How far the actions of a task lead at all: what the demonstration predicts, which sees the true change.

What it falls short of the truth is due to the directions, the size of a step and the horizon, not to what a policy has
learnt. Letters: S runs, n conditions.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from perturbrl.envs.counterfactual.task import CounterfactualEnv
from perturbrl.evaluate.counterfactual.rollout import PredictedChanges


def best_changes(env: CounterfactualEnv, conditions: NDArray[np.int64]) -> PredictedChanges:
    """Return where demonstrated episodes end for ``conditions`` [n] of the screen, all of the part of ``env``."""
    dynamics = env.dynamics
    place = {int(condition): k for k, condition in enumerate(env.part.conditions)}
    goal = env.goal[[place[int(condition)] for condition in conditions]].expand(env.n_runs, -1, -1)
    change = torch.zeros_like(goal)
    size = torch.zeros(env.n_runs, dtype=torch.float64)
    for t in range(dynamics.horizon):
        action = dynamics.towards(goal, change, t)
        change = dynamics.advance(change, action)
        size += action.abs().double().mean((-1, -2)).cpu()
    return PredictedChanges(dynamics.residual[conditions] + dynamics.genes(change), (size / dynamics.horizon).numpy())
