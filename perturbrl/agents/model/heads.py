"""What losses and recipes see of the networks.

Letters: S runs, M transitions, G features, A action size, n parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from perturbrl.agents.kernels.arithmetic import Arithmetic
from perturbrl.agents.model.distributions import Distribution
from perturbrl.envs.base import ActionSpace


@dataclass(frozen=True)
class Heads:
    """The networks on a minibatch, as a loss may use them.

    Attributes
    ----------
    log_prob
        Log-probabilities of the actions in nats, [S, M].
    value
        Values in units of reward, [S, M].
    entropy
        Mean entropy over states in nats, [S].
    pull_back
        Writes the gradient of the parameters from the gradients of these three and of ``kl`` (None: the loss does not
        use it).
    kl
        Mean over states of KL(old || new) in nats, [S], where an old policy was given.
    """

    log_prob: Tensor
    value: Tensor
    entropy: Tensor
    pull_back: Callable[..., None]
    kl: Tensor | None = None


def gradient(loss: Tensor, heads: Heads) -> None:
    """Differentiate a loss and write dL/dtheta to ``grad`` [S, n] of the model.

    Runs are independent, so the gradient of the sum over runs is the gradient of each.

    Parameters
    ----------
    loss
        The loss of each run, [S], computed from ``heads`` with torch operations.
    heads
        From ``Model.heads``.
    """
    numbers = [heads.log_prob, heads.value, heads.entropy, *([] if heads.kl is None else [heads.kl])]
    heads.pull_back(*torch.autograd.grad(loss.sum(), numbers, allow_unused=True))


class _Networks(torch.autograd.Function):
    """Both networks as one step of autograd, from theta to the three numbers of ``Heads``."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, log_prob: Tensor, value: Tensor, entropy: Tensor, *rest: Any) -> Any:
        ctx.set_materialize_grads(False)
        ctx.pull_back, ctx.grad = rest
        return log_prob.clone(), value.clone(), entropy.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        ctx.pull_back(*gradients)
        return ctx.grad.clone(), None, None, None, None, None


class Model(ABC):
    """A policy and a value network for each of S runs; all parameters of a run are one row of ``theta`` [S, n].

    The first ``policy_size`` columns belong to the policy, of these the ``log_std_columns`` to the standard deviation
    of a box policy. ``grad`` [S, n] holds the last gradient.
    """

    theta: Tensor
    grad: Tensor
    policy_size: int
    log_std_columns: slice
    actions: ActionSpace
    arithmetic: Arithmetic

    @abstractmethod
    def policy(self, x: Tensor, theta: Tensor | None = None) -> tuple[Distribution, Any]:
        """Return pi(.|s) for states ``x`` [S, M, G], and the cache that its derivatives need."""

    @abstractmethod
    def policy_vjp(self, cache: Any, d_outputs: Tensor, d_log_std: Tensor | None, grad: Tensor) -> None:
        """Write the gradient of the policy's parameters into the leading columns of ``grad``."""

    @abstractmethod
    def policy_jvp(self, cache: Any, v: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the change of outputs [S, M, A] and log_std [S, A] along ``v`` [S, policy_size]."""

    @property
    def fisher_is_native(self) -> bool:
        """Whether ``native_fisher_product`` computes: any number of states in one call."""
        return False

    def native_fisher_product(
        self, cache: Any, dist: Distribution, v: Tensor, damping: Tensor, scale: float
    ) -> Tensor | None:
        """Return ``scale`` H v + ``damping`` v, [S, policy_size], with H the Hessian of the mean KL at ``dist``.

        None: derivatives have to be taken one by one.
        """
        return None

    @abstractmethod
    def value(self, x: Tensor, theta: Tensor | None = None) -> tuple[Tensor, Any]:
        """Return V(s) [S, M], and the cache that ``value_vjp`` needs."""

    @abstractmethod
    def value_vjp(self, cache: Any, d_value: Tensor, grad: Tensor) -> None:
        """Write the gradient of the value parameters into the trailing columns of ``grad``."""

    def parameter_columns(self) -> tuple[slice, ...]:
        """Return the columns of each parameter tensor, in the order of ``theta``: what an optimiser does "per tensor".

        Here each network is one tensor; models that know their layers say more.
        """
        parts = (
            slice(0, self.log_std_columns.start),
            self.log_std_columns,
            slice(self.policy_size, self.theta.shape[1]),
        )
        return tuple(part for part in parts if part.start < part.stop)

    def cache_views(self, flat: Tensor) -> None:  # noqa: B027 (most models have nothing to prepare)
        """Prepare for a tensor [S, n] that lives as long as the model, such as another gradient."""

    def heads(self, obs: Tensor, action: Tensor, critic: bool = True, old: Distribution | None = None) -> Heads:
        """Evaluate both networks on transitions: states [S, M, G], actions [S, M, A] or [S, M].

        Without ``critic`` the value network is left out: values and its gradient are zero. With an ``old`` policy on
        the same states there is also the KL from it. Where ``theta`` requires a gradient, ``backward`` of a loss of
        the other numbers adds to ``theta.grad``.
        """
        with torch.no_grad():
            policy, policy_cache = self.policy(obs)
            value, value_cache = self.value(obs) if critic else (obs.new_zeros(obs.shape[:2]), None)
            log_prob, log_prob_cache = policy.log_prob(action)
            entropy = policy.entropy()
            kl = None if old is None else old.kl(policy).mean(1)  # type: ignore[arg-type]

        @torch.no_grad()
        def pull_back(
            d_log_prob: Tensor | None, d_value: Tensor | None, d_entropy: Tensor | None, d_kl: Tensor | None = None
        ) -> None:
            weight = torch.zeros_like(log_prob) if d_log_prob is None else d_log_prob
            d_outputs, d_log_std = policy.log_prob_vjp(log_prob_cache, weight)
            if d_entropy is not None:
                to_outputs, to_log_std = policy.entropy_vjp()
                if to_outputs is not None:
                    d_outputs = d_outputs + d_entropy[:, None, None] * to_outputs
                if to_log_std is not None and d_log_std is not None:
                    d_log_std = d_log_std + d_entropy[:, None] * to_log_std
            if d_kl is not None and old is not None:
                to_outputs, to_log_std = old.kl_vjp(policy)  # type: ignore[arg-type]
                d_outputs = d_outputs + d_kl[:, None, None] * to_outputs
                if to_log_std is not None and d_log_std is not None:
                    d_log_std = d_log_std + d_kl[:, None] * to_log_std
            self.policy_vjp(policy_cache, d_outputs, d_log_std, self.grad)
            if not critic:
                self.grad[:, self.policy_size :] = 0  # another stage may have left its own there
                return
            self.value_vjp(value_cache, torch.zeros_like(value) if d_value is None else d_value, self.grad)

        # autograd starts here: what lies behind the three is differentiated by pull_back
        if self.theta.requires_grad and torch.is_grad_enabled():
            numbers = _Networks.apply(self.theta, log_prob, value, entropy, pull_back, self.grad)  # type: ignore[no-untyped-call]
            return Heads(numbers[0], numbers[1], numbers[2], pull_back)
        log_prob, value, entropy = (x.detach().requires_grad_() for x in (log_prob, value, entropy))
        return Heads(log_prob, value, entropy, pull_back, None if kl is None else kl.detach().requires_grad_())

    def act(self, x: Tensor) -> Tensor:
        """Return the deterministic action for states [S, M, G], clipped to the box."""
        mode = self.policy(x)[0].mode()
        return mode.clamp(self.actions.low, self.actions.high) if self.actions.kind == "box" else mode

    def first_not_finite(self, run: int) -> str | None:
        """Return which tensor of a run holds NaN or infinity, if any."""
        start, stop = self.log_std_columns.start, self.policy_size
        parts = {"policy network": slice(0, start), "log_std": slice(start, stop), "value network": slice(stop, None)}
        row = self.theta[run]
        return next((name for name, part in parts.items() if not bool(torch.isfinite(row[part]).all())), None)
