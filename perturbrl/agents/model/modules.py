"""Networks from plain ``torch.nn`` modules, for S runs at once: ``torch.func`` maps one module over the rows of theta.

Slower than ``ActorCritic``, whose derivatives are written by hand; every recipe takes either. Letters: S runs, M
transitions, G features, A action size, n parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp, vmap

from perturbrl.agents import kernels
from perturbrl.agents.model.distributions import Categorical, Distribution, Gaussian
from perturbrl.agents.model.heads import Model
from perturbrl.agents.model.networks import aligned
from perturbrl.config import require
from perturbrl.envs.base import BatchedEnv
from perturbrl.rng import Streams, derive

Make = Callable[[int, int], nn.Module]
"""Builds a module from the numbers of inputs and outputs; torch's random state is that of the run."""


class MappedModule:
    """A module whose parameters are columns from ``start`` on of ``theta`` [S, n], a row a run."""

    def __init__(self, module: nn.Module, start: int) -> None:
        stateless = not list(module.buffers())
        require(stateless, type(module).__name__, "has buffers (as batch norm has) that runs cannot share")
        self.module, self.places, at = module, {}, start
        for name, parameter in module.named_parameters():
            self.places[name] = (slice(at, at + parameter.numel()), parameter.shape)
            at += parameter.numel()
        self.stop = at
        self.columns = slice(start, at)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Map ``x`` [S, M, I] to [S, M, O] with the parameters of each run."""

        def one(row: Tensor, rows: Tensor) -> Tensor:
            named = {name: row[place].view(shape) for name, (place, shape) in self.places.items()}
            outputs: Tensor = functional_call(self.module, named, (rows,))
            return outputs

        outputs: Tensor = vmap(one, randomness="error")(theta, x)
        return outputs

    def pull_back(self, theta: Tensor, x: Tensor, dy: Tensor, grad: Tensor) -> None:
        """Write dL/dtheta into the module's columns of ``grad`` [S, n]."""
        back = vjp(lambda t: self(t, x), theta)[1]
        grad[:, self.columns] = back(dy)[0][:, self.columns]

    def push_forward(self, theta: Tensor, x: Tensor, v: Tensor) -> Tensor:
        """Return the change of the outputs when theta moves along ``v`` [S, k], its leading columns."""
        direction = torch.zeros_like(theta)
        direction[:, : v.shape[1]] = v
        change: Tensor = jvp(lambda t: self(t, x), (theta,), (direction,))[1]
        return change


class ModuleActorCritic(Model):
    """A policy and a value module for each of S runs; see ``heads.Model``."""

    def __init__(self, policy: nn.Module, value: nn.Module, env: BatchedEnv) -> None:
        self.actions, self.arithmetic = env.action_space, kernels.current()
        self.policy_net = MappedModule(policy, 0)
        start = self.policy_net.stop
        self.log_std_columns = slice(start, start + (self.actions.size if self.actions.kind == "box" else 0))
        self.policy_size = aligned(self.log_std_columns.stop)
        self.value_net = MappedModule(value, self.policy_size)
        self.theta = torch.zeros(env.n_runs, aligned(self.value_net.stop))
        self.grad = torch.zeros_like(self.theta)

    @staticmethod
    def for_env(
        policy: Make, value: Make, env: BatchedEnv, streams: Streams, log_std: float = 0.0
    ) -> ModuleActorCritic:
        """Build the modules of S runs; each run initialises them from its stream ``policy``.

        Parameters
        ----------
        policy
            Maps (G, A) to a module from observations [M, G] to means or logits [M, A].
        value
            Maps (G, 1) to a module from observations [M, G] to values [M, 1].
        env
            Gives the sizes and the kind of actions.
        streams
            Random numbers of the S runs.
        log_std
            Initial log standard deviation of continuous actions.

        Returns
        -------
        ModuleActorCritic
            On the device of ``streams``.

        Raises
        ------
        UserError
            A module has buffers, as batch norm has.
        """
        sizes = (env.obs_dim, env.action_space.size), (env.obs_dim, 1)
        model = ModuleActorCritic(policy(*sizes[0]), value(*sizes[1]), env)
        for row, seed in zip(model.theta, streams.seeds, strict=True):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive(seed, "policy"))
                for mapped, module in ((model.policy_net, policy(*sizes[0])), (model.value_net, value(*sizes[1]))):
                    row[mapped.columns] = nn.utils.parameters_to_vector(module.parameters()).detach()
            row[model.log_std_columns] = log_std
        model.theta, model.grad = model.theta.to(streams.device), model.grad.to(streams.device)
        return model

    def parameter_columns(self) -> tuple[slice, ...]:
        """See ``heads.Model``."""
        policy, value = ([place for place, _ in net.places.values()] for net in (self.policy_net, self.value_net))
        log_std = [self.log_std_columns] if self.actions.kind == "box" else []
        return (*policy, *log_std, *value)

    def policy(self, x: Tensor, theta: Tensor | None = None) -> tuple[Distribution, Any]:
        """See ``heads.Model``."""
        theta = self.theta if theta is None else theta
        outputs = self.policy_net(theta, x)
        if self.actions.kind == "discrete":
            return Categorical.of(outputs, self.actions.allowed(x)), x
        return Gaussian(outputs, theta[:, self.log_std_columns], self.arithmetic), x

    def policy_vjp(self, cache: Any, d_outputs: Tensor, d_log_std: Tensor | None, grad: Tensor) -> None:
        """See ``heads.Model``."""
        self.policy_net.pull_back(self.theta, cache, d_outputs, grad)
        if d_log_std is not None:
            grad[:, self.log_std_columns] = d_log_std

    def policy_jvp(self, cache: Any, v: Tensor) -> tuple[Tensor, Tensor | None]:
        """See ``heads.Model``."""
        d_log_std = v[:, self.log_std_columns] if self.actions.kind == "box" else None
        return self.policy_net.push_forward(self.theta, cache, v), d_log_std

    def value(self, x: Tensor, theta: Tensor | None = None) -> tuple[Tensor, Any]:
        """See ``heads.Model``."""
        return self.value_net(self.theta if theta is None else theta, x).squeeze(-1), x

    def value_vjp(self, cache: Any, d_value: Tensor, grad: Tensor) -> None:
        """See ``heads.Model``."""
        self.value_net.pull_back(self.theta, cache, d_value.unsqueeze(-1), grad)
