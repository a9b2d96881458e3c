from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from perturbrl.stats import Span, iqm, mean_interval, stratified_bootstrap

Array = np.ndarray


def mean(x: Array) -> Array:
    return x.mean(axis=(-2, -1))


def test_the_same_seed_gives_the_same_interval() -> None:
    x = np.random.default_rng(0).normal(size=(5, 8))
    made = [stratified_bootstrap(x, iqm, np.random.default_rng(1)) for _ in range(2)]
    assert made[0] == made[1]


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


@pytest.mark.parametrize("bad", [[1.0, 2.0], [[math.nan]], np.empty((0, 3))])
def test_bad_scores(bad: object) -> None:
    with pytest.raises(ValueError, match="got shape"):
        stratified_bootstrap(bad, iqm, np.random.default_rng(0))  # type: ignore[arg-type]


def test_bad_level() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        stratified_bootstrap([[1.0]], iqm, np.random.default_rng(0), level=95)


def coverage(n: int, draw: Callable[[np.random.Generator, int], Array], trials: int, made: Callable) -> float:
    rng = np.random.default_rng(n)
    hits = 0
    for _ in range(trials):
        found = made(draw(rng, n), rng)
        hits += found.low <= 0.0 <= found.high
    return hits / trials


def separate(rng: np.random.Generator, n: int) -> Array:
    return rng.normal(size=(n, 6))


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
