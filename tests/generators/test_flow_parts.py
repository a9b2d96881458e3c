"""Paths, pairings, discrepancy and solvers against plain loops and closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from perturbrl.generators.mmd import SCALES, mmd
from perturbrl.generators.path import Path, assignment
from perturbrl.generators.sampling import follow
from perturbrl.generators.settings import PathConfig


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def naive_mmd(x: Tensor, y: Tensor) -> float:
    def pairs(a: Tensor, b: Tensor, same: bool) -> list[float]:
        n = range(len(a))
        return [float((a[i] - b[j]).square().sum()) for i in n for j in n if not (same and i == j)]

    bandwidth = sorted(pairs(y, y, True))[(len(y) * (len(y) - 1) - 1) // 2]
    total = 0.0
    for scale in SCALES:
        mean = [
            np.mean([math.exp(-d / (2 * scale * bandwidth)) for d in pairs(*given)])
            for given in ((x, x, True), (y, y, True), (x, y, False))
        ]
        total += mean[0] + mean[1] - 2 * mean[2]
    return total / len(SCALES)


def test_the_discrepancy_equals_a_loop_over_pairs() -> None:
    x, y = normal(2, 3, 5, 4), 0.5 + normal(2, 3, 5, 4, seed=1)
    expected = [[naive_mmd(a, b) for a, b in zip(p, q, strict=True)] for p, q in zip(x, y, strict=True)]
    torch.testing.assert_close(mmd(x, y), torch.tensor(expected, dtype=torch.float32), atol=1e-5, rtol=1e-4)


def test_the_discrepancy_of_equal_populations_is_zero_on_average_and_has_a_gradient() -> None:
    same = mmd(normal(400, 8, 3), normal(400, 8, 3, seed=1))
    assert abs(float(same.mean())) < 4 * float(same.std()) / 20
    x = (1.0 + normal(8, 3)).requires_grad_()
    mmd(x, normal(8, 3, seed=1)).backward()
    assert torch.isfinite(x.grad).all() and x.grad.mean() > 0  # down the gradient is towards the other sample


def test_the_assignment_is_that_of_scipy_and_no_permutation_costs_less() -> None:
    a, b = normal(2, 3, 5, 4), normal(2, 3, 5, 4, seed=1)
    order = assignment(a, b)
    for s, g in itertools.product(range(2), range(3)):
        cost = torch.cdist(b[s, g].double(), a[s, g].double()).square().numpy()
        assert order[s, g].tolist() == linear_sum_assignment(cost)[1].tolist()
        least = min(sum(cost[i, p[i]] for i in range(5)) for p in itertools.permutations(range(5)))
        assert cost[np.arange(5), order[s, g]].sum() == pytest.approx(least)


@pytest.mark.parametrize("start", ["noise", "control"])
def test_pairing_moves_starts_within_their_group_alone(start: str) -> None:
    path = Path(PathConfig(start, 0.5, "optimal_transport"))
    control, cells = normal(2, 6, 3), normal(2, 6, 3, seed=1)
    starts = path.start(control, normal(2, 6, 3, seed=2))
    moved, beside = path.pair(starts, control, cells, 3)
    assert not torch.equal(moved, starts)
    for s, g in itertools.product(range(2), (slice(0, 3), slice(3, 6))):
        places = [starts[s, g].tolist().index(row) for row in moved[s, g].tolist()]
        assert sorted(places) == [0, 1, 2]
        # a control cell that is the start goes with it; one that only conditions stays
        kept = places if start == "control" else [0, 1, 2]
        assert torch.equal(beside[s, g], control[s, g][kept])
    assert (moved - cells).square().sum() < (starts - cells).square().sum()


def test_where_the_path_starts() -> None:
    control, noise = normal(4, 3), normal(4, 3, seed=1)
    assert torch.equal(Path(PathConfig("noise", 0.5, "random")).start(control, noise), noise)
    torch.testing.assert_close(Path(PathConfig("control", 0.5, "random")).start(control, noise), control + noise / 2)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_the_error_of_a_solver_falls_with_the_order_of_its_steps(method: str, order: int) -> None:
    """Of dx/dt = x cos(t), with x(1) = x(0) exp(sin 1)."""
    x = torch.tensor([1.0, -2.0], dtype=torch.float64)
    exact = x * math.exp(math.sin(1.0))
    errors = [float((follow(lambda y, t: y * math.cos(t), x, steps, method) - exact).abs().max()) for steps in (20, 40)]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1)


def test_the_exact_velocity_of_a_gaussian_is_followed_to_its_moments() -> None:
    """From N(0, 1) to N(m, s^2) on straight lines: v(x, t) = m + (t s^2 - 1 + t) / var_t (x - t m)."""
    m, s = 1.5, 0.5

    def velocity(x: Tensor, t: float) -> Tensor:
        variance = (1 - t) ** 2 + (t * s) ** 2
        return m + (t * s**2 - (1 - t)) / variance * (x - t * m)

    x = normal(1000, 1).double()
    made = follow(velocity, x, 200, "heun")
    torch.testing.assert_close(made, m + s * x, atol=1e-3, rtol=0.0)
