from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from perturbrl.landscape import kinetics, labels
from perturbrl.landscape.fixed_points import basin_of, fixed_points, transitions
from perturbrl.landscape.network import Network
from perturbrl.landscape.networks import load

TOGGLE = Network({"a": "not b", "b": "not a"}, frozenset(), {}, {}, {}, 0.5)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def toggle():
    return fixed_points(TOGGLE, seeded(), n_starts=400)


@pytest.fixture(scope="module")
def myeloid():
    return fixed_points(load("myeloid"), seeded(), n_starts=500)


def test_the_toggle_switch_has_the_roots_of_its_equations(toggle):
    """a = f(b), b = f(a), f(x) = 1 / (1 + (2 x)^4): the roots of f(f(a)) - a by Brent's method."""

    def f(x):
        return 1 / (1 + (2 * x) ** 4)

    def gap(x):
        return f(f(x)) - x

    grid = np.linspace(0, 1.001, 400)
    roots = [brentq(gap, low, high) for low, high in pairwise(grid) if gap(low) * gap(high) <= 0]
    assert len(roots) == 3
    assert np.allclose(np.sort(toggle.levels[:, 0]), roots, atol=1e-7)
    assert np.allclose(toggle.levels[:, 1], f(toggle.levels[:, 0]), atol=1e-7)


def test_the_pass_of_the_toggle_switch_is_a_saddle_and_basins_are_halves(toggle):
    assert toggle.stable.tolist() == [True, True, False] and np.allclose(toggle.levels[2], 0.5)
    assert abs(toggle.share[0] - 0.5) < 4 * toggle.error[0] and toggle.share[:2].sum() == 1 and toggle.unsettled == 0


def test_growth_is_the_eigenvalue_of_all_three_stages(toggle):
    """At (1/2, 1/2) F' has eigenvalues +-2: (1 + l tau_a)(1 + l tau_m)(1 + l tau_p) = 2 for the largest l."""
    taus = (kinetics.TAU_ACCESSIBILITY, kinetics.TAU_MRNA, kinetics.TAU_PROTEIN)
    growth = brentq(lambda rate: np.prod([1 + rate * tau for tau in taus]) - 2, 0, 5)
    assert toggle.growth[2] == pytest.approx(growth, rel=1e-6)


def test_a_ring_of_three_repressors_never_rests():
    """The only fixed point of a strong repressilator is unstable: no start comes to rest."""
    ring = Network({"a": "not c", "b": "not a", "c": "not b"}, frozenset(), {}, {}, {}, 0.5)
    points = fixed_points(ring, seeded(), n_starts=50)
    assert points.unsettled > 0.95 and points.stable.tolist() == [False] and np.allclose(points.levels, 0.5)
    net = kinetics.circuit(ring)
    level = torch.full((1, 3), 0.5)
    assert torch.allclose(kinetics.network_production(level, net), level)


def test_points_of_the_myeloid_network_are_fixed_and_its_fates_are_stable(myeloid):
    net = kinetics.circuit(load("myeloid"))
    levels = torch.as_tensor(myeloid.levels, dtype=torch.float32)
    assert (kinetics.network_production(levels, net) - levels).abs().max() < 1e-5
    stable = labels.fates(levels[torch.as_tensor(myeloid.stable)], load("myeloid"))
    assert {"erythrocyte", "megakaryocyte", "monocyte", "granulocyte"} <= set(stable)
    assert myeloid.share.sum() + myeloid.unsettled == pytest.approx(1)
    assert (myeloid.share[~myeloid.stable] == 0).all()


def test_a_held_gene_stays(myeloid):
    held = torch.full((11,), torch.nan)
    held[load("myeloid").genes.index("Gata1")] = 0.0
    points = fixed_points(load("myeloid"), seeded(), n_starts=200, held=held)
    assert (points.levels[:, 1] == 0).all()
    assert not {"erythrocyte", "megakaryocyte"} & set(
        labels.fates(torch.as_tensor(points.levels[points.stable]).float(), load("myeloid"))
    )


def test_transitions_are_probabilities_and_none_without_noise(myeloid):
    quiet = transitions(load("myeloid"), myeloid, seeded(), noise=0.0, n_cells=2, n_steps=240)
    n = int(myeloid.stable.sum())
    assert np.array_equal(quiet, np.eye(n, n + 1))
    loud = transitions(load("myeloid"), myeloid, seeded(), noise=0.4, n_cells=30, n_steps=240)
    assert np.allclose(loud.sum(axis=1), 1) and np.diag(loud).min() < 1


def test_cells_at_a_stable_point_are_in_its_basin(myeloid):
    net, stable = kinetics.circuit(load("myeloid")), myeloid.levels[myeloid.stable]
    free = torch.full((11,), torch.nan)
    assert basin_of(net, torch.as_tensor(stable).float(), free, stable).tolist() == list(range(len(stable)))
