"""The natural-gradient step of TRPO for S runs at once. Equation numbers are those of arXiv 2510.13018.

Letters: S runs, M transitions of a batch (= T x B), n parameters of the policy. Runs are independent: each step of a
solver leaves out the runs that are done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from perturbrl.agents.common.losses import importance_ratio, surrogate
from perturbrl.agents.common.rollout import Rollout
from perturbrl.agents.model.distributions import Distribution, joined
from perturbrl.agents.model.heads import Model

Operator = Callable[[Tensor], Tensor]
EPSILON = 1e-8  # of eq. 6
BLOCK = 512  # states
GOLDEN = (5**0.5 - 1) / 2  # its multiples, less their whole parts, fill 0 .. 1 evenly


@dataclass(frozen=True)
class Block:
    """Some states of a batch: the policy there, what its derivatives need, and the block's share of the batch."""

    policy: Distribution
    cache: Any
    batch: Rollout
    share: float


@dataclass(frozen=True)
class LineSearch:
    """The result of a line search, each [S]. A rejected step leaves the policy as it was: ``kl`` 0, ``step`` 0."""

    accepted: Tensor
    kl: Tensor
    step: Tensor
    improvement: Tensor
    backtracks: Tensor


class OldPolicy:
    """The policy that collected a batch: its distribution, and activations for derivatives, in blocks of states.

    A block's activations stay in a CPU's cache through every Fisher product. There is one block where one native call
    takes a whole product. ``scale`` multiplies the KL. Fisher products are means over a part of the batch, the share
    ``fisher_fraction`` of its transitions.
    """

    def __init__(self, model: Model, batch: Rollout, scale: float, fisher_fraction: float = 1.0) -> None:
        self.model, self.batch, self.scale = model, batch, scale
        self.blocks = blocks_of(model, batch)
        self.distribution = joined([block.policy for block in self.blocks])
        whole = fisher_fraction == 1
        self.fisher_blocks = self.blocks if whole else blocks_of(model, thinned(batch, fisher_fraction))

    def gradient(self) -> Tensor:
        """Return g over the whole batch, [S, n]; see ``policy_gradient``."""
        return batch_mean(self.blocks, lambda block: policy_gradient(self.model, block))

    def fisher_product(self, v: Tensor, damping: Tensor) -> Tensor:
        """Return H v + damping v, [S, n]; see ``fisher_vector_product``."""
        return batch_mean(
            self.fisher_blocks,
            lambda block: fisher_vector_product(self.model, block.policy, block.cache, v, damping, self.scale),
        )


def thinned(batch: Rollout, fraction: float) -> Rollout:
    """Return a share of the transitions of a batch, one or more: for 1 / k, one of each k that follow one another.

    Every k-th would be the same cells in every step where k divides their number.
    """
    size = batch.ret.shape[1]
    kept = max(1, round(fraction * size))
    number = torch.arange(kept, dtype=torch.float64, device=batch.ret.device)
    rows = ((number + number * GOLDEN % 1) * (size / kept)).long()
    return type(batch)(*(field.index_select(1, rows) for field in batch.fields()))


def blocks_of(model: Model, batch: Rollout) -> list[Block]:
    """Evaluate a policy on a batch, block after block."""
    size = batch.advantage.shape[1]
    whole = model.fisher_is_native or not batch.advantage.is_cpu  # the kernels take blocks of their own
    parts = batch.minibatches(size if whole else BLOCK)
    return [Block(*model.policy(part.obs), part, part.ret.shape[1] / size) for part in parts]


def batch_mean(blocks: Sequence[Block], block_mean: Callable[[Block], Tensor]) -> Tensor:
    """Return the mean over a batch of a mean over each block, [S, n]."""
    total = block_mean(blocks[0]).mul_(blocks[0].share)
    for block in blocks[1:]:
        total.add_(block_mean(block), alpha=block.share)
    return total


def policy_gradient(model: Model, block: Block) -> Tensor:
    """Return g = E[grad log pi(a|s) A] on a block of states, [S, n]."""  # eq. 3
    advantage = block.batch.advantage
    g = advantage.new_zeros(advantage.shape[0], model.policy_size)
    _, cache = block.policy.log_prob(block.batch.action)
    d_outputs, d_log_std = block.policy.log_prob_vjp(cache, advantage / advantage.shape[1])
    model.policy_vjp(block.cache, d_outputs, d_log_std, g)
    return g


def mean_kl(old: Distribution, new: Distribution, scale: float) -> Tensor:
    """Mean over states of KL(old || new), times ``scale``, [S]."""  # eq. 4
    return old.kl(new).mean(1).mul_(scale)  # type: ignore[arg-type]


def fisher_vector_product(
    model: Model, dist: Distribution, cache: Any, v: Tensor, damping: Tensor, scale: float
) -> Tensor:
    """H v + damping v, [S, n], with H the Hessian of eq. 4 at the old policy.

    At that point the Hessian is J' F J exactly (Gauss-Newton: J the Jacobian of the outputs, F the Hessian of the KL in
    the outputs), so one jvp and one vjp give it, on the activations already at hand.
    """  # eq. 5
    native = model.native_fisher_product(cache, dist, v, damping, scale)
    if native is not None:
        return native
    d_outputs, d_log_std = dist.fisher(*model.policy_jvp(cache, v))  # type: ignore[arg-type]
    hv = torch.zeros_like(v)
    model.policy_vjp(cache, d_outputs, d_log_std, hv)
    return hv.mul_(scale).addcmul_(v, damping)


def conjugate_gradient(apply: Operator, b: Tensor, iterations: int, tolerance: float = 1e-10) -> Tensor:
    """Solve H x = b for each run, from x = 0.

    Parameters
    ----------
    apply
        Maps v [S, n] to H v [S, n]; H is symmetric and positive definite.
    b
        Right-hand sides, [S, n].
    iterations
        Number of iterations, the same for all runs.
    tolerance
        A run whose squared residual is below it keeps its solution.

    Returns
    -------
    Tensor
        x, [S, n].
    """
    x = torch.zeros_like(b)
    r, p = b.clone(), b.clone()
    rr = r.square().sum(1, keepdim=True)
    for _ in range(iterations):
        hp = apply(p)
        unsolved = rr > tolerance
        alpha = torch.where(unsolved, rr / (p * hp).sum(1, keepdim=True), 0.0)
        x.addcmul_(alpha, p)
        r.addcmul_(alpha, hp, value=-1)
        rr_next = r.square().sum(1, keepdim=True)
        p.mul_(torch.where(unsolved, rr_next / rr, 0.0)).add_(r)
        rr = torch.where(unsolved, rr_next, rr)
    return x


def natural_step(g: Tensor, d: Tensor, delta: Tensor) -> Tensor:
    """Scale a direction so that the KL of the step is ``delta`` to second order.

    Parameters
    ----------
    g
        Policy gradient, [S, n].
    d
        H^-1 g, [S, n].
    delta
        Bound of the KL divergence in nats, [S, 1].

    Returns
    -------
    Tensor
        The step alpha d, [S, n].
    """  # eq. 6
    curvature = (g * d).sum(1, keepdim=True).clamp_(min=0.0)
    return (2 * delta / (curvature + EPSILON)).sqrt() * d


def line_search(
    old: OldPolicy, batch: Rollout, step: Tensor, delta: Tensor, shrink: Tensor, max_tries: int
) -> LineSearch:
    """Backtrack along ``step`` until the surrogate rises and the KL is below ``delta``; set the policy's parameters.

    Parameters
    ----------
    old
        The policy that collected the batch.
    batch
        M transitions of each run.
    step
        The full step, [S, n].
    delta
        Bound of the KL divergence in nats, [S, 1].
    shrink
        Factor of the step after each rejected try, in (0, 1), [S, 1].
    max_tries
        Number of tries; without success a run keeps its old policy.

    Returns
    -------
    LineSearch
        What was accepted, each [S].
    """
    model = old.model
    theta = model.theta[:, : model.policy_size]
    start = theta.clone()
    before = surrogate(torch.ones_like(batch.log_prob), batch.advantage)
    factor = torch.ones_like(delta)
    accepted = torch.zeros_like(before, dtype=torch.bool)
    kl, gain, tries = torch.zeros_like(before), torch.zeros_like(before), torch.zeros_like(before)
    for _ in range(max_tries):
        theta.copy_(torch.where(accepted.unsqueeze(1), theta, start + factor * step))
        new, _ = model.policy(batch.obs)
        new_kl = mean_kl(old.distribution, new, old.scale)
        ratio = importance_ratio(new.log_prob(batch.action)[0], batch.log_prob)
        new_gain = surrogate(ratio, batch.advantage) - before
        passed = ~accepted & (new_kl < delta.squeeze(1)) & (new_gain > 0)
        kl, gain = torch.where(passed, new_kl, kl), torch.where(passed, new_gain, gain)
        accepted |= passed
        tries += ~accepted
        factor = torch.where(accepted.unsqueeze(1), factor, factor * shrink)
        if theta.device.type == "cpu" and bool(accepted.all()):
            break
    theta.copy_(torch.where(accepted.unsqueeze(1), theta, start))
    return LineSearch(accepted, kl, torch.where(accepted, factor.squeeze(1), 0.0), gain, tries)
