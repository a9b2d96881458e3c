"""Sharpness against closed forms: quadratics, known matrices, a network of two parameters."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from perturbrl.agents.common.rollout import Rollout
from perturbrl.agents.model.actor_critic import ActorCritic, PolicyConfig
from perturbrl.agents.sharpness import (
    along,
    barrier,
    curvature,
    filter_normalised,
    hessian_product,
    line,
    policy_loss,
)
from perturbrl.envs.base import ActionSpace
from perturbrl.errors import UserError
from perturbrl.rng import Streams


def quadratic(matrix: np.ndarray) -> Any:
    a = torch.as_tensor(matrix)
    return lambda x: 0.5 * x @ a @ x + x.sum()


@pytest.mark.parametrize("n", [3, 60])
def test_the_ends_of_the_spectrum_of_a_quadratic_are_those_of_its_matrix(n: int) -> None:
    rng = np.random.default_rng(n)
    root = rng.standard_normal((n, n))
    matrix = root + root.T  # indefinite
    values = np.linalg.eigvalsh(matrix)
    found = curvature(quadratic(matrix), torch.as_tensor(rng.standard_normal(n)))
    assert found.largest == pytest.approx(values[-1], rel=1e-3) and found.smallest == pytest.approx(values[0], rel=1e-3)


def test_a_product_with_the_hessian_equals_the_written_out_matrix() -> None:
    theta = torch.tensor([0.3, -1.2, 0.7], dtype=torch.float64)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return (x[0] * x[1]).exp() + x[2].sin() * x[0] ** 2

    hessian = torch.autograd.functional.hessian(loss, theta)
    v = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)
    assert torch.allclose(hessian_product(loss, theta)(v), hessian @ v)
    assert curvature(lambda x: x.sum(), theta).largest == 0.0  # a plane


def test_the_net_of_two_parameters_has_the_hessian_of_its_formula() -> None:
    """y = b tanh(a x), loss (y - t)^2: with h = tanh(a x), h' = x (1 - h^2), h'' = -2 x^2 h (1 - h^2)."""
    a, b, x, t = 0.8, -0.6, 1.3, 0.4
    h = np.tanh(a * x)
    first, second = x * (1 - h**2), -2 * x**2 * h * (1 - h**2)
    error = b * h - t
    hessian = 2 * np.array(
        [[(b * first) ** 2 + error * b * second, b * h * first + error * first], [b * h * first + error * first, h**2]]
    )
    found = curvature(lambda p: (p[1] * torch.tanh(p[0] * x) - t) ** 2, torch.tensor([a, b], dtype=torch.float64))
    assert [found.smallest, found.largest] == pytest.approx(np.linalg.eigvalsh(hessian))


def made(kind: str, net: str = "trunk") -> ActorCritic:
    space = ActionSpace(kind, 3)
    env: Any = SimpleNamespace(obs_dim=4, action_space=space, n_runs=2)
    config = PolicyConfig(net, [5], "tanh", -0.5)
    return ActorCritic.for_env([config] * 2, env, {"a": slice(0, 2), "b": slice(2, 4)}, Streams([0, 1]))


def batch_of(model: ActorCritic, m: int = 40) -> Rollout:
    generator = torch.Generator().manual_seed(3)
    obs = torch.randn(2, m, 4, generator=generator)
    policy = model.policy(obs)[0]
    box = model.actions.kind == "box"
    noise = torch.randn(2, m, 3, generator=generator) if box else torch.rand(2, m, 1, generator=generator)
    action = policy.sample(noise)
    numbers = [torch.randn(2, m, generator=generator) for _ in range(3)]
    return Rollout(obs, action, policy.log_prob(action)[0], *numbers)


@pytest.mark.parametrize("kind", ["box", "discrete"])
def test_the_curvature_of_a_policy_loss_is_that_of_its_dense_hessian(kind: str) -> None:
    model = made(kind)
    loss, theta = policy_loss(model, batch_of(model), run=1)
    assert float(loss(theta)) == pytest.approx(0, abs=1e-6)  # the ratio is 1 and advantages have mean 0
    values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, theta))
    found = curvature(loss, theta)
    assert found.largest == pytest.approx(float(values[-1]), rel=1e-3)
    assert found.smallest == pytest.approx(float(values[0]), rel=1e-3)


def test_the_gradient_of_the_policy_loss_is_the_policy_gradient() -> None:
    model = made("discrete")
    batch = batch_of(model)
    loss, theta = policy_loss(model, batch)
    (gradient,) = torch.autograd.grad(loss(point := theta.clone().requires_grad_()), point)
    point32 = model.theta.clone().requires_grad_()
    log_prob = model.policy(batch.obs, point32)[0].log_prob(batch.action)[0]
    (expected,) = torch.autograd.grad(-(log_prob * batch.normalised().advantage).mean(1).sum(), point32)
    assert torch.allclose(gradient.float(), expected[0, : model.policy_size], atol=1e-6)


@pytest.mark.parametrize("net", ["trunk", "branches"])
def test_a_direction_has_filters_as_long_as_those_of_the_solution(net: str) -> None:
    model = made("box", net)
    theta = model.theta[0, : model.policy_size].double()
    direction = filter_normalised(model, theta, seed=5)
    first = next(iter(model.policy_net.columns()))
    rows = direction[first].view(-1, 5).norm(dim=0)
    assert torch.allclose(rows, theta[first].view(-1, 5).norm(dim=0))
    assert bool((direction[model.log_std_columns] == 0).all())
    biases = list(model.policy_net.columns())[1::2]
    assert all(bool((direction[bias] == 0).all()) for bias in biases)
    assert not torch.equal(direction, filter_normalised(model, theta, seed=6))
    scaled = filter_normalised(model, 3 * theta, seed=5)
    assert torch.allclose(scaled, 3 * direction)  # a rescaled network has the same slice


def test_filters_of_other_networks_are_not_known() -> None:
    other: Any = SimpleNamespace()
    with pytest.raises(UserError, match=r"sharpness: knows the filters"):
        filter_normalised(other, torch.zeros(3), 0)


def test_a_slice_through_a_quadratic_is_a_parabola() -> None:
    matrix = np.diag([2.0, 5.0])
    theta, direction = torch.zeros(2, dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    places = np.linspace(-1, 1, 5)
    assert along(quadratic(matrix), theta, direction, places) == pytest.approx(2.5 * places**2 + places)


def test_the_barrier_of_a_double_well_is_its_height_and_a_convex_loss_has_none() -> None:
    """(x^2 - 1)^2 has minima at -1 and 1 and the height 1 between them."""
    ends = torch.tensor([-1.0], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    points = line(*ends, 11)
    assert points.shape == (11, 1) and float(points[5]) == pytest.approx(0)
    assert barrier(((points**2 - 1) ** 2).numpy().ravel()) == pytest.approx(1.0)
    assert barrier((points**2 + 3 * points).numpy().ravel()) == 0.0
    tilted = (points**2 - 1) ** 2 + points  # the line between unequal ends counts, not the lower end
    assert barrier(tilted.numpy().ravel()) == pytest.approx(1.0)
