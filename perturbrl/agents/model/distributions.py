"""Action distributions of S policies on M states, with the derivatives that policy gradients need.

Letters: S runs, M states, A action size. "Outputs" are what the policy network gives for a state (means or logits); the
Gaussian's log standard deviation is one more vector of parameters, the same in every state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from perturbrl.agents import kernels

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Gaussian:
    """Independent normals: ``mean`` [S, M, A], ``log_std`` [S, A]. Actions [S, M, A]."""

    mean: Tensor
    log_std: Tensor
    arithmetic: kernels.Arithmetic = field(default_factory=kernels.current, compare=False, repr=False)

    def mode(self) -> Tensor:
        """Return the mean action."""
        return self.mean

    def sample(self, noise: Tensor) -> Tensor:
        """Turn standard normals [S, M, A] into actions."""
        return torch.addcmul(self.mean, noise, self.log_std.exp().unsqueeze(1))

    def log_prob(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return log pi(a|s) [S, M], and what ``log_prob_vjp`` needs."""
        return self.arithmetic.gaussian_log_prob(self.mean, action, self.log_std)

    def log_prob_vjp(self, z: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of sum_m weight_m log pi(a_m|s_m): to the mean [S, M, A] and to log_std [S, A]."""
        return self.arithmetic.gaussian_vjp(z, self.log_std, weight)

    def entropy(self) -> Tensor:
        """Return the mean entropy over states, [S]."""
        return self.log_std.sum(1) + 0.5 * (1 + LOG_2PI) * self.mean.shape[-1]

    def entropy_vjp(self) -> tuple[Tensor | None, Tensor | None]:
        """Gradient of the mean entropy: none to the mean, one to each log_std."""
        return None, torch.ones_like(self.log_std)

    def kl(self, new: Gaussian) -> Tensor:
        """Return KL(self || new) of each state, summed over action dimensions, [S, M]."""
        ratio = (2 * (self.log_std - new.log_std)).exp()
        moved = ((self.mean - new.mean) * new.log_std.neg().exp().unsqueeze(1)).square().sum(-1)
        return 0.5 * (moved + (ratio - 1 - ratio.log()).sum(1, keepdim=True))

    def kl_vjp(self, new: Gaussian) -> tuple[Tensor, Tensor]:
        """Gradient of the mean KL(self || new) over states: to the new mean [S, M, A] and the new log_std [S, A]."""
        precision = (-2 * new.log_std).exp().unsqueeze(1)
        moved = (new.mean - self.mean) * precision
        ratio = (2 * (self.log_std - new.log_std)).exp()
        return moved / self.mean.shape[1], 1 - ratio - ((new.mean - self.mean) * moved).mean(1)

    def fisher(self, d_mean: Tensor, d_log_std: Tensor) -> tuple[Tensor, Tensor]:
        """Hessian of the mean KL over states at self, times a change of the outputs (Gauss-Newton, exact here)."""
        precision = (-2 * self.log_std).exp().unsqueeze(1)
        return d_mean * precision / self.mean.shape[1], 2 * d_log_std


@dataclass(frozen=True)
class Categorical:
    """``logits`` [S, M, A], normalised so that their exponentials sum to one. Actions [S, M] int64.

    The logit of an action that a state does not allow is the negative number ``_forbidden``. Its exponential is exactly
    0, so the action has no part in samples, entropy, KL and gradients; and it is finite, so 0 times it is 0.
    """

    logits: Tensor

    @staticmethod
    def of(outputs: Tensor, allowed: Tensor | None = None) -> Categorical:
        """Normalise outputs [S, M, A] of a network over the ``allowed`` actions, bool [S, M, A] (None: all)."""
        if allowed is not None:
            outputs = outputs.masked_fill(~allowed, _forbidden(outputs.dtype))
        return Categorical(torch.log_softmax(outputs, -1))

    def mode(self) -> Tensor:
        """Return the likeliest action."""
        return self.logits.argmax(-1)

    def sample(self, noise: Tensor) -> Tensor:
        """Turn uniform numbers [S, M, 1] into actions by the inverse distribution function."""
        cumulative = self.logits.exp().cumsum(-1)
        # the sum is 1 up to rounding: without the factor, what is left over would go to the last action, likely or not
        chosen = torch.searchsorted(cumulative, noise * cumulative[..., -1:], right=True)
        return chosen.squeeze(-1).clamp_(max=self.logits.shape[-1] - 1)

    def log_prob(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return log pi(a|s) [S, M], and what ``log_prob_vjp`` needs."""
        return self.logits.gather(-1, action.unsqueeze(-1)).squeeze(-1), action

    def log_prob_vjp(self, action: Tensor, weight: Tensor) -> tuple[Tensor, None]:
        """Gradient of sum_m weight_m log pi(a_m|s_m) to the outputs, [S, M, A]."""
        grad = self.logits.exp().mul_(-weight.unsqueeze(-1))
        return grad.scatter_add_(-1, action.unsqueeze(-1), weight.unsqueeze(-1)), None

    def entropy(self) -> Tensor:
        """Return the mean entropy over states, [S]."""
        return -(self.logits.exp() * self.logits).sum(-1).mean(1)

    def entropy_vjp(self) -> tuple[Tensor | None, Tensor | None]:
        """Gradient of the mean entropy to the outputs."""
        p = self.logits.exp()
        h = -(p * self.logits).sum(-1, keepdim=True)
        return -p * (self.logits + h) / self.logits.shape[1], None

    def kl(self, new: Categorical) -> Tensor:
        """Return KL(self || new) of each state, [S, M]."""
        return (self.logits.exp() * (self.logits - new.logits)).sum(-1)

    def kl_vjp(self, new: Categorical) -> tuple[Tensor, None]:
        """Gradient of the mean KL(self || new) over states to the new outputs, [S, M, A]."""
        return (new.logits.exp() - self.logits.exp()) / self.logits.shape[1], None

    def fisher(self, d_logits: Tensor, d_log_std: Tensor | None) -> tuple[Tensor, None]:
        """Hessian of the mean KL over states at self, (diag(p) - p p'), times a change of the outputs."""
        p = self.logits.exp()
        return p * (d_logits - (p * d_logits).sum(-1, keepdim=True)) / self.logits.shape[1], None


def _forbidden(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).min / 2  # half, so that subtracting a normaliser does not overflow


Distribution = Gaussian | Categorical


def joined(parts: Sequence[Distribution]) -> Distribution:
    """Return one distribution over the states of all parts; it does not change when the parameters do."""
    first = parts[0]
    if isinstance(first, Gaussian):
        mean = torch.cat([p.mean for p in parts], 1)  # type: ignore[union-attr]
        return Gaussian(mean, first.log_std.clone(), first.arithmetic)
    return Categorical(torch.cat([p.logits for p in parts], 1))  # type: ignore[union-attr]
