"""Returns of a policy in the task itself; not a measure of its predictions. Letters: S policies, B episodes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from perturbrl.envs.counterfactual.task import CounterfactualEnv
from perturbrl.evaluate.actions import PopulationAct
from perturbrl.evaluate.returns import episode_returns, uniforms
from perturbrl.rng import Streams


@dataclass(frozen=True)
class PolicyReturns:
    """``returns`` of whole episodes and the ``best`` there is to earn in each, both [S, B] float64, on the CPU.

    Doing nothing earns 0.
    """

    returns: Tensor
    best: Tensor

    def numbers(self, success: float) -> dict[str, float]:
        """Return the columns for the first policy.

        ``return``; ``return_normalised``, its ratio to the mean of the best (0 doing nothing, 1 perfect);
        ``success_rate``, the part of the episodes that earn ``success`` of their best or more.
        """
        returns, best = self.returns[0], self.best[0]
        return {
            "return": float(returns.mean()),
            "return_normalised": float(returns.mean() / best.mean()),
            "success_rate": float((returns >= success * best).double().mean()),
        }


@torch.no_grad()
def policy_returns(act: PopulationAct, env: CounterfactualEnv, seed: int) -> PolicyReturns:
    """Play one episode for each policy and cell of ``env``; the draws follow from ``seed`` alone."""
    returns = episode_returns(act, env, seed, env.dynamics.horizon, env.device)
    env.reset(uniforms(Streams([seed], "cpu"), env, "evaluate/reset", 0, env.device))
    return PolicyReturns(returns.cpu(), env.best_returns().double().cpu())
