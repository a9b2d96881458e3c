"""Control between attractors: the published-table values of the myeloid network, and a dictionary implementation."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from perturbrl.errors import UserError
from perturbrl.landscape.control.attractors import attractor_control, shortest_paths
from perturbrl.landscape.network import Network
from perturbrl.landscape.networks import load

SWITCHES = {"a": "a and not b", "b": "b and not a", "c": "a or (c and not d)", "d": "not c or (b and d)"}


def network(rules: dict[str, str]) -> Network:
    return Network(rules, frozenset(), {}, {}, {}, 0.5)


@pytest.mark.parametrize(("k", "steps", "n_sure"), [(1, 2.089, 6), (2, 1.260, 17), (3, 1.063, 26)])
def test_the_myeloid_network_gives_the_values_computed_elsewhere(k: int, steps: float, n_sure: int) -> None:
    result = attractor_control(load("myeloid"), k)
    assert result.reachable.sum() == 30
    assert abs(result.mean_steps - steps) < 6e-4
    assert result.n_sure == n_sure


def naive_steps(rules: dict[str, str], k: int) -> dict[tuple[int, int], float]:
    """Expected actions between fixed points: one state, one gene and one action at a time, by plain iteration."""
    genes = list(rules)
    code = [compile(rule, "rule", "eval") for rule in rules.values()]

    def successor(state: tuple[bool, ...], g: int) -> tuple[bool, ...]:
        value = bool(eval(code[g], dict(zip(genes, state, strict=True))))
        return (*state[:g], value, *state[g + 1 :])

    states = [tuple(bool(s >> g & 1) for g in range(len(genes))) for s in range(2 ** len(genes))]
    fixed = [s for s in states if all(successor(s, g) == s for g in range(len(genes)))]
    ends = {s: [float(s == f) for f in fixed] for s in states}
    for _ in range(200):
        for s in states:
            if s not in fixed:
                after = [ends[successor(s, g)] for g in range(len(genes))]
                ends[s] = [sum(column) / len(genes) for column in zip(*after, strict=True)]
    actions = [set(c) for size in range(1, k + 1) for c in combinations(range(len(genes)), size)]
    steps = {}
    for target in range(len(fixed)):
        value = [0.0] * len(fixed)
        for _ in range(300):
            for source in range(len(fixed)):
                if source != target:
                    after = [ends[tuple(on ^ (g in a) for g, on in enumerate(fixed[source]))] for a in actions]
                    value[source] = 1 + min(sum(p * v for p, v in zip(row, value, strict=True)) for row in after)
        for source in range(len(fixed)):
            number = {f: sum(on << g for g, on in enumerate(f)) for f in fixed}
            steps[number[fixed[source]], number[fixed[target]]] = value[source]
    return steps


@pytest.mark.parametrize("k", [1, 2])
def test_four_genes_equal_a_dictionary_implementation(k: int) -> None:
    expected = naive_steps(SWITCHES, k)
    result = attractor_control(network(SWITCHES), k)
    index = [int(states[0]) for states in result.attractors]
    assert len(index) >= 3
    for i, source in enumerate(index):
        for j, target in enumerate(index):
            if expected[source, target] < 100:
                assert result.steps[i, j] == pytest.approx(expected[source, target], abs=1e-6)
            else:
                assert np.isinf(result.steps[i, j])


def test_the_policy_has_the_value_that_it_states() -> None:
    result = attractor_control(load("myeloid"), 1)
    for target in range(6):
        sources = np.flatnonzero(np.arange(6) != target)
        chosen = result.transitions[sources, result.policy[sources, target]]
        expected = 1 + chosen @ result.steps[:, target]
        np.testing.assert_allclose(result.steps[sources, target], expected, atol=1e-9)


def test_a_target_that_no_policy_reaches_surely_is_infinite() -> None:
    # Attractor 0 goes to 1 or, half the time, to 2, from where nothing leads back: 1 cannot be reached surely.
    transitions = np.array([[[0, 0.5, 0.5], [1, 0, 0]], [[0, 1, 0], [0, 1, 0]], [[0, 0, 1], [0, 0, 1]]], float)
    steps, policy = shortest_paths(transitions, np.array([False, True, False]))
    assert np.isinf(steps[[0, 2]]).all() and steps[1] == 0
    assert (policy == -1).all()


def test_bad_sizes_are_one_line() -> None:
    with pytest.raises(UserError, match=r"k: 5 genes flipped at once; 1 to 4 are possible"):
        attractor_control(network(SWITCHES), 5)


TABLE = {
    "bbm177_myeloid-progenitors": ([1] * 6, [0.047, 0.067, 0.126, 0.150, 0.296, 0.313], [2.089, 1.260, 1.063], 30),
    "bbm007_cortical-area-development": ([1, 1], [0.271, 0.729], [2.500, 1.500, 1.000], 2),
    "bbm271_blood-stem-cell-heterogeneity": ([1, 1, 32], [0.049, 0.098, 0.853], [3.395, 1.754, 1.481], 6),
    "bbm281_emt-switch": ([1, 1, 1], [0.059, 0.156, 0.784], [2.148, 6.983, 2.460], 6),
}


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_published_networks_give_the_values_computed_elsewhere(name: str, real_data: Path) -> None:
    sizes, shares, means, n_pairs = TABLE[name]
    network = load(real_data / "boolean_models" / f"{name}.bnet")
    results = [attractor_control(network, k) for k in (1, 2, 3)]
    assert sorted(len(states) for states in results[0].attractors) == sizes
    np.testing.assert_allclose(np.sort(results[0].shares), shares, atol=6e-4)
    np.testing.assert_allclose([result.mean_steps for result in results], means, atol=6e-4)
    assert results[2].reachable.sum() == n_pairs
    if name == "bbm281_emt-switch":
        assert results[0].reachable.sum() == 4
