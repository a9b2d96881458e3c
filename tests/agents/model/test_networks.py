from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from perturbrl.agents import kernels
from perturbrl.agents.model.networks import ACTIVATIONS, Branches, Dense, Layer, Mlp, Sequential, aligned, hidden_layers

from ..helpers import naive

FLOAT64 = torch.float64
widths = st.integers(1, 5)


def draw(seed: int, *shape: int, dtype: torch.dtype = FLOAT64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def column(tensor: Tensor, k: int) -> Tensor:
    return tensor[k : k + 1].clone()


def check_derivatives(layer: Layer, n_in: int, runs: int, batch: int, seed: int) -> None:
    """forward, vjp and jvp of ``layer`` against autograd, run by run, on the same parameters."""
    start = 3  # parameters need not begin at column 0
    end = layer.place(start)
    assert end - start == layer.n_params
    theta, v = draw(seed, runs, end + 2), draw(seed + 1, runs, end + 2)
    x, dx, dy = (
        draw(seed + 2, runs, batch, n_in),
        draw(seed + 3, runs, batch, n_in),
        draw(seed + 4, runs, batch, layer.n_out),
    )
    y, cache = layer.forward(theta, x.clone())
    grad = torch.full_like(theta, torch.nan)
    to_x = layer.vjp(theta, cache, dy, grad, need_dx=True)
    pushed = layer.jvp(theta, cache, v, dx)
    assert to_x is not None
    assert torch.isnan(grad[:, :start]).all() and torch.isnan(grad[:, end:]).all()
    for k in range(runs):
        assert int((~torch.isnan(grad[k])).sum()) == layer.n_params
        expected, pull = torch.func.vjp(lambda t, z: naive(layer, t, z), theta[k], x[k])
        want_theta, want_x = pull(dy[k])
        _, want_push = torch.func.jvp(lambda t, z: naive(layer, t, z), (theta[k], x[k]), (v[k], dx[k]))
        torch.testing.assert_close(y[k], expected)
        torch.testing.assert_close(grad[k].nan_to_num(0.0), want_theta)
        torch.testing.assert_close(to_x[k], want_x)
        torch.testing.assert_close(pushed[k], want_push)


@given(widths, widths, st.integers(1, 3), st.integers(1, 6), st.integers(0, 99))
@settings(max_examples=30)
def test_linear_against_autograd(n_in: int, n_out: int, runs: int, batch: int, seed: int) -> None:
    check_derivatives(Mlp([Dense(n_in, n_out, 1.0)]), n_in, runs, batch, seed)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@given(widths, widths, widths, st.integers(1, 3), st.integers(1, 6), st.integers(0, 99))
@settings(max_examples=15)
def test_mlp_against_autograd(activation, n_in, hidden, n_out, runs, batch, seed) -> None:
    net = Mlp([*hidden_layers(n_in, [hidden, 3], activation), Dense(3, n_out, 1.0)])
    check_derivatives(net, n_in, runs, batch, seed)


@given(widths, widths, st.integers(1, 3), st.integers(1, 6), st.integers(0, 99))
@settings(max_examples=15)
def test_branches_against_autograd(first, second, runs, batch, seed) -> None:
    parts = [slice(0, first), slice(first, first + second)]
    nets = [Mlp(hidden_layers(first, [3], "tanh")), Mlp(hidden_layers(second, [2, 4], "relu"))]
    body = Branches(parts, nets)
    assert body.n_out == 7
    check_derivatives(Sequential([body, Mlp([Dense(7, 2, 1.0)])]), first + second, runs, batch, seed)


def test_branches_may_share_columns_of_the_input() -> None:
    nets = [Mlp(hidden_layers(3, [2], "tanh")), Mlp(hidden_layers(3, [2], "tanh"))]
    check_derivatives(Sequential([Branches([slice(0, 3), slice(1, 4)], nets), Mlp([Dense(4, 1, 1.0)])]), 4, 2, 5, 0)


def test_a_branch_sees_its_own_slice_only() -> None:
    body = Branches(
        [slice(0, 2), slice(2, 5)], [Mlp(hidden_layers(2, [3], "tanh")), Mlp(hidden_layers(3, [4], "tanh"))]
    )
    theta, x = draw(0, 1, body.place(0)), draw(1, 1, 4, 5)
    moved = x.clone()
    moved[..., 2:] += 1
    before, after = body.forward(theta, x)[0], body.forward(theta, moved)[0]
    assert torch.equal(before[..., :3], after[..., :3])
    assert not torch.isclose(before[..., 3:], after[..., 3:]).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_without_a_change_of_the_input_jvp_moves_the_parameters_alone(activation: str) -> None:
    net = Mlp([*hidden_layers(4, [5], activation), Dense(5, 1, 1.0)])
    theta, v, x = draw(0, 2, net.place(0)), draw(1, 2, net.place(0)), draw(2, 2, 6, 4)
    _, cache = net.forward(theta, x.clone())
    torch.testing.assert_close(net.jvp(theta, cache, v, None), net.jvp(theta, cache, v, torch.zeros_like(x)))


def test_vjp_without_dx_gives_the_same_parameter_gradient() -> None:
    net = Mlp([*hidden_layers(4, [5, 3], "tanh"), Dense(3, 2, 1.0)])
    theta, x, dy = draw(0, 2, net.place(0)), draw(1, 2, 6, 4), draw(2, 2, 6, 2)
    _, cache = net.forward(theta, x.clone())
    with_dx, without = torch.zeros_like(theta), torch.zeros_like(theta)
    assert net.vjp(theta, cache, dy, with_dx, need_dx=True) is not None
    assert net.vjp(theta, cache, dy, without, need_dx=False) is None
    assert torch.equal(with_dx, without)


# shapes at which BLAS or a vectorised loop would switch kernels: a width of 1, odd widths, columns that are not aligned
@pytest.mark.parametrize("batch", [16, 64])
@pytest.mark.parametrize(
    ("n_in", "hidden", "n_out"),
    [(8, (64, 64), 8), (8, (64, 64), 1), (1, (256, 5), 3), (5, (1, 32), 2), (11, (50, 20), 11), (64, (256,), 64)],
)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("twin", ["torch", "native"])
def test_run_k_of_a_population_is_run_k_alone(n_in, hidden, n_out, batch, activation, twin) -> None:
    kernels.configure(twin, "float32")
    runs = 3
    net = Mlp([*hidden_layers(n_in, hidden, activation), Dense(hidden[-1], n_out, 1.0)])
    n = aligned(net.place(0))
    theta, v = draw(0, runs, n, dtype=torch.float32), draw(1, runs, n, dtype=torch.float32)
    x, dy = draw(2, runs, batch, n_in, dtype=torch.float32), draw(3, runs, batch, n_out, dtype=torch.float32)

    def derivatives(theta: Tensor, v: Tensor, x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, cache = net.forward(theta, x.clone())
        grad = torch.zeros_like(theta)
        net.vjp(theta, cache, dy, grad, need_dx=False)
        return y, grad, net.jvp(theta, cache, v, None)

    together = derivatives(theta, v, x, dy)
    for k in range(runs):
        alone = derivatives(*(column(t, k) for t in (theta, v, x, dy)))
        for a, b in zip(together, alone, strict=True):
            assert torch.equal(a[k], b[0])


def test_views_that_are_cached_are_those_of_the_tensor_given() -> None:
    layer = Mlp([Dense(3, 2, 1.0)])
    n = layer.place(0)
    kept, other = draw(0, 2, n), draw(1, 2, n)
    layer.cache_views(kept)
    x = draw(2, 2, 4, 3)
    for theta in (kept, other, kept.clone()):
        expected = torch.stack([naive(layer, theta[k], x[k]) for k in range(2)])
        torch.testing.assert_close(layer.forward(theta, x)[0], expected)
    kept.copy_(other)  # as load_state does: the views must follow
    torch.testing.assert_close(layer.forward(kept, x)[0], layer.forward(other, x)[0])


def test_initial_weights_are_orthogonal_and_scaled_and_biases_zero() -> None:
    layer = Mlp([Dense(6, 4, 0.5)])
    row = torch.full((layer.place(2) + 1,), torch.nan)
    layer.init(row, torch.Generator().manual_seed(0))
    ((weight, bias),) = layer.chain.views(row[None])
    weight, bias = weight[0], bias[0]
    torch.testing.assert_close(weight.T @ weight, 0.25 * torch.eye(4))
    assert (bias == 0).all()
    assert int((~torch.isnan(row)).sum()) == layer.n_params


@pytest.mark.parametrize("twin", ["torch", "native"])
def test_tanh_is_accurate_in_single_precision_and_saturates(twin: str) -> None:
    kernels.configure(twin, "float32")
    net = Mlp([Dense(1, 1, 1.0, "tanh")])
    theta = torch.tensor([[1.0, 0.0]])
    x = torch.linspace(-20, 20, 4001)[None, :, None]
    y, _ = net.forward(theta, x)
    assert (y - torch.tanh(x)).abs().max() < 3e-7
    assert y.abs().max() <= 1
    assert torch.isnan(net.forward(theta, torch.full((1, 40, 1), torch.nan))[0]).all()
