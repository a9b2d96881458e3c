from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from perturbrl.evaluate.counterfactual.distribution import Sample, energy_distance


def between(a, b):
    return energy_distance(Sample.of(a), Sample.of(b))


def test_equals_a_naive_u_statistic():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(13, 4)), rng.normal(1.0, 2.0, size=(9, 4))
    within = sum(cdist(x, x)[~np.eye(len(x), dtype=bool)].mean() for x in (a, b))
    assert between(a, b) == pytest.approx(2 * cdist(a, b).mean() - within)


def test_two_points_apart():
    a, b = np.zeros((5, 3)), np.zeros((7, 3))
    b[:, 0] = 4.0
    assert between(a, b) == pytest.approx(8.0)
    assert between(a, a.copy()) == 0.0


def test_the_mean_without_an_effect_is_zero():
    rng = np.random.default_rng(1)
    drawn = [between(rng.normal(size=(20, 10)), rng.normal(size=(20, 10))) for _ in range(300)]
    assert abs(np.mean(drawn)) < 4 * np.std(drawn) / np.sqrt(len(drawn))


def test_it_sees_a_change_of_spread_that_leaves_the_mean():
    rng = np.random.default_rng(2)
    narrow, wide = rng.normal(size=(200, 5)), 3 * rng.normal(size=(200, 5))
    assert between(narrow - narrow.mean(axis=0), wide - wide.mean(axis=0)) > 0.5


def test_a_single_cell_has_no_spread():
    assert np.isnan(between(np.zeros((1, 3)), np.ones((4, 3))))
