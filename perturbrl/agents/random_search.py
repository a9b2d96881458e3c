"""Random search in the weights of the policy (Rastrigin 1963): what an agent must beat at equal environment steps.

Every rollout of whole episodes tries one policy, drawn around the best so far; a better mean return makes it the best.
Without gradient and critic: the value network stays as it was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perturbrl.agents.common.build import agent
from perturbrl.agents.common.recipe import Recipe
from perturbrl.agents.common.rollout import Log, Rollout
from perturbrl.agents.model.heads import Model
from perturbrl.agents.settings.random_search import RandomSearchConfig
from perturbrl.config import require
from perturbrl.rng import Streams


class Trials:
    """Whole episodes of the policies on trial; as a ``Grouping`` it sees a rollout begin and its rewards.

    ``theta`` [S, n] are the parameters on trial, which take the place of the model's while a rollout is collected.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.theta = model, model.theta.detach().clone()

    def share(self, u: Tensor) -> Tensor:
        """Leave every cell its own random numbers: there are no groups."""
        return u

    def require_alike(self, obs: Tensor, mates: int) -> None:
        """Begin the trial: episodes have started, and the policy has not acted yet."""
        self.model.theta.copy_(self.theta)

    def rollout(
        self, obs: Tensor, action: Tensor, log_prob: Tensor, reward: Tensor, over: Tensor, gamma: Tensor
    ) -> Rollout:
        """Make a batch of T steps whose ``ret`` [S, M] is the mean return of the episodes that ended, in each step.

        Raises
        ------
        UserError
            In a run no episode has ended: rollouts are shorter than episodes.
        """
        running, weight = torch.zeros_like(reward[:, 0]), torch.ones_like(reward[:, 0])
        total, n_ended = (torch.zeros(len(reward), device=reward.device) for _ in range(2))
        for t in range(reward.shape[1]):
            running, weight = running + weight * reward[:, t], weight * gamma
            ended = over[:, t]
            total, n_ended = total + (running * ended).sum(1), n_ended + ended.sum(1)
            running, weight = running * ~ended, torch.where(ended, 1.0, weight)
        steps = reward.shape[1]
        message = f"no episode of this task ends within {steps} steps of a cell; give at least n_envs x its horizon"
        require(bool((n_ended > 0).all()), "agent.rollout_steps", message)
        score = (total / n_ended)[:, None].expand(-1, reward[0].numel()).contiguous()
        zero = torch.zeros_like(score)
        return Rollout(obs.flatten(1, 2), action.flatten(1, 2), log_prob.flatten(1), zero, zero, score)


@agent("random_search", RandomSearchConfig)
class RandomSearch(Recipe[RandomSearchConfig]):
    """Keep the best policy of all that were tried; ``model`` holds it between rollouts."""

    def __init__(self, configs: Sequence[RandomSearchConfig], model: Model, streams: Streams) -> None:
        super().__init__(configs, model, streams)
        self.groups = Trials(model)
        self.best = model.theta.detach().clone()
        self.score = torch.full((len(configs), 1), -torch.inf, device=streams.device)

    @torch.no_grad()
    def update(self, batch: Rollout, iteration: int) -> Log:
        """Keep the policy on trial where its mean return is the best so far, and draw the next one."""
        score = batch.ret[:, :1]
        better = score > self.score
        self.best = torch.where(better, self.groups.theta, self.best)
        self.score = torch.where(better, score, self.score)
        self.model.theta.copy_(self.best)
        noise = self.streams.normal("search", iteration, (self.model.policy_size,))
        self.groups.theta = self.best.clone()
        self.groups.theta[:, : self.model.policy_size] += self.c.sigma * noise
        return {"trial_return": score[:, 0], "best_return": self.score[:, 0].clone(), "better": better[:, 0].float()}

    def state(self) -> dict[str, Tensor]:
        """Return the best score so far and the parameters that are tried next."""
        return {"score": self.score, "trial": self.groups.theta}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``; the model holds the best policy."""
        self.score.copy_(state["score"])
        self.groups.theta.copy_(state["trial"])
        self.best.copy_(self.model.theta)
