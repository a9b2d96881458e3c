from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from perturbrl.stats import Interval, Span, claim, holm, mean_interval, sign_flip_test, smallest_p

small = st.lists(st.integers(-9, 9).map(float), min_size=1, max_size=9)
probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(small)
def test_sign_flip_counts_every_sign(d: list[float]) -> None:
    sums = [
        abs(sum(s * x for s, x in zip(signs, d, strict=True))) for signs in itertools.product((1, -1), repeat=len(d))
    ]
    assert sign_flip_test(d) == np.mean([total >= abs(sum(d)) for total in sums])


@given(st.lists(st.floats(0.1, 9), min_size=1, max_size=30))
def test_differences_of_one_sign_give_the_smallest_p(d: list[float]) -> None:
    assert sign_flip_test(d) == smallest_p(len(d))
    assert sign_flip_test([-x for x in d]) == smallest_p(len(d))


def test_smallest_p() -> None:
    assert [smallest_p(n) for n in (1, 2, 5, 6, 10)] == [1.0, 0.5, 0.0625, 0.03125, 2 / 1024]


@given(small, st.floats(0.01, 100))
def test_sign_flip_knows_no_scale(d: list[float], factor: float) -> None:
    assert sign_flip_test([factor * x for x in d]) == sign_flip_test(d)


def test_many_seeds_take_the_t_test() -> None:
    d = np.random.default_rng(0).normal(0.2, 1, 60)
    assert sign_flip_test(d) == pytest.approx(reference.ttest_1samp(d, 0).pvalue, rel=1e-9)
    exact = sign_flip_test(d[:40])  # next to the border the two agree
    assert exact == pytest.approx(reference.ttest_1samp(d[:40], 0).pvalue, abs=0.02)
    assert sign_flip_test(np.ones(60)) == 0.0


@pytest.mark.parametrize("bad", [[], [math.nan], [[1.0]]])
def test_bad_differences(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        sign_flip_test(bad)


def test_holm_of_the_textbook() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])


@settings(max_examples=60)
@given(probabilities)
def test_holm_rejects_what_stepping_down_rejects(p: list[float]) -> None:
    adjusted, m = holm(p), len(p)
    for alpha in (0.01, 0.05, 0.2, *p):
        rejected = set()
        for k, i in enumerate(sorted(range(m), key=lambda j: p[j])):
            if p[i] * (m - k) > alpha:
                break
            rejected.add(i)
        assert {i for i in range(m) if adjusted[i] <= alpha} == rejected or alpha == 1.0


@pytest.mark.parametrize("bad", [[-0.1], [1.1], [math.nan], [[0.5]]])
def test_bad_p(bad: list[float]) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm(bad)


@pytest.mark.parametrize(
    ("difference", "p", "word"),
    [
        (Span(0.3, 0.1, 0.5), 0.01, "better"),
        (Span(0.3, 0.1, 0.5), 0.051, "no evidence"),  # the test does not agree
        (Span(0.3, -0.1, 0.7), 0.01, "no evidence"),  # the interval does not agree
        (Span(0.3, 0.0, 0.6), 0.01, "no evidence"),
        (Span(-0.3, -0.5, -0.1), 0.05, "worse"),
        (Span(-0.3, -0.5, -0.1), 1.0, "no evidence"),
        (Interval(0.3, None, 1), 0.0, "no evidence"),  # one seed: no interval
        (Interval(0.3, 0.1, 5), 0.01, "better"),
    ],
)
def test_a_claim_needs_interval_and_test(difference: Span | Interval, p: float, word: str) -> None:
    assert claim(difference, p).word == word


def test_five_seeds_support_no_claim() -> None:
    d = [0.9, 1.0, 1.1, 1.0, 0.95]
    assert not mean_interval(d).excludes(1.0) and mean_interval(d).excludes(0.0)
    assert claim(mean_interval(d), sign_flip_test(d)).word == "no evidence"
    assert claim(mean_interval(d * 2), sign_flip_test(d * 2)).word == "better"


def test_bad_claim() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        claim(Span(0, 0, 0), 2.0)


@pytest.mark.slow
def test_false_claims_are_rare() -> None:
    rng = np.random.default_rng(0)
    trials = 2000
    false = sum(claim(mean_interval(d), sign_flip_test(d)).word != "no evidence" for d in rng.normal(size=(trials, 10)))
    assert false / trials < 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


@pytest.mark.slow
def test_sign_flip_p_is_uniform_where_there_is_no_difference() -> None:
    rng = np.random.default_rng(1)
    p = np.array([sign_flip_test(d) for d in rng.normal(size=(2000, 8))])
    for level in (0.05, 0.2, 0.5):
        assert abs((p <= level).mean() - level) < 0.01 + 4 * math.sqrt(level * (1 - level) / 2000)
