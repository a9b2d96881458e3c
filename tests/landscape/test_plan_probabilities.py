"""Probabilities of a plan: exact ones against brute force, simulated ones against exact ones, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from perturbrl.landscape.networks import load
from perturbrl.landscape.plan.exact import Exact
from perturbrl.landscape.plan.search import all_sets
from perturbrl.landscape.plan.simulated import Simulated
from perturbrl.stats import wilson

from .plan_toy import GENES, brute_force, toy_question

START = [(1, 1, 0, 0), (0, 1, 0, 1), (0, 1, 0, 1)]
SETS = list(all_sets(GENES, 2))


@pytest.mark.parametrize("duration", ["flip", "held", "permanent"])
def test_exact_probabilities_equal_brute_force(duration: str) -> None:
    q = toy_question(START)
    shares = Exact(q, duration).shares(SETS)
    expected = np.array([[brute_force(START, one, duration)[name] for name in q.names] for one in SETS])
    np.testing.assert_allclose(shares, expected, atol=1e-8)
    assert len(np.unique(expected[:, 0].round(6))) >= 5, "the toy tells sets apart"


def test_an_attractor_of_many_states_has_its_stationary_distribution() -> None:
    """With A off and C on, B copies D, and D goes off when both are on: B is on 3/5 of the time, in 2 of 4 states."""
    q = toy_question([(0, 0, 1, 0)], target="right")
    held = (("A", False), ("C", True))
    assert Exact(q, "permanent").shares([held])[0, 0] == pytest.approx(3 / 5)


@pytest.mark.parametrize("duration", ["flip", "held", "permanent"])
def test_simulation_agrees_with_the_exact_probabilities(duration: str) -> None:
    q, n_runs = toy_question(START), 1000
    exact, simulated = (e.shares(SETS) for e in (Exact(q, duration), Simulated(q, duration, n_runs, 40, seed=0)))
    error = np.sqrt(exact * (1 - exact) / n_runs)
    assert (np.abs(simulated - exact) <= 4.5 * error + 1e-9).all()


def test_intervals_cover_the_exact_probability_as_often_as_they_say() -> None:
    q = toy_question(START)
    sets = [one for one in SETS if 0.02 < Exact(q, "held").shares([one])[0, 0] < 0.98]
    exact = Exact(q, "held").shares(sets)[:, 0]
    inside = []
    for seed in range(30):
        spans = [wilson(p, 100, 0.9) for p in Simulated(q, "held", 100, 20, seed).shares(sets)[:, 0]]
        inside.append([span.low <= p <= span.high for span, p in zip(spans, exact, strict=True)])
    covered = np.mean(inside)
    # Starts are stratified, so the intervals may be somewhat too wide, and are never too narrow.
    assert 0.87 <= covered <= 0.99


def test_a_run_does_not_depend_on_the_other_sets() -> None:
    q = toy_question(START)
    together = Simulated(q, "held", 200, 20, seed=3).shares(SETS)
    alone = Simulated(q, "held", 200, 20, seed=3).shares(SETS[7:8])
    np.testing.assert_array_equal(alone[0], together[7])


def test_noise_leads_out_of_an_attractor_and_synchronous_updates_are_not_random() -> None:
    settled = [(0, 1, 0, 1)]
    shares = [
        Simulated(toy_question(settled), "flip", 400, 30, seed=0, noise=noise).shares([()])[0, 0]
        for noise in (0.0, 0.3)
    ]
    assert shares[0] == 0
    assert shares[1] > 0.05
    race = toy_question([(1, 1, 0, 0)])
    assert 0.05 < Simulated(race, "flip", 400, 30, seed=0).shares([()])[0, 0] < 0.95
    assert Simulated(race, "flip", 400, 30, seed=0, update="synchronous").shares([()])[0, 0] in (0.0, 1.0)


def test_sure_sets_of_the_myeloid_network_are_those_of_aeon() -> None:
    from perturbrl.landscape.control.aeon import control_sets
    from perturbrl.landscape.fate_task import Fate
    from perturbrl.landscape.plan.outcomes import question

    network = load("myeloid")
    names = {"source": {"Pu1", "cJun", "EgrNab", "Cebpa"}, "target": {"Gata1", "Fog1", "Eklf", "Scl"}}
    source, target = ({gene: gene in on for gene in network.genes} for on in names.values())
    pattern = torch.tensor([[int(target[gene]) for gene in network.genes]], dtype=torch.int8)
    start = torch.tensor([[int(source[gene]) for gene in network.genes]])
    fate = Fate("erythrocyte", pattern)
    q = question(network, start, "monocyte", fate, [fate])
    sets = list(all_sets(network.genes, 2))
    for duration, mode in (("flip", "one_step"), ("held", "temporary")):
        sure = Exact(q, duration).shares(sets)[:, 0] > 1 - 1e-9
        ours = {n: sum(s for s, one in zip(sure, sets, strict=True) if len(one) == n) for n in (1, 2)}
        known = control_sets(network, source, target, mode, max_size=2, time_limit=None)
        assert ours == {n: known.sets.get(n, 0) for n in (1, 2)}, mode
