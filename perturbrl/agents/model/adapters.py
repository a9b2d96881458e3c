"""Low-rank adapters of the networks of S runs (Hu et al. 2021, LoRA, arXiv 2106.09685, eq. 3).

W = W0 + (alpha / r) B A. Layers here map rows, y = x W, so that the two factors stand in the other order: of a layer
from I to O numbers, A [I, r] reads the input and B [r, O] writes the output. A starts at random, normal with variance
1 / I, and B at 0, so that the adapted network starts as W0. Letters: S runs, M states, I inputs, O outputs, r rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.agents.model.adapter_layout import AdapterPlan, Copied, Factors, Layout, Part
from perturbrl.agents.model.distributions import Distribution
from perturbrl.agents.model.heads import Model
from perturbrl.rng import derive


class Adapted(Model):
    """An actor-critic whose trained parameters ``theta`` [S, m] are adapters of the networks ``base``.

    The products are merged into ``base.theta`` whenever a network is evaluated, so layers and kernels see ordinary
    weights. The gradient dW of a merged weight is pulled back to dB = (alpha / r) A' dW and dA = (alpha / r) dW B'.

    Parameters
    ----------
    base
        The networks of the S runs.
    plan
        Which parameters are trained.
    alpha
        Scale of the adapters of each run, S numbers.
    seeds
        Of the S runs; A is drawn from the stream ``lora`` of each.
    trains_a
        Whether A is trained too; otherwise ``theta`` holds B alone, in which every adapted layer is linear.
    """

    def __init__(
        self, base: ActorCritic, plan: AdapterPlan, alpha: Sequence[float], seeds: Sequence[int], trains_a: bool
    ) -> None:
        self.base, self.trains_a = base, trains_a
        self.actions, self.arithmetic = base.actions, base.arithmetic
        layout = Layout(base, plan, trains_a)
        self.policy_part, self.policy_size, self.log_std_columns = layout.policy, layout.policy_size, layout.log_std
        self.value_part = layout.value
        self.theta = base.theta.new_zeros(len(seeds), layout.width)
        self.grad = torch.zeros_like(self.theta)
        self.fixed = base.theta.new_zeros(len(seeds), layout.fixed_width)  # A, where it is not trained
        self.start = torch.zeros_like(base.theta)  # W0
        self._seeds = tuple(seeds)
        self._scale = torch.tensor(alpha, device=base.theta.device, dtype=base.theta.dtype).view(-1, 1, 1) / plan.rank

    # --- starting

    def begin(self) -> None:
        """Adapt the networks as they are now: W0 is ``base``, A is drawn on the CPU, B is 0."""
        self.start.copy_(self.base.theta)
        self.theta.zero_()
        for k, seed in enumerate(self._seeds):
            generator = torch.Generator().manual_seed(derive(seed, "lora"))
            for layer in self._factors():
                drawn = torch.randn(layer.n_in, layer.rank, generator=generator) / layer.n_in**0.5
                self._a[k, layer.a].copy_(drawn.flatten())
        for ours, theirs in self._whole():
            self.theta[:, theirs] = self.start[:, ours]

    def take_over(self, other: Adapted) -> None:
        """Go on from the adapters of the same plan in ``other``."""
        self.start.copy_(other.start)
        for layer, of_other in zip(self._factors(), other._factors(), strict=True):
            self._a[:, layer.a] = other._a[:, of_other.a]
            self.theta[:, layer.b] = other.theta[:, of_other.b]
        for (_, mine), (_, theirs) in zip(self._whole(), other._whole(), strict=True):
            self.theta[:, mine] = other.theta[:, theirs]

    def state(self) -> dict[str, Tensor]:
        """Return W0 and the adapters."""
        return {"theta": self.theta, "fixed": self.fixed, "start": self.start}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    # --- merging, and its derivatives

    def merge(self) -> None:
        """Write W0 + (alpha / r) A B, and what is trained whole, into the networks."""
        self._merge(self.policy_part)
        self._merge(self.value_part)

    def _merge(self, part: Part) -> None:
        for layer in part.factors:
            a, b = layer.of(self.theta, self._a)
            layer.w(self.base.theta).copy_(torch.baddbmm(layer.w(self.start), a, b * self._scale))
        for ours, theirs in part.whole:
            self.base.theta[:, ours] = self.theta[:, theirs]

    def _pull_back(self, part: Part, grad: Tensor) -> None:
        for layer in part.factors:
            a, b = layer.of(self.theta, self._a)
            d_w = layer.w(self.base.grad) * self._scale
            grad[:, layer.b] = (a.mT @ d_w).flatten(1)
            if self.trains_a:
                grad[:, layer.a] = (d_w @ b.mT).flatten(1)
        for ours, theirs in part.whole:
            grad[:, theirs] = self.base.grad[:, ours]

    def _push_forward(self, part: Part, v: Tensor, width: int) -> Tensor:
        tangent = v.new_zeros(len(v), width)
        for layer in part.factors:
            a, b = layer.of(self.theta, self._a)
            d_a, d_b = layer.of(v, v if self.trains_a else torch.zeros_like(self.fixed))
            layer.w(tangent).copy_((a @ d_b + d_a @ b) * self._scale)
        for ours, theirs in part.whole:
            tangent[:, ours] = v[:, theirs]
        return tangent

    # --- the networks

    def policy(self, x: Tensor, theta: Tensor | None = None) -> tuple[Distribution, Any]:
        """See ``heads.Model``; only at ``theta`` of this model."""
        assert theta is None or theta is self.theta
        self._merge(self.policy_part)
        return self.base.policy(x)

    def policy_vjp(self, cache: Any, d_outputs: Tensor, d_log_std: Tensor | None, grad: Tensor) -> None:
        """See ``heads.Model``."""
        self.base.policy_vjp(cache, d_outputs, d_log_std, self.base.grad)
        self._pull_back(self.policy_part, grad)

    def policy_jvp(self, cache: Any, v: Tensor) -> tuple[Tensor, Tensor | None]:
        """See ``heads.Model``."""
        return self.base.policy_jvp(cache, self._push_forward(self.policy_part, v, self.base.policy_size))

    def value(self, x: Tensor, theta: Tensor | None = None) -> tuple[Tensor, Any]:
        """See ``heads.Model``; only at ``theta`` of this model."""
        assert theta is None or theta is self.theta
        self._merge(self.value_part)
        return self.base.value(x)

    def value_vjp(self, cache: Any, d_value: Tensor, grad: Tensor) -> None:
        """See ``heads.Model``."""
        self.base.value_vjp(cache, d_value, self.base.grad)
        self._pull_back(self.value_part, grad)

    def parameter_columns(self) -> tuple[slice, ...]:
        """Return the columns of each B, each A that is trained, and each part that is trained whole."""
        columns = [part for layer in self._factors() for part in ([layer.b, layer.a] if self.trains_a else [layer.b])]
        columns += [theirs for _, theirs in self._whole()]
        return tuple(sorted((c for c in columns if c.start < c.stop), key=lambda c: c.start))

    @property
    def _a(self) -> Tensor:
        """The tensor that holds A."""
        return self.theta if self.trains_a else self.fixed

    def _factors(self) -> tuple[Factors, ...]:
        return (*self.policy_part.factors, *self.value_part.factors)

    def _whole(self) -> tuple[Copied, ...]:
        return (*self.policy_part.whole, *self.value_part.whole)
