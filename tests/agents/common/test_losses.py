from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from perturbrl.agents.common.losses import (
    approx_kl,
    clip_fraction,
    clipped_surrogate,
    importance_ratio,
    normalise,
    surrogate,
    value_loss,
    value_loss_score,
)

CLIP = torch.tensor([[0.2], [0.1]], dtype=torch.float64)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clipped_gradient(ratio: Tensor, advantage: Tensor, clip: Tensor) -> Tensor:
    """The gradient of L_CLIP, summed over transitions, by log pi(a|s), at these ratios."""
    log_prob = ratio.log().requires_grad_()
    loss = clipped_surrogate(log_prob.exp(), advantage, clip) * ratio.shape[1]
    return torch.autograd.grad(loss.sum(), log_prob)[0]


@given(st.integers(0, 500))
@settings(max_examples=25)
def test_clipped_surrogate_is_equation_7_and_has_the_gradient_of_its_smaller_term(seed: int) -> None:
    advantage = draw(seed + 1, 2, 40)
    ratio = (0.3 * draw(seed + 2, 2, 40)).exp()
    clip = [CLIP[k, 0].item() for k in range(2)]
    terms = [
        [min(r * a, min(max(r, 1 - clip[k]), 1 + clip[k]) * a) for r, a in zip(*rows, strict=True)]
        for k, rows in enumerate(zip(ratio.tolist(), advantage.tolist(), strict=True))
    ]
    assert clipped_surrogate(ratio, advantage, CLIP).tolist() == pytest.approx([sum(t) / 40 for t in terms])
    clamped = torch.maximum(torch.minimum(ratio, 1 + CLIP), 1 - CLIP)
    expected = torch.where(ratio * advantage <= clamped * advantage, ratio * advantage, 0.0)
    torch.testing.assert_close(clipped_gradient(ratio, advantage, CLIP), expected)


@pytest.mark.parametrize("advantage", [-1.5, 1.5])
@pytest.mark.parametrize("edge", [-1, 1])
def test_the_gradient_outside_the_clip_is_zero_where_going_further_would_pay(edge: int, advantage: float) -> None:
    clip = torch.tensor([[0.25]])
    inside, outside = torch.tensor([[1 + edge * 0.249]]), torch.tensor([[1 + edge * 0.251]])
    a = torch.tensor([[advantage]])
    torch.testing.assert_close(clipped_gradient(inside, a, clip), inside * a)
    shut = edge * advantage > 0
    expected = torch.zeros_like(outside) if shut else outside * a
    torch.testing.assert_close(clipped_gradient(outside, a, clip), expected)


def test_at_the_old_policy_nothing_is_clipped() -> None:
    ones, a = torch.ones(1, 2), torch.tensor([[1.5, -0.5]])
    for clip in (0.0, 0.2):
        torch.testing.assert_close(clipped_gradient(ones, a, torch.tensor([[clip]])), a)


def test_no_clip_leaves_only_the_steps_that_lead_back() -> None:
    ratio, advantage = torch.tensor([[0.9, 1.1, 0.9, 1.1]]), torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    found = clipped_gradient(ratio, advantage, torch.zeros(1, 1))
    torch.testing.assert_close(found, torch.tensor([[0.9, 0.0, 0.0, -1.1]]))


def test_value_loss_and_its_score_against_autograd() -> None:
    value, ret = draw(0, 2, 9).requires_grad_(), draw(1, 2, 9)
    loss = torch.stack([torch.nn.functional.mse_loss(value[k], ret[k]) for k in range(2)])
    torch.testing.assert_close(value_loss(value, ret), loss)
    (expected,) = torch.autograd.grad(loss.sum(), value)
    torch.testing.assert_close(value_loss_score(value.detach(), ret), expected)


def test_surrogate_is_the_mean_weighted_advantage_of_each_run() -> None:
    old, new, advantage = draw(0, 2, 5), draw(1, 2, 5), draw(2, 2, 5)
    expected = [sum(torch.exp(new[k, i] - old[k, i]) * advantage[k, i] for i in range(5)) / 5 for k in range(2)]
    torch.testing.assert_close(surrogate(importance_ratio(new, old), advantage), torch.stack(expected))


def test_normalise_is_per_run() -> None:
    x = torch.stack([5 + 3 * draw(0, 30), -2 + 0.1 * draw(1, 30)])
    y = normalise(x)
    torch.testing.assert_close(y.mean(1), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(y.std(1), torch.ones(2, dtype=torch.float64), rtol=1e-6, atol=0)
    assert torch.equal(y[1:], normalise(x[1:]))
    assert torch.equal(normalise(torch.full((1, 4), 2.0)), torch.zeros(1, 4))


def test_estimate_of_the_kl_and_share_clipped() -> None:
    ratio = torch.tensor([[1.0, 1.3, 0.5, 1.1], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    log = ratio.log()
    torch.testing.assert_close(approx_kl(ratio), ((log.exp() - 1) - log).sum(1) / 4)
    assert clip_fraction(ratio, CLIP).tolist() == [0.5, 0.0]
    assert (approx_kl(ratio) >= 0).all()


def test_approx_kl_estimates_the_kl_of_two_normals() -> None:
    shift, n = 0.3, 200_000
    x = draw(0, 1, n)
    ratio = importance_ratio(-0.5 * (x - shift) ** 2, -0.5 * x**2)
    assert abs(approx_kl(ratio).item() - shift**2 / 2) < 0.002
