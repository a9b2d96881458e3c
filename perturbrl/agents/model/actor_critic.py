"""A policy and a value network for each of S runs, separate, with all parameters of a run in one row of ``theta``.

Letters: S runs, M states, G features, A action size, n parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from perturbrl.agents import kernels
from perturbrl.agents.kernels.chain import Metric
from perturbrl.agents.model.distributions import Categorical, Distribution, Gaussian
from perturbrl.agents.model.heads import Model
from perturbrl.agents.model.networks import ACTIVATIONS, Branches, Dense, Layer, Mlp, Sequential, aligned, hidden_layers
from perturbrl.bounds import NotEmpty, Number, OneOf, PositiveInt
from perturbrl.envs.base import ActionSpace, BatchedEnv
from perturbrl.rng import Streams, derive


@dataclass(frozen=True)
class PolicyConfig:
    """The networks. ``net``: ``trunk`` (one network over all features) or ``branches`` (one for each modality)."""

    net: Annotated[str, OneOf("trunk", "branches")]
    hidden: Annotated[list[PositiveInt], NotEmpty("[256, 256]")]
    activation: Annotated[str, OneOf(*ACTIVATIONS)]
    log_std: Annotated[float, Number(least=-20, most=20)]  # beyond, exp overflows single precision before long


class ActorCritic(Model):
    """Separate policy and value networks of S runs; derivatives by hand, no autograd graph.

    ``theta`` [S, n] holds, in this order: policy network, log standard deviation (box actions only), value network.
    ``policy_size`` is the number of leading columns that belong to the policy.
    """

    def __init__(
        self, config: PolicyConfig, n_features: int, slices: Mapping[str, slice], actions: ActionSpace, n_runs: int
    ) -> None:
        self.actions = actions
        self.arithmetic = kernels.current()
        self.policy_net = network(config, n_features, slices, actions.size, last_gain=0.01)
        self.value_net = network(config, n_features, slices, 1, last_gain=1.0)
        start = self.policy_net.place(0)
        self.log_std_columns = slice(start, start + (actions.size if actions.kind == "box" else 0))
        self.policy_size = aligned(self.log_std_columns.stop)
        self.theta = torch.zeros(n_runs, aligned(self.value_net.place(self.policy_size)))
        self.grad = torch.zeros_like(self.theta)

    @staticmethod
    def for_env(
        configs: Sequence[PolicyConfig], env: BatchedEnv, slices: Mapping[str, slice], streams: Streams
    ) -> ActorCritic:
        """Build and initialise the networks of S runs, each from its own stream ``policy``.

        Numbers are drawn on the CPU, so that a run starts from the same networks on every device.
        """
        model = ActorCritic(configs[0], env.obs_dim, slices, env.action_space, env.n_runs)
        for row, config, seed in zip(model.theta, configs, streams.seeds, strict=True):
            generator = torch.Generator().manual_seed(derive(seed, "policy"))
            model.policy_net.init(row, generator)
            model.value_net.init(row, generator)
            row[model.log_std_columns] = config.log_std
        model.theta, model.grad = model.theta.to(streams.device), model.grad.to(streams.device)
        for flat in (model.theta, model.grad):
            model.cache_views(flat)
        return model

    def cache_views(self, flat: Tensor) -> None:
        """Keep the layers' views of a tensor [S, n] that lives as long as the model."""
        self.policy_net.cache_views(flat)
        self.value_net.cache_views(flat)

    def parameter_columns(self) -> tuple[slice, ...]:
        """Return the columns of each weight and bias, and of log_std."""
        log_std = (self.log_std_columns,) if self.actions.kind == "box" else ()
        return (*self.policy_net.columns(), *log_std, *self.value_net.columns())

    def policy(self, x: Tensor, theta: Tensor | None = None) -> tuple[Distribution, Any]:
        """Return pi(.|s) for states ``x`` [S, M, G], and the cache that the derivatives need."""
        theta = self.theta if theta is None else theta
        outputs, cache = self.policy_net.forward(theta, x)
        if self.actions.kind == "discrete":
            return Categorical.of(outputs, self.actions.allowed(x)), cache
        return Gaussian(outputs, theta[:, self.log_std_columns], self.arithmetic), cache

    def policy_vjp(self, cache: Any, d_outputs: Tensor, d_log_std: Tensor | None, grad: Tensor) -> None:
        """Write the gradient of the policy's parameters into the leading columns of ``grad``."""
        self.policy_net.vjp(self.theta, cache, d_outputs, grad, need_dx=False)
        if d_log_std is not None:
            grad[:, self.log_std_columns] = d_log_std

    def policy_jvp(self, cache: Any, v: Tensor) -> tuple[Tensor, Tensor | None]:
        """Change of outputs [S, M, A] and of log_std [S, A] when the policy moves along ``v`` [S, policy_size]."""
        d_log_std = v[:, self.log_std_columns] if self.actions.kind == "box" else None
        return self.policy_net.jvp(self.theta, cache, v, None), d_log_std

    @property
    def fisher_is_native(self) -> bool:
        """Whether the native kernels know the policy's network."""
        net = self.policy_net
        return isinstance(net, Mlp) and net.chain.start == 0 and self.arithmetic.native_for(self.theta) is not None

    def native_fisher_product(
        self, cache: Any, dist: Distribution, v: Tensor, damping: Tensor, scale: float
    ) -> Tensor | None:
        """See ``Model.native_fisher_product``."""
        native, net = self.arithmetic.native_for(v), self.policy_net
        if native is None or not self.fisher_is_native or not isinstance(net, Mlp):
            return None
        gaussian = isinstance(dist, Gaussian)
        of = (-2 * dist.log_std).exp() if isinstance(dist, Gaussian) else dist.logits.exp()
        metric = Metric(of, not gaussian, self.actions.size if gaussian else 0, scale, damping)
        return native.fisher_product(net.chain, self.theta, cache, v, metric, self.arithmetic.bf16)

    def value(self, x: Tensor, theta: Tensor | None = None) -> tuple[Tensor, Any]:
        """Return V(s) [S, M] and the cache that ``value_vjp`` needs."""
        v, cache = self.value_net.forward(self.theta if theta is None else theta, x)
        return v.squeeze(-1), cache

    def value_vjp(self, cache: Any, d_value: Tensor, grad: Tensor) -> None:
        """Write the gradient of the value parameters into the trailing columns of ``grad``."""
        self.value_net.vjp(self.theta, cache, d_value.unsqueeze(-1), grad, need_dx=False)


def network(config: PolicyConfig, n_features: int, slices: Mapping[str, slice], n_out: int, last_gain: float) -> Layer:
    """Return the layers from observations to ``n_out`` numbers that a config asks for, not yet placed."""
    if config.net == "trunk":
        hidden = hidden_layers(n_features, config.hidden, config.activation)
        return Mlp([*hidden, Dense(hidden[-1].n_out, n_out, last_gain)])
    parts = list(slices.values())
    branches = [Mlp(hidden_layers(s.stop - s.start, config.hidden, config.activation)) for s in parts]
    joined = Branches(parts, branches)
    return Sequential([joined, Mlp([Dense(joined.n_out, n_out, last_gain)])])
