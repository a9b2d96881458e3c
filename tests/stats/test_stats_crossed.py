from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from perturbrl.stats import CrossedMean, claim, crossed_mean, holm, least_units, mean_interval, smallest_p

Array = np.ndarray


def overlapping(rng: np.random.Generator) -> Array:
    """26 targets, a quarter of them held out ten times."""
    return np.array([rng.permutation(26) < 6 for _ in range(10)])


def disjoint(_: np.random.Generator) -> Array:
    """Ten held-out sets without a target in common."""
    return np.kron(np.eye(10), np.ones(6)).astype(bool)


def whole(_: np.random.Generator) -> Array:
    """One held-out set of 12 targets, ten seeds."""
    return np.ones((10, 12), bool)


DESIGNS = {"overlapping": overlapping, "disjoint": disjoint, "one set": whole}
# standard deviations of the effect of a target, of a training, and of a single score
EFFECTS = ((1.0, 0.0, 0.0), (1.0, 0.0, 1.0), (1.0, 0.5, 0.5), (0.3, 0.5, 1.0))


def scores(held: Array, effects: tuple[float, float, float], rng: np.random.Generator) -> Array:
    """Differences without any true difference, [sets, targets]; NaN where a target is not held out."""
    target, training, single = effects
    n, p = held.shape
    x = target * rng.normal(size=(1, p)) + training * rng.normal(size=(n, 1)) + single * rng.normal(size=(n, p))
    return np.where(held, x, np.nan)


def naive_bootstrap(x: Array, rng: np.random.Generator, repetitions: int) -> Array:
    """Means of samples of whole rows and whole columns."""
    n, p = x.shape
    drawn = [x[rng.integers(n, size=n)][:, rng.integers(p, size=p)] for _ in range(repetitions)]
    return np.array([np.nanmean(each) for each in drawn if not np.isnan(each).all()])


def test_the_variance_is_that_of_the_crossed_bootstrap_with_single_scores_counted_once() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 1)) + rng.normal(size=(1, 40)) + 3 * rng.normal(size=(30, 40))
    single = np.square(x - x.mean()).sum() / x.size**2
    drawn = naive_bootstrap(x, rng, 3000)
    assert crossed_mean(x).error ** 2 + 2 * single == pytest.approx(drawn.var(), rel=0.1)
    assert crossed_mean(x).mean == pytest.approx(x.mean())


def test_disjoint_sets_of_one_size_have_the_t_interval_of_their_means() -> None:
    x = scores(disjoint(np.random.default_rng(0)), (1.0, 0.5, 0.5), np.random.default_rng(1))
    found, wanted = crossed_mean(x).interval(), mean_interval(np.nanmean(x, axis=1))
    assert (found.mean, found.half) == pytest.approx((wanted.mean, wanted.half))
    assert crossed_mean(x).p == pytest.approx(reference.ttest_1samp(np.nanmean(x, axis=1), 0).pvalue)


def test_seeds_that_agree_have_the_t_interval_of_the_conditions() -> None:
    x = np.repeat(np.random.default_rng(0).normal(size=(1, 9)), 500, axis=0)
    found, wanted = crossed_mean(x).interval(), mean_interval(x[0])
    assert (found.mean, found.half) == pytest.approx((wanted.mean, wanted.half), rel=0.01)


def test_conditions_that_recur_do_not_count_anew() -> None:
    rng = np.random.default_rng(0)
    x = scores(overlapping(rng), (1.0, 0.0, 0.0), rng)
    means = mean_interval(np.nanmean(x, axis=1))
    found = crossed_mean(x).interval()
    assert found.half is not None and means.half is not None and found.half > 1.4 * means.half


@settings(max_examples=60)
@given(st.integers(2, 6), st.integers(2, 6), st.integers(0, 1000), st.floats(0.001, 0.5))
def test_interval_and_p_agree(n: int, p: int, seed: int, alpha: float) -> None:
    x = np.random.default_rng(seed).normal(0.4, 1, size=(n, p))
    found = crossed_mean(x)
    if abs(found.p - alpha) > 1e-6:
        assert found.interval(1 - alpha).excludes(0.0) == (found.p < alpha)
    assert crossed_mean(-7 * x).p == pytest.approx(found.p)
    padded = np.pad(x, 1, constant_values=np.nan)
    assert crossed_mean(padded) == found


@pytest.mark.parametrize("x", [[[1.0]], [[1.0, 2.0]], [[1.0], [2.0]]])
def test_one_unit_or_one_condition_has_no_interval(x: list[list[float]]) -> None:
    found = crossed_mean(x)
    assert found.interval().half is None and found.p == 1.0


def test_no_spread_at_all() -> None:
    assert crossed_mean(np.ones((3, 4))).p == 0.0 and crossed_mean(np.zeros((3, 4))).p == 1.0


@pytest.mark.parametrize("bad", [[1.0, 2.0], [[math.nan]], [[math.inf, 1.0]], np.empty((0, 3))])
def test_bad_values(bad: object) -> None:
    with pytest.raises(ValueError, match="got shape"):
        crossed_mean(bad)  # type: ignore[arg-type]


def test_least_units() -> None:
    assert [least_units(m, 0.05) for m in (1, 3, 12)] == [6, 7, 9]
    for m in (1, 2, 5, 40):
        n = least_units(m, 0.05)
        assert smallest_p(n) * m <= 0.05 < smallest_p(n - 1) * m


def word(found: CrossedMean, p: float) -> str:
    return claim(found.interval(), p).word


@pytest.mark.slow
@pytest.mark.parametrize("effects", EFFECTS)
@pytest.mark.parametrize("design", DESIGNS)
def test_coverage_and_false_claims_without_a_difference(design: str, effects: tuple[float, float, float]) -> None:
    rng, trials, family = np.random.default_rng(0), 1500, 12
    hits = 0
    false = {3: 0, family: 0}
    for _ in range(trials):
        held = DESIGNS[design](rng)
        agents = [crossed_mean(scores(held, effects, rng)) for _ in range(family)]
        hits += sum(not each.interval().excludes(0.0) for each in agents)
        for m in false:
            p = holm([each.p for each in agents[:m]])
            false[m] += any(word(each, q) != "no evidence" for each, q in zip(agents[:m], p, strict=True))
    assert 0.93 <= hits / (family * trials) <= 0.97
    # where units share nothing the test is exactly that of t, so its rate is 5 % and half of all counts are above
    luck = 0.0 if design == "overlapping" else 2.5 * math.sqrt(0.05 * 0.95 / trials)
    assert max(false.values()) / trials <= 0.05 + luck


@pytest.mark.slow
def test_the_t_interval_over_overlapping_sets_covers_too_little() -> None:
    rng = np.random.default_rng(0)
    drawn = [scores(overlapping(rng), (1.0, 0.0, 0.0), rng) for _ in range(1000)]
    covered = np.mean([not mean_interval(np.nanmean(x, axis=1)).excludes(0.0) for x in drawn])
    assert covered < 0.85


@pytest.mark.slow
def test_the_best_of_eight_equal_methods_is_seldom_better_than_a_ninth() -> None:
    rng, trials, false = np.random.default_rng(0), 1000, 0
    for _ in range(trials):
        held = overlapping(rng)
        nine = [scores(held, (1.0, 0.5, 0.5), rng) for _ in range(9)]
        best = max(nine[1:], key=np.nanmean)
        gap = crossed_mean(nine[0] - best)
        false += word(gap, gap.p_against_best(8)) != "no evidence"
    assert false / trials <= 0.05
