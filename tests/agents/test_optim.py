from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from perturbrl.agents import kernels
from perturbrl.agents.optim import Adam

RUNS, N, STEPS = 3, 37, 6


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def all_runs() -> Tensor:
    return torch.ones(RUNS, dtype=torch.bool)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rates", [(1e-3,) * 3, (1e-3, 1e-2, 3e-4)])
def test_adam_against_torch(rates: tuple[float, ...], masked: bool) -> None:
    theta = draw(0, RUNS, N)
    leaves = [theta[k].clone().requires_grad_() for k in range(RUNS)]
    peers = [torch.optim.Adam([leaf], lr=lr, eps=1e-5) for leaf, lr in zip(leaves, rates, strict=True)]
    own = Adam(theta, rates)
    for i in range(STEPS):
        grad = draw(i + 1, RUNS, N)
        own.step(grad, all_runs() if masked else None)
        for k, (leaf, peer) in enumerate(zip(leaves, peers, strict=True)):
            leaf.grad = grad[k].clone()
            peer.step()
            torch.testing.assert_close(theta[k], leaf.detach(), rtol=1e-5, atol=1e-6)


def test_adam_follows_a_view_of_the_parameters() -> None:
    theta = draw(0, RUNS, N)
    before = theta.clone()
    Adam(theta[:, 5:20], [1e-2] * RUNS).step(draw(1, RUNS, N)[:, 5:20])
    moved = theta != before
    assert moved[:, 5:20].all() and not moved[:, :5].any() and not moved[:, 20:].any()


def test_a_masked_run_stays_bit_identical_and_its_clock_stands_still() -> None:
    theta = draw(0, RUNS, N)
    adam = Adam(theta, [1e-2] * RUNS)
    adam.step(draw(1, RUNS, N))
    before = [x[1].clone() for x in (theta, adam.m, adam.v, adam.t)]
    others = theta[[0, 2]].clone()
    adam.step(draw(2, RUNS, N), torch.tensor([True, False, True]))
    for now, then in zip((theta, adam.m, adam.v, adam.t), before, strict=True):
        assert torch.equal(now[1], then)
    assert adam.t.tolist() == [2, 1, 2]
    assert (theta[[0, 2]] != others).all()


def test_a_gradient_that_is_not_finite_cannot_enter_through_the_mask() -> None:
    theta = draw(0, RUNS, N)
    adam, before = Adam(theta, [1e-2] * RUNS), theta.clone()
    grad = draw(1, RUNS, N)
    grad[1] = torch.nan
    adam.step(grad, torch.tensor([True, False, True]))
    assert torch.equal(theta[1], before[1]) and torch.isfinite(theta).all() and torch.isfinite(adam.m).all()


@pytest.mark.parametrize("masked", [False, True])
def test_one_run_of_adam_is_that_run_alone(masked: bool) -> None:
    theta, rates = draw(0, RUNS, N), (1e-3, 1e-2, 3e-4)
    single = theta[1:2].clone()
    together, alone = Adam(theta, rates), Adam(single, rates[1:2])
    for i in range(STEPS):
        grad = draw(i + 1, RUNS, N)
        together.step(grad, all_runs() if masked else None)
        alone.step(grad[1:2].clone(), all_runs()[:1] if masked else None)
    assert torch.equal(theta[1:2], single)


def test_adam_goes_on_from_its_state() -> None:
    one, other = draw(0, RUNS, N), draw(0, RUNS, N)
    a, b = Adam(one, [1e-3] * RUNS), Adam(other, [1e-3] * RUNS)
    a.step(draw(1, RUNS, N))
    other.copy_(one)
    b.load_state({k: v.clone() for k, v in a.state().items()})
    for adam in (a, b):
        adam.step(draw(2, RUNS, N))
    assert torch.equal(one, other)


@given(st.integers(0, 500), st.floats(0.01, 20))
@settings(max_examples=25)
def test_clipping_is_that_of_torch_in_each_run(seed: int, limit: float) -> None:
    grad = draw(seed, RUNS, N) * torch.tensor([[0.1], [1.0], [10.0]])
    limits = torch.tensor([[limit], [0.5], [limit / 2]])
    leaves = [torch.zeros(N, requires_grad=True) for _ in range(RUNS)]
    for k, leaf in enumerate(leaves):
        leaf.grad = grad[k].clone()
        torch.nn.utils.clip_grad_norm_([leaf], limits[k].item())
    torch.testing.assert_close(
        grad * kernels.current().clip_scale(grad, limits), torch.stack([leaf.grad for leaf in leaves])
    )


def test_a_zero_gradient_is_left_alone() -> None:
    grad = torch.zeros(1, N)
    assert kernels.current().clip_scale(grad, torch.full((1, 1), 0.5)).item() == 1
