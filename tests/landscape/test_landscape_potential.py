from __future__ import annotations

import numpy as np
import pytest

from perturbrl.errors import UserError
from perturbrl.landscape.potential import quasi_potential, wells

HEIGHT = 2.0


def double_well(x):
    """U of a particle in V = (x^2 - 1)^2 at temperature 1 / HEIGHT: wells at -1 and 1, a pass of HEIGHT at 0."""
    return HEIGHT * (x**2 - 1) ** 2


def sample(u, n, rng):
    """Draw from exp(-u) on a line by its inverse distribution function."""
    grid = np.linspace(-2.5, 2.5, 20_001)
    cdf = np.cumsum(np.exp(-u(grid)))
    return np.interp(rng.random(n), cdf / cdf[-1], grid)


def test_a_double_well_has_its_closed_form():
    points = sample(double_well, 100_000, np.random.default_rng(0))[:, None]
    surface = quasi_potential(points)
    x = np.linspace(-1.5, 1.5, 61)
    assert np.abs(surface.at(x[:, None]) - double_well(x)).max() < 0.12
    found = wells(surface)
    assert np.allclose(np.sort(found.points[:, 0]), [-1, 1], atol=0.08)
    assert np.allclose(found.barrier, HEIGHT, atol=0.15)
    share = np.bincount(found.of(surface, points)) / len(points)
    assert np.allclose(share, 0.5, atol=0.01)


def mixture(points):
    """-ln density of 3/4 of N((0, 0), 0.3^2 I) and 1/4 of N((2, 1), 0.2^2 I)."""

    def normal(centre, sd):
        return np.exp(-((points - centre) ** 2).sum(-1) / (2 * sd**2)) / (2 * np.pi * sd**2)

    return -np.log(0.75 * normal([0, 0], 0.3) + 0.25 * normal([2, 1], 0.2))


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(1)
    first, second = rng.normal(0, 0.3, (60_000, 2)), rng.normal([2, 1], 0.2, (20_000, 2))
    return np.concatenate([first, second])


def test_a_mixture_of_gaussians_has_its_closed_form(drawn):
    surface = quasi_potential(drawn)
    near = drawn[::400]
    near = near[mixture(near) < mixture(np.zeros(2)) + 3]
    expected = mixture(near) - mixture(np.array([[0.0, 0.0], [2.0, 1.0]])).min()
    assert np.abs(surface.at(near) - expected).max() < 0.3 and np.abs(surface.at(near) - expected).mean() < 0.06
    found = wells(surface)
    assert np.allclose(found.points[np.argsort(found.points[:, 0])], [[0, 0], [2, 1]], atol=0.12)
    share = np.bincount(found.of(surface, drawn)) / len(drawn)
    assert sorted(share.round(2)) == [0.25, 0.75]


def test_weights_stand_for_repeated_points(drawn):
    points, bandwidth = drawn[::100], np.array([0.1, 0.1])
    twice = np.concatenate([points, points[:300]])
    weights = np.ones(len(points))
    weights[:300] = 2
    bounds = ((-2.0, 3.0), (-2.0, 3.0))
    one = quasi_potential(twice, bandwidth=bandwidth, bounds=bounds)
    other = quasi_potential(points, weights=weights, bandwidth=bandwidth, bounds=bounds)
    populated = points[other.at(points) < 3]
    assert np.abs(one.at(populated) - other.at(populated)).max() < 0.15  # p_0 differs a little


def test_given_time_the_number_of_cells_at_a_time_does_not_count():
    """x | t is N(0, 0.2^2) for t < 1/2 and N(3, 0.2^2) after: U(x | t) = (x - mean)^2 / (2 0.2^2)."""
    rng = np.random.default_rng(2)
    t = rng.random(60_000) ** 2  # early times have more cells
    x = rng.normal(np.where(t < 0.5, 0, 3), 0.2)
    surface = quasi_potential(np.stack([x, t], axis=1), given=1)
    for x0, t0 in ((0.0, 0.25), (3.0, 0.8)):
        at = surface.at(np.array([[x0, t0], [x0 + 0.2, t0], [x0 - 0.4, t0]]))
        assert at == pytest.approx([0, 0.5, 2.0], abs=0.2)


def test_one_well_has_no_pass(drawn):
    found = wells(quasi_potential(drawn[:60_000]))
    assert len(found.depth) == 1 and np.isinf(found.barrier[0]) and (found.region == 0).all()


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.zeros((3, 2)), "at least 10 points"),
        (np.zeros((20, 2)), "points that differ"),
        (np.full((20, 2), np.nan), "finite"),
        (np.zeros((20, 3)), "1 or 2 dimensions"),
    ],
)
def test_unusable_points_are_refused_in_one_line(points, words):
    with pytest.raises(UserError, match=words):
        quasi_potential(points)
