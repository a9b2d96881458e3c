from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse, stats

from perturbrl.evaluate.counterfactual.ranksum import RankSum

VALUES = st.sampled_from([0.0, 0.0, 0.0, 1.0, 1.0000001, 2.5, 1e-20, -0.5, -3.0, 7.25, 1e30])


def naive(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = a.astype(np.float64), b.astype(np.float64)  # scipy ranks float32 in float32
    z, p = np.zeros(a.shape[1]), np.ones(a.shape[1])
    for g in range(a.shape[1]):
        if len(np.unique(np.concatenate([a[:, g], b[:, g]]))) > 1:
            found = stats.mannwhitneyu(a[:, g], b[:, g], method="asymptotic", use_continuity=False)
            p[g] = found.pvalue
            z[g] = np.sign(found.statistic - len(a) * len(b) / 2) * stats.norm.isf(found.pvalue / 2)
    return z, p


def against(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return RankSum(sparse.csr_matrix(b, dtype=np.float32)).test(sparse.csr_matrix(a, dtype=np.float32))


@given(st.integers(2, 12), st.integers(2, 12), st.data())
def test_equals_scipy_with_ties_zeros_and_negatives(n, m, data):
    draw = [data.draw(st.lists(VALUES, min_size=3 * k, max_size=3 * k)) for k in (n, m)]
    a, b = (np.array(d, dtype=np.float32).reshape(-1, 3) for d in draw)
    z, p = against(a, b)
    expected = naive(a, b)
    np.testing.assert_allclose(p, expected[1], rtol=1e-9)
    np.testing.assert_allclose(z, expected[0], rtol=1e-6, atol=1e-7)


def test_equals_scipy_on_cells():
    rng = np.random.default_rng(0)
    b = np.log1p(rng.poisson(0.4, (150, 40)) * rng.lognormal(0, 0.2, (150, 1))).astype(np.float32)
    a = np.log1p(rng.poisson(0.6, (60, 40)) * rng.lognormal(0, 0.2, (60, 1))).astype(np.float32)
    np.testing.assert_allclose(against(a, b)[1], naive(a, b)[1], rtol=1e-8)


def test_stored_zeros_are_zeros():
    a = sparse.csr_matrix(np.array([[1.0, 0.0], [2.0, 3.0], [0.0, 1.0]], dtype=np.float32))
    b = sparse.csr_matrix(np.array([[1.0, 5.0], [0.0, 3.0], [0.0, 0.0]], dtype=np.float32))
    stored = sparse.csr_matrix(
        (a.toarray().ravel(), np.tile([0, 1], 3), [0, 2, 4, 6]),
        shape=(3, 2),
    )
    assert stored.nnz == 6
    for left, right in zip(RankSum(b).test(a), RankSum(b).test(stored), strict=True):
        np.testing.assert_array_equal(left, right)


def test_swapping_the_groups_turns_the_sign():
    rng = np.random.default_rng(1)
    a, b = rng.poisson(1.0, (20, 10)), rng.poisson(1.5, (30, 10))
    np.testing.assert_allclose(against(a, b)[0], -against(b, a)[0], atol=1e-12)


@pytest.mark.slow
def test_p_values_are_uniform_without_an_effect():
    rng = np.random.default_rng(7)
    x = np.log1p(rng.poisson(0.5, (400, 500))).astype(np.float32)
    p = against(x[:150], x[150:])[1]
    assert stats.kstest(p, "uniform").pvalue > 0.001
