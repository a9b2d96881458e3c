"""The objectives of policy-gradient agents. Equation numbers are those of arXiv 2510.13018.

Letters: S runs, M transitions of a minibatch. Every average is over the minibatch of one run. ``advantage`` A,
``value`` V and ``ret`` R (the return) are [S, M], in units of reward.
"""

from __future__ import annotations

import torch
from torch import Tensor


def importance_ratio(log_prob: Tensor, old_log_prob: Tensor) -> Tensor:
    """Return r = pi(a|s) / pi_old(a|s).

    Parameters
    ----------
    log_prob, old_log_prob
        Log-probabilities of the actions under the current and the old policy, in nats, [S, M].

    Returns
    -------
    Tensor
        r, [S, M].
    """  # eq. 1
    return (log_prob - old_log_prob).exp_()


def surrogate(ratio: Tensor, advantage: Tensor) -> Tensor:
    """Return L_surr = E[r A], [S]."""  # eq. 2
    return (ratio * advantage).mean(1)


def clipped_surrogate(ratio: Tensor, advantage: Tensor, clip: Tensor) -> Tensor:
    """Return L_CLIP = E[min(r A, clamp(r, 1 - clip, 1 + clip) A)].

    Parameters
    ----------
    ratio
        r of ``importance_ratio``, [S, M].
    advantage
        A, [S, M].
    clip
        Largest change of the ratio that is rewarded, [S, 1].

    Returns
    -------
    Tensor
        To be maximised, [S].
    """  # eq. 7
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean(1)


def value_loss(value: Tensor, ret: Tensor) -> Tensor:
    """Return E[(V - R)^2], [S], without the 1/2 of eq. 8, as in line 12 of Algorithm 1 and in Stable-Baselines3."""
    return (value - ret).square().mean(1)


def value_loss_score(value: Tensor, ret: Tensor) -> Tensor:
    """Differentiate ``value_loss`` by V, [S, M]."""
    return (value - ret).mul_(2 / value.shape[1])


def normalise(advantage: Tensor, size: int | None = None) -> Tensor:
    """Scale advantages to mean 0 and standard deviation 1.

    Parameters
    ----------
    advantage
        [S, M].
    size
        Transitions that are normalised together; it divides M. Default: all M of a run.

    Returns
    -------
    Tensor
        [S, M], without unit.
    """
    parts = advantage.reshape(len(advantage), -1, size or advantage.shape[1])
    std, mean = torch.std_mean(parts, 2, keepdim=True)
    return (parts - mean).div_(std.add_(1e-8)).flatten(1)


def group_relative(returns: Tensor) -> Tensor:
    """Return (R - mean) / std within each group (Shao et al. 2024, section 4.1.2).

    Parameters
    ----------
    returns
        R, the return of each episode, [S, ..., K]: K episodes of a group.

    Returns
    -------
    Tensor
        Advantages of the same shape, without unit.
    """
    return normalise(returns.flatten(1), returns.shape[-1]).view_as(returns)


def leave_one_out(returns: Tensor) -> Tensor:
    """Return R minus the mean of the other K - 1 returns of its group (Ahmadian et al. 2024, RLOO).

    Parameters
    ----------
    returns
        R, the return of each episode, [S, ..., K]: K episodes of a group.

    Returns
    -------
    Tensor
        Advantages of the same shape, in units of reward.
    """
    others = returns.sum(-1, keepdim=True) - returns
    return returns - others / (returns.shape[-1] - 1)


def reference_kl(log_prob: Tensor, reference: Tensor) -> Tensor:
    """Estimate KL(pi || pi_ref) at each transition as q - log q - 1, q = pi_ref / pi (Shao et al. 2024, eq. 4).

    Parameters
    ----------
    log_prob, reference
        Log-probabilities under the policy and under the reference policy, in nats, [S, M].

    Returns
    -------
    Tensor
        Not negative, in nats, [S, M]; unbiased where the actions are those of pi.
    """
    difference = reference - log_prob
    return difference.exp() - difference - 1


def approx_kl(ratio: Tensor) -> Tensor:
    """Estimate KL(old || new) as E[r - 1 - log r], [S] (joschu.net/blog/kl-approx.html)."""
    return (ratio - 1 - ratio.log()).mean(1)


def clip_fraction(ratio: Tensor, clip: Tensor) -> Tensor:
    """Return the share of ratios outside [1 - clip, 1 + clip], [S]."""
    return ((ratio - 1).abs() > clip).float().mean(1)
