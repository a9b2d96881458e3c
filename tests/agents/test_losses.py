from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from perturbrl.agents.losses import (
    clipped_surrogate,
    clipped_surrogate_score,
    importance_ratio,
    normalise,
    policy_change,
    surrogate,
    value_loss,
    value_loss_score,
)

CLIP = torch.tensor([[0.2], [0.1]], dtype=torch.float64)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 500))
@settings(max_examples=25)
def test_clipped_surrogate_and_its_score_against_autograd(seed: int) -> None:
    old, advantage = draw(seed, 2, 40), draw(seed + 1, 2, 40)
    log_prob = (old + 0.3 * draw(seed + 2, 2, 40)).requires_grad_()
    ratio = (log_prob - old).exp()
    written_out = torch.stack(
        [
            torch.min(ratio[k] * advantage[k], ratio[k].clamp(1 - CLIP[k, 0], 1 + CLIP[k, 0]) * advantage[k])
            for k in range(2)
        ]
    )
    torch.testing.assert_close(clipped_surrogate(ratio, advantage, CLIP), written_out)
    (expected,) = torch.autograd.grad(written_out.sum(), log_prob)
    torch.testing.assert_close(clipped_surrogate_score(ratio.detach(), advantage, CLIP), expected)


@pytest.mark.parametrize("advantage", [-1.5, 1.5])
@pytest.mark.parametrize("edge", [-1, 1])
def test_the_score_at_the_edge_of_the_clip_is_that_of_the_open_interval(edge: int, advantage: float) -> None:
    clip = torch.tensor([[0.25]])  # 0.75 and 1.25 are exact
    at = torch.tensor([[1 + edge * 0.25]])
    inside, outside = at - edge * 1e-3, at + edge * 1e-3
    a = torch.tensor([[advantage]])
    assert torch.equal(clipped_surrogate_score(at, a, clip), at * a)
    assert torch.equal(clipped_surrogate_score(inside, a, clip), inside * a)
    shut = edge * advantage > 0  # going further would pay: the clip forbids it
    assert torch.equal(clipped_surrogate_score(outside, a, clip), torch.zeros_like(at) if shut else outside * a)


def test_no_clip_leaves_only_the_steps_that_lead_back() -> None:
    ratio, advantage = torch.tensor([[0.9, 1.1, 0.9, 1.1]]), torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    found = clipped_surrogate_score(ratio, advantage, torch.zeros(1, 1))
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


def test_policy_change_is_the_estimate_of_the_kl_and_the_share_clipped() -> None:
    ratio = torch.tensor([[1.0, 1.3, 0.5, 1.1], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    found = policy_change(ratio, CLIP)
    log = ratio.log()
    torch.testing.assert_close(found.approx_kl, ((log.exp() - 1) - log).sum(1) / 4)
    assert found.clip_fraction.tolist() == [0.5, 0.0]
    assert (found.approx_kl >= 0).all()


def test_approx_kl_estimates_the_kl_of_two_normals() -> None:
    shift, n = 0.3, 200_000
    x = draw(0, 1, n)
    ratio = importance_ratio(-0.5 * (x - shift) ** 2, -0.5 * x**2)
    found = policy_change(ratio, CLIP[:1]).approx_kl
    assert abs(found.item() - shift**2 / 2) < 0.002
