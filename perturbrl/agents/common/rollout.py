"""Collect T steps in B cells of S runs, and estimate advantages.

Letters: S runs, T steps, B cells, M = T x B transitions, G features, A action size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor

from perturbrl.agents.common.losses import normalise
from perturbrl.agents.model.heads import Model
from perturbrl.envs.base import BatchedEnv
from perturbrl.rng import Streams

Teacher = Callable[[], Tensor]
Log = dict[str, Tensor]
"""Numbers to log, by name: one for each run, [S]."""


@dataclass(frozen=True)
class Rollout:
    """A batch on which a policy is improved; M = T x B transitions of each run, flattened.

    ``obs`` [S, M, G]; ``action`` [S, M, A] or [S, M]; ``log_prob``, ``value``, ``advantage``, ``ret`` [S, M]. A recipe
    that needs more of each transition derives a class with more fields.
    """

    obs: Tensor
    action: Tensor
    log_prob: Tensor
    value: Tensor
    advantage: Tensor
    ret: Tensor

    def fields(self) -> tuple[Tensor, ...]:
        """Return the tensors in the order of their declaration."""
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def reordered(self, order: Tensor) -> Self:
        """Return the transitions of run s in the order of row s of ``order`` [S, M]."""
        return type(self)(*reorder(order, *self.fields()))

    def minibatches(self, size: int) -> Iterator[Self]:
        """Yield consecutive minibatches of ``size`` transitions."""
        parts = (torch.split(field, size, 1) for field in self.fields())
        return (type(self)(*part) for part in zip(*parts, strict=True))

    def normalised(self, size: int | None = None) -> Self:
        """Return the rollout with ``losses.normalise`` applied to its advantages."""
        return replace(self, advantage=normalise(self.advantage, size))

    def explained_variance(self) -> Tensor:
        """Return 1 - var(R - V) / var(R), [S]: the share of the variance of returns that V explains."""
        return 1 - (self.ret - self.value).var(1) / self.ret.var(1)


def reorder(order: Tensor, *fields: Tensor) -> list[Tensor]:
    """Return ``fields`` [S, M, ...] with the transitions of run s in the order of row s of ``order`` [S, M]."""
    runs, size = order.shape
    rows = order.add(torch.arange(0, runs * size, size, device=order.device).unsqueeze(1)).flatten()
    return [x.flatten(0, 1).index_select(0, rows).view(x.shape) for x in fields]


class Grouping(Protocol):
    """Whole episodes in groups that start alike; ``groups.Groups`` is the one there is."""

    def share(self, u: Tensor) -> Tensor:
        """Give the cells of a group the same uniforms, [S, ..., B, D]."""
        ...

    def require_alike(self, obs: Tensor, mates: int) -> None:
        """Raise ``UserError`` where the first observations [S, B, G] of a group differ, or mates are of one group."""
        ...

    def rollout(
        self, obs: Tensor, action: Tensor, log_prob: Tensor, reward: Tensor, over: Tensor, gamma: Tensor
    ) -> Rollout:
        """Make a batch of T steps, each argument [S, T, B, ...], with the advantages of whole episodes."""
        ...


class EpisodeTracker:
    """Returns of finished episodes in each run; the mean of the last rollout that finished any."""

    def __init__(self, n_runs: int, n_envs: int, device: torch.device) -> None:
        self.running = torch.zeros(n_runs, n_envs, device=device)
        self.last = torch.full((n_runs,), torch.nan, device=device)

    def update(self, reward: Tensor, done: Tensor) -> None:
        """Add one rollout: rewards and ends of episodes, both [S, T, B]."""
        total = torch.zeros_like(self.last)
        count = torch.zeros_like(self.last)
        for t in range(reward.shape[1]):
            self.running += reward[:, t]
            ended = done[:, t]
            total += (self.running * ended).sum(1)
            count += ended.sum(1)
            self.running *= ~ended
        self.last = torch.where(count > 0, total / count.clamp(min=1), self.last)


class Collector:
    """Steps the environment with the current policy, from the observation at which the last rollout stopped.

    Parameters
    ----------
    model
        The networks of the S runs.
    env
        S x B cells.
    streams
        Random numbers of the S runs.
    n_steps
        T, steps of each cell in one rollout.
    """

    def __init__(self, model: Model, env: BatchedEnv, streams: Streams, n_steps: int) -> None:
        self.model, self.env, self.streams, self.n_steps = model, env, streams, n_steps
        self.obs = torch.zeros(env.n_runs, env.n_envs, env.obs_dim, device=streams.device)
        self.episodes = EpisodeTracker(env.n_runs, env.n_envs, streams.device)

    def reset(self, iteration: int, groups: Grouping | None = None) -> None:
        """Start every episode anew; alike in the cells of a group, where there are groups."""
        u = self.streams.uniform("reset", iteration, (self.env.n_envs, self.env.n_uniforms))
        self.obs.copy_(self.env.reset(u if groups is None else groups.share(u)))
        if groups is not None:
            groups.require_alike(self.obs, getattr(self.env, "mates", 1))
        self.episodes.running.zero_()

    def collect(
        self, iteration: int, gamma: Tensor, lam: Tensor, teacher: Teacher | None = None, groups: Grouping | None = None
    ) -> Rollout:
        """Run T steps in each cell.

        Parameters
        ----------
        iteration
            Number of the rollout; a key of random streams.
        gamma, lam
            Discount and lambda of ``gae``, [S, 1].
        teacher
            Returns the actions [S, B, A] to take. Default: sample from the policy.
        groups
            Starts every episode anew, and estimates the advantages. Default: go on, and estimate with the critic.

        Returns
        -------
        Rollout
            M = T x B transitions of each run, on the device of ``streams``.
        """
        if groups is not None:
            self.reset(iteration, groups)
        env, model, steps = self.env, self.model, self.n_steps
        shape = (env.n_runs, steps, env.n_envs)
        discrete = env.action_space.kind == "discrete"
        u = self.streams.uniform("env", iteration, (steps, env.n_envs, env.n_uniforms))
        u = u if groups is None else groups.share(u)
        draw = self.streams.uniform if discrete else self.streams.normal
        noise = draw("action", iteration, (steps, env.n_envs, 1 if discrete else env.action_space.size))

        obs = self.obs.new_empty(*shape, env.obs_dim)
        action = noise.new_empty(shape, dtype=torch.int64) if discrete else torch.empty_like(noise)
        reward, log_prob = obs.new_empty(shape), obs.new_empty(shape)
        terminated = torch.empty(shape, dtype=torch.bool, device=obs.device)
        truncated = torch.zeros_like(terminated)
        final_obs = torch.empty_like(obs) if env.can_truncate else None
        now = self.obs
        for t in range(steps):
            obs[:, t] = now
            policy = model.policy(now)[0]
            action[:, t] = policy.sample(noise[:, t]) if teacher is None else teacher()
            log_prob[:, t] = policy.log_prob(action[:, t])[0]
            step = env.step(action[:, t], u[:, t])
            now = step.obs
            reward[:, t], terminated[:, t] = step.reward, step.terminated
            if final_obs is not None:
                truncated[:, t], final_obs[:, t] = step.truncated, step.final_obs
        self.obs.copy_(now)
        self.episodes.update(reward, terminated | truncated)
        env.action_space.require_choice(obs.flatten(1, 2))
        if groups is not None:
            return groups.rollout(obs, action, log_prob, reward, terminated | truncated, gamma)
        value, following = self._values(obs, truncated, final_obs)
        advantage = gae(reward, value, following, terminated, truncated, gamma, lam)
        fields = obs, action, log_prob, value, advantage, advantage + value
        return Rollout(*(field.flatten(1, 2) for field in fields))

    def _values(self, obs: Tensor, truncated: Tensor, final_obs: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return V of each state of a rollout, and of the state after it (see ``gae``), both [S, T, B]."""
        value = self.model.value(obs.flatten(1, 2))[0].view(truncated.shape)
        last = self.model.value(self.obs)[0]
        following = torch.cat([value[:, 1:], last.unsqueeze(1)], 1)
        if final_obs is not None:
            at_limit = self.model.value(final_obs.flatten(1, 2))[0].view(truncated.shape)
            following = torch.where(truncated, at_limit, following)
        return value, following

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint needs."""
        tensors = {"obs": self.obs, "episode/running": self.episodes.running, "episode/last": self.episodes.last}
        return tensors | {f"env/{name}": tensor for name, tensor in self.env.state().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        self.obs.copy_(state["obs"])
        self.episodes.running.copy_(state["episode/running"])
        self.episodes.last.copy_(state["episode/last"])
        self.env.load_state({k.removeprefix("env/"): v for k, v in state.items() if k.startswith("env/")})


def gae(
    reward: Tensor,
    value: Tensor,
    following: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: Tensor,
    lam: Tensor,
) -> Tensor:
    """Estimate advantages (generalised advantage estimation, Schulman et al. 2016, their eq. 16).

    Parameters
    ----------
    reward, value
        Reward and V of each state, [S, T, B].
    following
        V of the next state, [S, T, B]; at a time limit, V of the last state of the episode. So a truncated episode
        bootstraps and a terminated one does not.
    terminated, truncated
        Bool, [S, T, B].
    gamma, lam
        Discount and lambda, [S, 1].

    Returns
    -------
    Tensor
        Advantages in units of reward, [S, T, B].
    """
    delta = reward + gamma.unsqueeze(-1) * following * ~terminated - value
    decay = gamma.unsqueeze(-1) * lam.unsqueeze(-1) * ~(terminated | truncated)
    advantage = torch.empty_like(delta)
    carried = torch.zeros_like(delta[:, 0])
    for t in range(delta.shape[1] - 1, -1, -1):
        carried = torch.addcmul(delta[:, t], decay[:, t], carried)
        advantage[:, t] = carried
    return advantage
