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


@dataclass(frozen=True)
class Earned:
    """What policies earn on ``test`` conditions and on those that they were trained on."""

    test: PolicyReturns
    train: PolicyReturns

    def numbers(self, success: float, best: Earned) -> dict[str, float]:
        """Return the columns of ``PolicyReturns`` for the first policy, some for both kinds of conditions.

        ``return_share`` is the ratio to what the ``best`` allowed actions earn, NaN where those earn nothing.
        """
        return {
            **self.test.numbers(success),
            "return_share": float(share(self.test.returns, best.test.returns)[0]),
            "train_return_normalised": self.train.numbers(success)["return_normalised"],
            "train_return_share": float(share(self.train.returns, best.train.returns)[0]),
        }


@torch.no_grad()
def policy_returns(act: PopulationAct, env: CounterfactualEnv, seed: int) -> PolicyReturns:
    """Play one episode for each policy and cell of ``env``; the draws follow from ``seed`` alone."""
    returns = episode_returns(act, env, seed, env.dynamics.horizon, env.device)
    env.reset(uniforms(Streams([seed], "cpu"), env, "evaluate/reset", 0, env.device))
    return PolicyReturns(returns.cpu(), env.best_returns().double().cpu())


@torch.no_grad()
def best_returns(env: CounterfactualEnv, seed: int) -> PolicyReturns:
    """Play the demonstration, which sees the true change, on the draws that ``policy_returns`` gives a policy.

    With ``reward=shift`` no policy earns more on the part of ``env``. The other rewards also look at single cells,
    beyond the mean that is demonstrated: there it is what reaching the mean earns.
    """
    return policy_returns(lambda obs: env.demonstration(), env, seed)


def share(returns: Tensor, allowed: Tensor) -> Tensor:
    """Return the ratio [S] of mean returns to those of the best allowed actions, of returns [S, B].

    NaN where those earn nothing: a baseline's prediction can be so far off that no action allowed makes up for it.
    """
    earned, most = returns.mean(1), allowed.mean(1)
    return torch.where(most > 0, earned / most, torch.nan)
