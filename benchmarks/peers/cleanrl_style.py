"""PPO in one file, the way CleanRL lays it out: a module, autograd, Adam, arrays of [steps, environments]."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor, nn
from torch.distributions import Normal


def layer(n_in: int, n_out: int, gain: float = math.sqrt(2)) -> nn.Linear:
    made = nn.Linear(n_in, n_out)
    nn.init.orthogonal_(made.weight, gain)
    nn.init.zeros_(made.bias)
    return made


class Agent(nn.Module):
    def __init__(self, size: int, n_actions: int, hidden: tuple[int, ...]) -> None:
        super().__init__()

        def body() -> list[nn.Module]:
            widths = [size, *hidden]
            parts: list[nn.Module] = []
            for n_in, n_out in pairwise(widths):
                parts += [layer(n_in, n_out), nn.Tanh()]
            return parts

        self.critic = nn.Sequential(*body(), layer(hidden[-1], 1, 1.0))
        self.actor = nn.Sequential(*body(), layer(hidden[-1], n_actions, 0.01))
        self.log_std = nn.Parameter(torch.zeros(1, n_actions))

    def value(self, x: Tensor) -> Tensor:
        value: Tensor = self.critic(x).squeeze(-1)
        return value

    def forward(self, x: Tensor, action: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean = self.actor(x)
        dist: Any = Normal(mean, self.log_std.expand_as(mean).exp(), validate_args=False)
        if action is None:
            action = dist.sample()
        return action, dist.log_prob(action).sum(1), dist.entropy().sum(1), self.value(x)


class PPO:
    def __init__(
        self,
        envs: VectorEnv[Any, Any, Any],
        rollout: int,
        hidden: tuple[int, ...],
        minibatch: int,
        epochs: int,
        lr: float,
        fused: bool = False,
        compiled: bool = False,
    ) -> None:
        self.envs, self.n_steps, self.minibatch, self.epochs = envs, rollout // envs.num_envs, minibatch, epochs
        shape = envs.single_observation_space.shape
        assert shape is not None and envs.single_action_space.shape is not None
        self.agent = Agent(shape[0], envs.single_action_space.shape[0], hidden)
        self.optimizer = torch.optim.Adam(self.agent.parameters(), lr=lr, eps=1e-5, fused=fused)
        self.loss = torch.compile(self._loss) if compiled else self._loss
        self.now = torch.as_tensor(envs.reset(seed=0)[0])
        self.done = torch.zeros(envs.num_envs)
        self.rng = np.random.default_rng(0)

    def iterate(self) -> int:
        steps, n = self.n_steps, self.envs.num_envs
        obs = torch.zeros(steps, n, self.now.shape[1])
        actions = torch.zeros(steps, n, self.agent.log_std.shape[1])
        log_probs, rewards, dones, values = (torch.zeros(steps, n) for _ in range(4))
        for t in range(steps):
            obs[t], dones[t] = self.now, self.done
            with torch.no_grad():
                actions[t], log_probs[t], _, values[t] = self.agent(self.now)
            following, reward, terminated, truncated, _ = self.envs.step(actions[t].numpy())
            rewards[t] = torch.as_tensor(reward)
            self.now = torch.as_tensor(following)
            self.done = torch.as_tensor(terminated | truncated).float()
        with torch.no_grad():
            next_value = self.agent.value(self.now)
        advantages = torch.zeros_like(rewards)
        carried = torch.zeros(n)
        next_done = self.done
        for t in reversed(range(steps)):
            delta = rewards[t] + 0.99 * next_value * (1 - next_done) - values[t]
            carried = delta + 0.99 * 0.95 * (1 - next_done) * carried
            advantages[t] = carried
            next_value, next_done = values[t], dones[t]
        parts = (obs, actions, log_probs, advantages, advantages + values)
        batch = [x.flatten(0, 1) for x in parts]
        order = np.arange(steps * n)
        for _ in range(self.epochs):
            self.rng.shuffle(order)
            for start in range(0, steps * n, self.minibatch):
                rows = torch.from_numpy(order[start : start + self.minibatch])
                loss = self.loss(*(x[rows] for x in batch))
                self.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(self.agent.parameters(), 0.5)
                self.optimizer.step()
        return steps * n

    def _loss(self, obs: Tensor, action: Tensor, old: Tensor, advantage: Tensor, ret: Tensor) -> Tensor:
        _, log_prob, entropy, value = self.agent(obs, action)
        ratio = (log_prob - old).exp()
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        policy = torch.max(-advantage * ratio, -advantage * ratio.clamp(0.8, 1.2)).mean()
        loss: Tensor = policy + 0.5 * (value - ret).square().mean() - 0.0 * entropy.mean()
        return loss
