"""Trust region-guided PPO (Wang et al. 2019, arXiv 1901.10314), reference [20] of arXiv 2510.13018.

PPO whose clipping range is, for each state and action, what a policy within a KL divergence of delta can reach.
Letters: S runs, M transitions, A action size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from perturbrl.agents.common.build import agent
from perturbrl.agents.common.rollout import Log, Rollout
from perturbrl.agents.model.distributions import Categorical, Distribution, Gaussian
from perturbrl.agents.ppo import PPO
from perturbrl.agents.settings.trgppo import TRGPPOConfig

HALVINGS = 30  # beyond single precision


@dataclass(frozen=True)
class RangedRollout(Rollout):
    """A rollout with the range of the ratio of each transition, ``low`` and ``high`` [S, M]."""

    low: Tensor
    high: Tensor


@agent("trgppo", TRGPPOConfig)
class TRGPPO(PPO):
    """PPO that clips the ratio to min(l, 1 - clip) .. max(u, 1 + clip), with l and u of ``reachable_ratios``."""

    def update(self, batch: Rollout, iteration: int) -> Log:
        """Find the ranges around the policy that collected the batch, then improve it as PPO does."""
        with torch.no_grad():
            low, high = reachable_ratios(self.model.policy(batch.obs)[0], batch.action, self.delta())
        low, high = low.clamp(max=1 - self.c.clip), high.clamp(min=1 + self.c.clip)
        ranged = RangedRollout(**vars(batch), low=low, high=high)
        return super().update(ranged, iteration) | {"range_low": low.mean(1), "range_high": high.mean(1)}

    def surrogate(self, ratio: Tensor, batch: Rollout) -> tuple[Tensor, Log]:
        """Return E[min(r A, clip(r, l, u) A)], [S]."""
        assert isinstance(batch, RangedRollout)
        clipped = torch.minimum(torch.maximum(ratio, batch.low), batch.high)
        log = {"clip_fraction": (clipped != ratio).float().mean(1)}
        return torch.minimum(ratio * batch.advantage, clipped * batch.advantage).mean(1), log

    def delta(self) -> Tensor:
        """Return the bound of the KL divergence in nats, [S, 1].

        By default, with continuous actions, the one at which the largest l, that of the mean action, is 1 - clip.
        """
        c, actions = self.c, self.model.actions
        given = c.delta_discrete if c.delta is None and actions.kind == "discrete" else c.delta
        if given is not None:
            return torch.full_like(c.clip, given)
        # of the policy around the same mean whose density there is 1 - clip times that of pi_old
        log_variance: Tensor = -2 / actions.size * (1 - c.clip).log()
        return actions.size / 2 * (log_variance + (-log_variance).exp() - 1)


def reachable_ratios(policy: Distribution, action: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and the largest pi(a|s) / pi_old(a|s) over policies with KL(pi_old || pi) <= delta at s.

    At the optimum the expected sufficient statistics of pi are (1 - w) times those of pi_old plus w times those of the
    action alone: Lagrange's condition in any exponential family. That leaves one number to find, the weight w of the
    action (w > 0 for the largest ratio, w < 0 for the least), at which the divergence is delta. (The authors' code has
    one dimension stand for all of a Gaussian; this is the solution for independent dimensions.)

    Parameters
    ----------
    policy
        pi_old in M states.
    action
        [S, M, A] or [S, M].
    delta
        In nats, [S, 1].

    Returns
    -------
    low, high
        l <= 1 and u >= 1, [S, M].
    """
    if isinstance(policy, Gaussian):
        z2 = ((action - policy.mean) / policy.log_std.exp().unsqueeze(1)).square()
        # a variance is 0 at w = -1 / max z^2; where z = 0, delta is reached before the other limit
        least = torch.maximum(-1 / z2.amax(-1), -(2 * delta + 1).exp())
        low, high = (bisect(lambda w: gaussian_kl(z2, w), end, delta) for end in (least, torch.ones_like(least)))
        return gaussian_ratio(z2, low), gaussian_ratio(z2, high)
    assert isinstance(policy, Categorical)
    p = policy.log_prob(action)[0].exp().clamp(1e-6, 1 - 1e-6)
    # the least ratio is sought by its logarithm, because w is the same number for all small ratios
    least = ((1 - p) * torch.log1p(-p) - delta) / p  # KL >= (1 - p) log(1 - p) - p log r
    low = bisect(lambda log_ratio: categorical_kl(p, log_ratio.exp()), least, delta)
    high = bisect(lambda w: categorical_kl(p, 1 - w + w / p), torch.ones_like(p), delta)
    return low.exp(), 1 - high + high / p


def bisect(kl: Callable[[Tensor], Tensor], end: Tensor, delta: Tensor) -> Tensor:
    """Return x between 0 and ``end`` at which ``kl``, which grows from 0 to delta or more, is delta; [S, M]."""
    inside, outside = torch.zeros_like(end), end
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        reached = kl(middle) <= delta
        inside, outside = torch.where(reached, middle, inside), torch.where(reached, outside, middle)
    return inside


def gaussian_kl(z2: Tensor, w: Tensor) -> Tensor:
    """KL(N(0, 1) || N(w z, v)), summed over dimensions, [S, M]; ``z2`` is z^2 [S, M, A], v as in ``gaussian_ratio``."""
    w = w.unsqueeze(-1)
    v = ((1 - w) * (1 + w * z2)).clamp_min(torch.finfo(z2.dtype).tiny)
    return (v.log() + w * (1 - z2 + 2 * w * z2) / v).sum(-1) / 2  # log v + (1 + w^2 z^2) / v - 1


def gaussian_ratio(z2: Tensor, w: Tensor) -> Tensor:
    """N(z; w z, v) / N(z; 0, 1) with v = (1 - w)(1 + w z^2), multiplied over dimensions, [S, M]."""
    w = w.unsqueeze(-1)
    v = ((1 - w) * (1 + w * z2)).clamp_min(torch.finfo(z2.dtype).tiny)
    return ((w * (1 - w) * z2 * (1 + z2) / v - v.log()).sum(-1) / 2).exp()


def categorical_kl(p: Tensor, ratio: Tensor) -> Tensor:
    """KL between probabilities before and after that of one action, p, is multiplied by ``ratio``, [S, M]."""
    left = (1 - p * ratio).clamp_min(torch.finfo(p.dtype).tiny)
    return (1 - p) * ((1 - p) / left).log() - p * ratio.log()
