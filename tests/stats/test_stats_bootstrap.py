from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from perturbrl.stats import Span, crossed_bootstrap, iqm, mean_interval, stratified_bootstrap

Array = np.ndarray


def mean(x: Array) -> Array:
    return x.mean(axis=(-2, -1))


def test_the_same_seed_gives_the_same_interval() -> None:
    x = np.random.default_rng(0).normal(size=(5, 8))
    for made in (lambda g: stratified_bootstrap(x, iqm, g), lambda g: crossed_bootstrap(x, g)):
        assert made(np.random.default_rng(1)) == made(np.random.default_rng(1))


def test_runs_are_drawn_within_their_task() -> None:
    x = np.array([[0.0, 100.0]] * 4)  # no spread within a task: however runs are drawn, the mean stays
    assert stratified_bootstrap(x, mean, np.random.default_rng(0)) == Span(50.0, 50.0, 50.0)


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(4, 3))
    whole = stratified_bootstrap(x, mean, np.random.default_rng(1))
    monkeypatch.setattr("perturbrl.stats.bootstrap._BLOCK", 12 * 7)
    assert stratified_bootstrap(x, mean, np.random.default_rng(1)) == whole


def test_stratified_width_is_that_of_a_mean() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 10))
    found = stratified_bootstrap(x, mean, rng, repetitions=4000)
    half = 1.96 * math.sqrt((x.var(axis=0) / 40).sum()) / 10  # variance of a mean of ten independent means
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.05)
    assert found.mean == pytest.approx(x.mean())


def test_crossed_width_counts_seeds_and_perturbations() -> None:
    rng = np.random.default_rng(0)
    seeds, perturbations = rng.normal(size=(30, 1)), 2 * rng.normal(size=(1, 50))
    found = crossed_bootstrap(seeds + perturbations, rng, repetitions=4000)
    half = 1.96 * math.sqrt(seeds.var() / 30 + perturbations.var() / 50)  # the two add where effects do
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.05)


def test_crossed_resampling_equals_the_loop() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4))
    x[1, 2] = math.nan
    seeds = np.random.default_rng(5).multinomial(3, np.full(3, 1 / 3), size=50)
    rng = np.random.default_rng(5)
    rng.multinomial(3, np.full(3, 1 / 3), size=50)
    columns = rng.multinomial(4, np.full(4, 1 / 4), size=50)
    loop = [np.nanmean(np.repeat(np.repeat(x, s, axis=0), c, axis=1)) for s, c in zip(seeds, columns, strict=True)]
    low, high = np.quantile(loop, [0.025, 0.975])
    found = crossed_bootstrap(x, np.random.default_rng(5), repetitions=50)
    assert (found.low, found.high) == pytest.approx((low, high))


@pytest.mark.parametrize("bad", [[1.0, 2.0], [[math.nan]], np.empty((0, 3))])
def test_bad_scores(bad: object) -> None:
    with pytest.raises(ValueError, match="got shape"):
        stratified_bootstrap(bad, iqm, np.random.default_rng(0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got shape"):
        crossed_bootstrap(bad, np.random.default_rng(0))  # type: ignore[arg-type]


def test_bad_level() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        crossed_bootstrap([[1.0]], np.random.default_rng(0), level=95)


def coverage(n: int, draw: Callable[[np.random.Generator, int], Array], trials: int, made: Callable) -> float:
    rng = np.random.default_rng(n)
    hits = 0
    for _ in range(trials):
        found = made(draw(rng, n), rng)
        hits += found.low <= 0.0 <= found.high
    return hits / trials


def one_policy(rng: np.random.Generator, n: int) -> Array:
    """Scores of n trained policies on 40 perturbations: a seed moves all of its scores by 0.05."""
    return 0.05 * rng.normal(size=(n, 1)) + 0.1 * rng.normal(size=(1, 40)) + 0.1 * rng.normal(size=(n, 40))


def separate(rng: np.random.Generator, n: int) -> Array:
    return rng.normal(size=(n, 6))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "low", "high"), [(3, 0.83, 0.93), (5, 0.88, 0.96), (10, 0.91, 0.97)])
def test_crossed_coverage(n: int, low: float, high: float) -> None:
    found = coverage(n, one_policy, 600, lambda x, rng: crossed_bootstrap(x, rng, repetitions=600))
    assert low < found < high


@pytest.mark.slow
@pytest.mark.parametrize(("n", "low", "high"), [(3, 0.80, 0.93), (5, 0.86, 0.95), (10, 0.90, 0.97)])
def test_stratified_coverage_of_tasks_trained_apart(n: int, low: float, high: float) -> None:
    found = coverage(n, separate, 600, lambda x, rng: stratified_bootstrap(x, iqm, rng, repetitions=400))
    assert low < found < high


@pytest.mark.slow
def test_stratified_covers_less_than_half_inside_one_policy() -> None:
    def same_perturbations(rng: np.random.Generator, n: int) -> Array:
        return 0.05 * rng.normal(size=(n, 1)) + 0.05 * rng.normal(size=(n, 40))

    found = coverage(5, same_perturbations, 400, lambda x, rng: stratified_bootstrap(x, mean, rng, repetitions=400))
    assert found < 0.5
    means = coverage(5, same_perturbations, 400, lambda x, rng: mean_interval(x.mean(axis=1)))
    assert 0.92 < means < 0.98  # what is right: one number a seed, and t
