"""Groups of episodes that start alike: the baseline of agents without a critic.

Letters: S runs, T steps, B cells, K cells of a group, N = B / K groups, E episodes of a cell, M = T x B transitions, D
uniforms that a step of an environment consumes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from perturbrl.agents.common.rollout import Rollout
from perturbrl.config import require

Estimate = Callable[[Tensor], Tensor]
"""Advantages of episodes from their returns, both [S, E, N, K]: ``losses.group_relative``, ``losses.leave_one_out``."""


@dataclass(frozen=True)
class Episodes(Rollout):
    """A rollout of whole episodes. ``advantage`` and ``ret`` of a step are those of its episode; ``value`` is zero.

    ``weight`` [S, M] is what a step counts in an average over M; its mean is 1. ``reference`` [S, M] holds
    log-probabilities under a reference policy; until a recipe puts them there, those of the policy that acted.
    """

    weight: Tensor
    reference: Tensor


class Groups:
    """Cells g, N + g, 2 N + g, ... are a group: an environment gives them the same random numbers.

    So its K episodes have the same start and the same noise, and differ by the actions that the policy draws. Given
    start and noise, the returns of the others do not depend on an episode's own actions: subtracting them leaves the
    policy gradient unbiased, as a common baseline does. Blocks of N cells side by side are of N groups, so that a
    task whose rewards depend on neighbours (it has ``mates``) compares episodes of different groups.

    Every rollout starts from fresh episodes. A group counts where all of its episodes began at the same step and ended
    within the rollout; the steps of others have weight 0. Where all episodes last as long (as in the tasks of this
    package) that is every group, except one cut by the end of the rollout: none is cut if T is a multiple of the
    horizon.

    Parameters
    ----------
    size
        K.
    estimate
        Advantages of episodes from their returns.
    by_length
        Weigh every episode alike, not every step: a step of an episode of n steps counts 1 / n.
    """

    def __init__(self, size: int, estimate: Estimate, by_length: bool) -> None:
        self.size, self.estimate, self.by_length = size, estimate, by_length

    def share(self, u: Tensor) -> Tensor:
        """Give every cell of a group the uniforms of its first cell, [S, ..., B, D]."""
        n_groups = u.shape[-2] // self.size
        return torch.cat([u[..., :n_groups, :]] * self.size, -2)

    def require_alike(self, obs: Tensor, mates: int) -> None:
        """Check that the cells of a group start alike, and that their rewards do not depend on each other.

        Parameters
        ----------
        obs
            First observations, [S, B, G].
        mates
            Number of cells side by side whose rewards depend on each other.

        Raises
        ------
        UserError
            They do not.
        """
        blocks = obs.view(len(obs), self.size, -1, obs.shape[2])
        n_groups = blocks.shape[2]
        message = f"env.mates = {mates} must divide n_envs / group = {n_groups}, so that mates are of different groups"
        require(n_groups % mates == 0, "agent.group", message)
        message = "this task starts cells with the same random numbers in different states, so they make no group"
        require(bool((blocks == blocks[:, :1]).all()), "agent.group", message)

    def rollout(
        self, obs: Tensor, action: Tensor, log_prob: Tensor, reward: Tensor, over: Tensor, gamma: Tensor
    ) -> Episodes:
        """Make a batch with the advantages of whole episodes.

        Parameters
        ----------
        obs, action, log_prob, reward, over
            Of T steps, [S, T, B, ...]; ``over``: the episode ended, bool.
        gamma
            Discount per step, [S, 1].

        Raises
        ------
        UserError
            No group of any run has ended: rollouts are shorter than episodes.
        """
        runs, steps, cells = reward.shape
        n_groups = cells // self.size
        episode = over.cumsum(1) - over.long()  # number of a step's episode within its cell
        length, ended = (self._sum(episode, x) for x in (torch.ones_like(reward), over.to(reward.dtype)))
        begin = length.cumsum(1) - length
        age = torch.arange(steps, device=reward.device).view(1, -1, 1) - begin.gather(1, episode)
        returns = self._sum(episode, reward * gamma.unsqueeze(-1) ** age)

        def grouped(x: Tensor) -> Tensor:
            return x.view(runs, steps, self.size, n_groups).transpose(2, 3)  # [S, E, N, K]

        def per_step(x: Tensor) -> Tensor:
            return x.transpose(2, 3).flatten(2).gather(1, episode).flatten(1)

        starts = grouped(begin)
        counts = ((grouped(ended) > 0) & (starts == starts[..., :1])).all(-1, keepdim=True)
        message = f"no episode of this task ends within {steps} steps of a cell; give at least n_envs x its horizon"
        require(bool(counts.any()), "agent.rollout_steps", message)
        weight = counts / grouped(length).clamp(min=1) if self.by_length else counts.expand_as(starts).to(reward.dtype)
        weight, ret = per_step(weight), per_step(grouped(returns))
        total = weight.sum(1, keepdim=True)
        advantage = per_step(torch.where(counts, self.estimate(grouped(returns)), 0))
        weight = weight * (steps * cells) / torch.where(total > 0, total, 1)
        flat_log_prob = log_prob.flatten(1)
        fields = flat_log_prob, torch.zeros_like(ret), advantage, ret, weight, flat_log_prob
        return Episodes(obs.flatten(1, 2), action.flatten(1, 2), *fields)

    @staticmethod
    def _sum(episode: Tensor, x: Tensor) -> Tensor:
        """Add up the steps of each episode: [S, T, B] to [S, E, B], with E = T."""
        return torch.zeros_like(x).scatter_add_(1, episode, x)
