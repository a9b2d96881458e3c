from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn.metrics import r2_score

from perturbrl.effects import profile_metrics

ALL = np.ones((7, 30), dtype=bool)
ONE_GROUP = np.zeros(7, dtype=np.int64)
FREE = np.ones(30, dtype=bool)


@pytest.fixture
def truth() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(7, 30))


@pytest.fixture
def said(truth: np.ndarray) -> np.ndarray:
    return 0.3 * truth + np.random.default_rng(1).normal(size=truth.shape)


def naive_pds(truth: np.ndarray, said: np.ndarray) -> list[float]:
    def distance(a: np.ndarray, b: np.ndarray) -> float:
        length = np.linalg.norm(a) * np.linalg.norm(b)
        return 1 - float(a @ b) / length if length > 0 else 1.0

    out = []
    for p in range(len(truth)):
        d = [distance(said[p], truth[q]) for q in range(len(truth))]
        others = [d[q] for q in range(len(truth)) if q != p]
        k = sum(x < d[p] - 1e-12 for x in others) + 0.5 * sum(abs(x - d[p]) <= 1e-12 for x in others)
        out.append(1 - k / (len(truth) - 1))
    return out


def test_pds_equals_a_loop(truth, said):
    np.testing.assert_allclose(profile_metrics.pds(truth, said, ONE_GROUP, FREE), naive_pds(truth, said))


def test_pds_of_the_truth_is_one_and_of_nothing_one_half(truth):
    assert (profile_metrics.pds(truth, truth, ONE_GROUP, FREE) == 1).all()
    assert (profile_metrics.pds(truth, np.zeros_like(truth), ONE_GROUP, FREE) == 0.5).all()


@given(hnp.arrays(np.float64, 30, elements=st.floats(-3, 3, width=16)))
def test_pds_of_one_prediction_for_all_is_one_half(constant):
    truth = np.random.default_rng(5).normal(size=(7, 30))
    score = profile_metrics.pds(truth, np.tile(constant, (7, 1)), ONE_GROUP, FREE)
    assert score.mean() == pytest.approx(0.5, abs=1e-12)


def test_pds_ignores_the_scale_of_predictions(truth, said):
    scale = np.linspace(0.1, 20, 7)[:, None]
    a, b = (profile_metrics.pds(truth, x, ONE_GROUP, FREE) for x in (said, said * scale))
    np.testing.assert_array_equal(a, b)


def test_a_spike_on_the_other_targets_buys_no_pds():
    rng = np.random.default_rng(2)
    truth = rng.normal(0, 0.1, (7, 30))
    truth[np.arange(7), np.arange(7)] = -3.0  # each condition knocks its own target down
    spike = np.zeros_like(truth)
    spike[:, :7] = 1.0
    spike[np.arange(7), np.arange(7)] = 0.0  # raises every other target: tells the own one apart without knowing it
    free = np.arange(30) >= 7
    assert (profile_metrics.pds(truth, spike, ONE_GROUP, FREE) == 1).all()
    assert (profile_metrics.pds(truth, spike, ONE_GROUP, free) == 0.5).all()


def test_pds_compares_within_groups_only(truth, said):
    groups = np.array([0, 0, 0, 1, 1, 1, 2])
    score = profile_metrics.pds(truth, said, groups, FREE)
    np.testing.assert_allclose(score[:3], naive_pds(truth[:3], said[:3]))
    np.testing.assert_allclose(score[3:6], naive_pds(truth[3:6], said[3:6]))
    assert np.isnan(score[6])


def test_pds_needs_a_gene_that_is_no_target(truth):
    assert np.isnan(profile_metrics.pds(truth, truth, ONE_GROUP, ~FREE)).all()


def test_pds_of_permuted_labels_is_chance():
    rng = np.random.default_rng(4)
    truth = rng.normal(size=(200, 40))
    score = profile_metrics.pds(truth, truth[rng.permutation(200)], np.zeros(200, int), np.ones(40, bool))
    assert score.mean() == pytest.approx(0.5, abs=4 * np.sqrt(1 / 12 / 200))


def test_pearson_equals_scipy_on_the_used_genes(truth, said):
    used = np.random.default_rng(3).random(truth.shape) < 0.8
    expected = [stats.pearsonr(t[u], s[u]).statistic for t, s, u in zip(truth, said, used, strict=True)]
    np.testing.assert_allclose(profile_metrics.pearson(truth, said, used), expected)


@pytest.mark.parametrize("nothing", [0.0, 1e-9, 2.5])
def test_pearson_is_undefined_without_a_direction(truth, nothing):
    said = truth * nothing if nothing < 1 else np.full_like(truth, nothing)
    assert np.isnan(profile_metrics.pearson(truth, said, ALL)).all()


def test_weights_are_squared_minmax_scores():
    used = np.array([[True, True, True, False]])
    weight = profile_metrics.weights(np.array([[1.0, -3.0, 2.0, 50.0]]), used)
    np.testing.assert_allclose(weight, [[0.0, 0.8, 0.2, 0.0]])
    np.testing.assert_allclose(profile_metrics.weights(np.zeros((1, 4)), used), [[1 / 3, 1 / 3, 1 / 3, 0.0]])


def test_weighted_errors_equal_sklearn(truth, said):
    weight = profile_metrics.weights(truth, ALL)
    expected = [r2_score(t, s, sample_weight=w) for t, s, w in zip(truth, said, weight, strict=True)]
    np.testing.assert_allclose(profile_metrics.weighted_r2(truth, said, weight), expected)
    expected = [np.average((t - s) ** 2, weights=w) for t, s, w in zip(truth, said, weight, strict=True)]
    np.testing.assert_allclose(profile_metrics.weighted_mse(truth, said, weight), expected)


def test_top_distance_takes_the_genes_that_controls_express_most(truth, said):
    control = np.random.default_rng(6).random(truth.shape)
    used = ALL.copy()
    used[0, control[0].argmax()] = False
    found = profile_metrics.top_distance(truth, said, control, used, 5)
    for i in range(len(truth)):
        order = [g for g in np.argsort(-control[i]) if used[i, g]][:5]
        assert found[i] == pytest.approx(np.linalg.norm((truth - said)[i, order]))
    everything = profile_metrics.top_distance(truth, said, control, used, 1000)
    np.testing.assert_allclose(everything**2, np.where(used, (truth - said) ** 2, 0).sum(axis=1))


def test_mean_cosine(truth):
    assert profile_metrics.mean_cosine(truth, 3 * truth, ALL) == pytest.approx(1.0)
    assert profile_metrics.mean_cosine(truth, -truth, ALL) == pytest.approx(-1.0)
    orthogonal = np.zeros_like(truth)
    assert profile_metrics.mean_cosine(truth, orthogonal, ALL) == 0.0
