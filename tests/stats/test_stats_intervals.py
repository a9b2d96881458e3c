from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from perturbrl.stats import mean_interval, t_test

numbers = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30)


@given(numbers, st.floats(0.5, 0.99))
def test_agrees_with_scipy(values: list[float], level: float) -> None:
    x = np.array(values)
    ours = mean_interval(values, level)
    half = reference.t.ppf(0.5 + level / 2, len(x) - 1) * reference.sem(x)
    assert ours.mean == pytest.approx(x.mean(), abs=1e-9)
    assert ours.half == pytest.approx(half, rel=1e-7, abs=1e-9)


def test_closed_form_of_two() -> None:
    # n = 2: s = |a - b| / sqrt(2), so half = t(1) |a - b| / 2, and t(1) at 97.5 % is tan(0.475 pi)
    ours = mean_interval([1.0, 3.0])
    assert ours.mean == 2.0
    assert ours.half == pytest.approx(math.tan(0.475 * math.pi))
    assert (ours.low + ours.high) / 2 == pytest.approx(2.0)


def test_one_seed_has_no_interval_and_says_so() -> None:
    one = mean_interval([0.25])
    assert (one.mean, one.half, one.n) == (0.25, None, 1)
    assert "one seed" in one.note
    assert math.isnan(one.low) and math.isnan(one.high)
    assert not one.excludes(100.0)


def test_missing_values_are_left_out() -> None:
    assert mean_interval([1.0, math.nan, 3.0]) == mean_interval([1.0, 3.0])
    none = mean_interval([math.nan])
    assert none.n == 0 and math.isnan(none.mean) and none.note


def test_infinite_values_have_no_interval() -> None:
    assert mean_interval([1.0, math.inf]).half is None
    assert mean_interval([1.0, math.inf]).mean == math.inf


@given(numbers)
def test_excludes_exactly_what_lies_outside(values: list[float]) -> None:
    ours = mean_interval(values)
    assert ours.half is not None
    assert not ours.excludes(ours.mean)
    assert ours.excludes(ours.mean + 1.01 * ours.half + 1e-6)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_level_is_a_probability(level: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        mean_interval([1.0, 2.0], level)


@pytest.mark.slow
def test_coverage() -> None:
    rng = np.random.default_rng(0)
    n, trials = 3, 4000
    hits = sum(not mean_interval(rng.normal(5, 2, n)).excludes(5) for _ in range(trials))
    assert abs(hits / trials - 0.95) < 4 * math.sqrt(0.95 * 0.05 / trials)


def test_the_t_test_is_that_of_the_interval() -> None:
    x = np.random.default_rng(0).normal(0.5, 1, size=7)
    assert t_test([*x, math.nan]) == pytest.approx(reference.ttest_1samp(x, 0).pvalue)
    level = 1 - t_test(x)
    assert mean_interval(x, level).low == pytest.approx(0, abs=1e-9)
    assert [t_test(each) for each in ([], [1.0], [2.0, 2.0], [0.0, 0.0], [1.0, math.inf])] == [1, 1, 0, 1, 1]
