"""The networks of SAC for S runs: a policy, two critics, and their two targets.

Letters: S runs, M transitions, G features, A action size, n parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from perturbrl.agents import kernels
from perturbrl.agents.model.actor_critic import PolicyConfig, network
from perturbrl.agents.model.networks import Branches, Layer, Mlp, Sequential, aligned
from perturbrl.agents.sac.input_gradient import InputGradient
from perturbrl.agents.sac.squashed import Squashed
from perturbrl.config import require
from perturbrl.envs.base import BatchedEnv
from perturbrl.rng import Streams, derive

CRITICS = 2


class SACNetworks:
    """The parameters and their gradients; both critics of run k are rows 2 k and 2 k + 1.

    ``theta`` [S, n] is the policy: all that acting needs. ``critics`` and ``targets`` are [2 S, m]. ``grad`` and
    ``critics_grad`` hold the last gradients.
    """

    def __init__(
        self, config: PolicyConfig, env: BatchedEnv, slices: Mapping[str, slice], device: torch.device
    ) -> None:
        self.actions, self.arithmetic, self.n_features = env.action_space, kernels.current(), env.obs_dim
        size, stop = self.actions.size, env.obs_dim + self.actions.size
        self.policy_net = network(config, env.obs_dim, slices, 2 * size, 1.0)
        self.critic_net = network(config, stop, {**slices, "action": slice(env.obs_dim, stop)}, 1, 1.0)
        self.theta = torch.zeros(env.n_runs, aligned(self.policy_net.place(0)), device=device)
        self.critics = torch.zeros(CRITICS * env.n_runs, aligned(self.critic_net.place(0)), device=device)
        self.targets = torch.zeros_like(self.critics)
        self.grad, self.critics_grad = torch.zeros_like(self.theta), torch.zeros_like(self.critics)
        for flat in (self.theta, self.grad):
            self.policy_net.cache_views(flat)
        for flat in (self.critics, self.targets, self.critics_grad):
            self.critic_net.cache_views(flat)
        self._input_gradient = InputGradient(self.critic_net, self.critics, self.n_features)

    @staticmethod
    def for_env(
        configs: Sequence[PolicyConfig], env: BatchedEnv, slices: Mapping[str, slice], streams: Streams
    ) -> SACNetworks:
        """Build and initialise the networks of S runs, each from its own stream ``policy``, drawn on the CPU.

        Raises
        ------
        UserError
            The actions of the task are discrete.
        """
        message = (
            f"sac needs continuous actions, and this task has {env.action_space.size} discrete ones; "
            "choose env=paper or env=counterfactual, or an agent for discrete actions, such as agent=ppo"
        )
        require(env.action_space.kind == "box", "agent", message)
        model = SACNetworks(configs[0], env, slices, streams.device)
        pairs = model.critics.view(env.n_runs, CRITICS, -1)
        for row, pair, config, seed in zip(model.theta, pairs, configs, streams.seeds, strict=True):
            generator = torch.Generator().manual_seed(derive(seed, "policy"))
            init(model.policy_net, row, generator)
            last = list(_mlps(model.policy_net))[-1].chain.views(row[None])[-1]
            last[1][..., model.actions.size :] += config.log_std
            for critic in pair:
                init(model.critic_net, critic, generator)
        model.targets.copy_(model.critics)
        return model

    def policy(self, obs: Tensor) -> tuple[Squashed, Any]:
        """Return pi(.|s) for states [S, M, G], and the cache that ``policy_vjp`` needs."""
        outputs, cache = self.policy_net.forward(self.theta, obs)
        return Squashed(outputs), cache

    def policy_vjp(self, cache: Any, d_outputs: Tensor) -> None:
        """Write the gradient of the policy's parameters to ``grad``; ``d_outputs`` is [S, M, 2 A]."""
        self.policy_net.vjp(self.theta, cache, d_outputs, self.grad, need_dx=False)

    def critic(self, parameters: Tensor, obs: Tensor, action: Tensor) -> tuple[Tensor, Any]:
        """Return Q(s, a) [S, 2, M] of ``critics`` or ``targets``, and the cache that derivatives need."""
        x = torch.cat([obs, action], -1)
        pairs = x.unsqueeze(1).expand(-1, CRITICS, -1, -1).reshape(-1, *x.shape[1:])
        q, cache = self.critic_net.forward(parameters, pairs)
        return q.view(x.shape[0], CRITICS, -1), cache

    def critic_vjp(self, cache: Any, d_q: Tensor) -> None:
        """Write the gradient of both critics' parameters to ``critics_grad``; ``d_q`` is [S, 2, M]."""
        self.critic_net.vjp(self.critics, cache, d_q.flatten(0, 1).unsqueeze(-1), self.critics_grad, need_dx=False)

    def action_gradient(self, cache: Any, d_q: Tensor) -> Tensor:
        """Return the gradient of the actions [S, M, A], summed over both critics; ``d_q`` is [S, 2, M]."""
        d_action = self._input_gradient(cache, d_q.flatten(0, 1).unsqueeze(-1))
        return d_action.view(d_q.shape[0], CRITICS, *d_action.shape[1:]).sum(1)

    def scaled(self, action: Tensor) -> Tensor:
        """Map actions from [-1, 1] to the box of the task."""
        low, high = self.actions.low, self.actions.high
        return action if (low, high) == (-1.0, 1.0) else (action + 1).mul_((high - low) / 2).add_(low)

    def act(self, obs: Tensor) -> Tensor:
        """Return the deterministic action for states [S, M, G], within the box."""
        return self.scaled(self.policy(obs)[0].mode())

    def first_not_finite(self, run: int) -> str | None:
        """Return which tensor of a run holds NaN or infinity, if any."""
        pair = slice(CRITICS * run, CRITICS * (run + 1))
        parts = {"policy network": self.theta[run], "critics": self.critics[pair], "targets": self.targets[pair]}
        return next((name for name, part in parts.items() if not bool(torch.isfinite(part).all())), None)


def init(net: Layer, row: Tensor, generator: torch.Generator) -> None:
    """Draw weights and biases [n] uniformly within 1 / sqrt(inputs), as ``torch.nn.Linear`` does."""
    for mlp in _mlps(net):
        for layer, parts in zip(mlp.layers, mlp.chain.views(row[None]), strict=True):
            bound = 1 / math.sqrt(layer.n_in)
            for part in parts:
                part.copy_(torch.rand(part.shape, generator=generator).mul_(2 * bound).sub_(bound))


def _mlps(net: Layer) -> Iterator[Mlp]:
    match net:
        case Mlp():
            yield net
        case Sequential(layers=parts) | Branches(networks=parts):
            for part in parts:
                yield from _mlps(part)
