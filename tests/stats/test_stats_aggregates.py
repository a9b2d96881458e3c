from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import stats as reference

from perturbrl.stats import iqm, optimality_gap, probability_of_improvement

scores = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-100, 100, width=32))


@given(scores)
def test_iqm_is_the_trimmed_mean_of_all_entries(x: np.ndarray) -> None:
    assert iqm(x) == pytest.approx(reference.trim_mean(x, 0.25, axis=None), abs=1e-9)


def test_iqm_ignores_the_outer_quarters_and_keeps_leading_axes() -> None:
    x = np.array([[-1e9, 1.0], [2.0, 1e9]])
    assert iqm(x) == 1.5
    np.testing.assert_allclose(iqm(np.stack([x, x + 1])), [1.5, 2.5])


def test_optimality_gap_gives_no_credit_beyond_gamma() -> None:
    assert optimality_gap([[1.0, 5.0]]) == 0.0
    assert optimality_gap([[0.0, 5.0]]) == 0.5
    assert optimality_gap([[0.0, 5.0]], gamma=5.0) == 2.5


@given(scores, st.integers(1, 5))
def test_probability_of_improvement_counts_pairs(x: np.ndarray, m: int) -> None:
    rng = np.random.default_rng(m)
    y = rng.choice(x.ravel(), size=(m, x.shape[1]))
    pairs = [np.mean([float(a > b) + 0.5 * float(a == b) for a in x[:, k] for b in y[:, k]]) for k in range(x.shape[1])]
    assert probability_of_improvement(x, y) == pytest.approx(np.mean(pairs))
    assert probability_of_improvement(x, y) + probability_of_improvement(y, x) == pytest.approx(1.0)


def test_tasks_must_be_the_same() -> None:
    with pytest.raises(ValueError, match="same tasks"):
        probability_of_improvement([[1.0, 2.0]], [[1.0]])
