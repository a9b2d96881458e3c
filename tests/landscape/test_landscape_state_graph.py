"""Attractors and absorption probabilities of asynchronous Boolean networks, against dense matrices and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from perturbrl.errors import UserError
from perturbrl.landscape.network import Network, truth_table
from perturbrl.landscape.networks import load
from perturbrl.landscape.state_graph import Hitting, absorption, bottoms, pack, state_graph, unpack


def network(rules: dict[str, str]) -> Network:
    return Network(rules, frozenset(), {}, {}, {}, 0.5)


def random_network(n_genes: int, seed: int) -> Network:
    rng = np.random.default_rng(seed)
    genes = [f"g{i}" for i in range(n_genes)]
    rules = {}
    for gene in genes:
        a, b, c = rng.choice(genes, 3, replace=False)
        rules[gene] = (
            f"{rng.choice(['', 'not '])}{a} {rng.choice(['and', 'or'])} (not {b} {rng.choice(['and', 'or'])} {c})"
        )
    return network(rules)


def update_matrix(net: Network) -> np.ndarray:
    """[N, N]: the probabilities of one update, one state and one gene at a time."""
    n_genes = len(net.genes)
    matrix = np.zeros((2**n_genes, 2**n_genes))
    for index in range(2**n_genes):
        state = [index >> g & 1 for g in range(n_genes)]
        for g, (rule, names) in enumerate(zip(net.rules.values(), net.regulators, strict=True)):
            row = int("".join(str(state[net.genes.index(name)]) for name in names) or "0", 2)
            new = [*state[:g], int(truth_table(rule, names)[row]), *state[g + 1 :]]
            matrix[index, sum(on << i for i, on in enumerate(new))] += 1 / n_genes
    return matrix


def reachability(matrix: np.ndarray) -> np.ndarray:
    reach = (matrix > 0) | np.eye(len(matrix), dtype=bool)
    for _ in range(len(matrix).bit_length() + 1):
        reach = (reach.astype(np.float32) @ reach.astype(np.float32)) > 0
    return reach


@pytest.mark.parametrize("seed", range(6))
def test_attractors_and_absorption_equal_a_dense_computation(seed: int) -> None:
    net = random_network(6, seed)
    matrix = update_matrix(net)
    reach = reachability(matrix)
    classes = {tuple(np.flatnonzero(reach[s])) for s in range(64) if (reach[s] <= reach[:, s]).all()}
    graph = state_graph(net)
    found = bottoms(graph)
    assert sorted(classes) == [tuple(part) for part in found]
    result = absorption(graph, found)
    long_run = np.linalg.matrix_power(matrix, 1 << 14)
    expected = np.stack([long_run[:, part].sum(1) for part in found], axis=1)
    np.testing.assert_allclose(result.probabilities, expected, atol=1e-9)
    assert result.error <= 1e-9


@pytest.mark.parametrize("seed", [0, 1, 5])
def test_the_value_where_a_walk_first_stops_equals_a_dense_computation(seed: int) -> None:
    graph = state_graph(random_network(6, seed))
    stops = np.concatenate(bottoms(graph))
    values = np.random.default_rng(1).normal(size=64)
    chain = update_matrix(random_network(6, seed))
    chain[stops] = np.eye(64)[stops]
    result, error = Hitting(graph, stops).expectation(values)
    np.testing.assert_allclose(result, np.linalg.matrix_power(chain, 1 << 14) @ values, atol=1e-9)
    assert error <= 1e-9


def test_grouped_columns_are_sums_of_single_ones() -> None:
    graph = state_graph(load("myeloid"))
    attractors = bottoms(graph)
    single = absorption(graph, attractors).probabilities
    grouped = absorption(graph, attractors, [0, 1, 0, 1, 1, 0]).probabilities
    np.testing.assert_allclose(grouped[:, 0], single[:, [0, 2, 5]].sum(1), atol=1e-9)


def test_basins_of_the_myeloid_network_from_uniform_starts() -> None:
    graph = state_graph(load("myeloid"))
    attractors = bottoms(graph)
    assert [len(part) for part in attractors] == [1] * 6
    shares = np.sort(absorption(graph, attractors).probabilities.mean(0))
    np.testing.assert_allclose(shares, sorted([0.047, 0.126, 0.067, 0.313, 0.296, 0.150]), atol=5e-4)


def test_expectation_after_one_update_equals_the_dense_matrix() -> None:
    net = random_network(6, 3)
    values = np.random.default_rng(0).normal(size=64)
    np.testing.assert_allclose(state_graph(net).after_update(values), update_matrix(net) @ values)


def test_frozen_genes_keep_their_value() -> None:
    graph = state_graph(network({"a": "b", "b": "a"}), frozen=[0])
    assert [list(part) for part in bottoms(graph)] == [[0], [3]]
    np.testing.assert_array_equal(absorption(graph, bottoms(graph)).probabilities[[1, 2]], [[0, 1], [1, 0]])


def test_constants_and_inputs() -> None:
    graph = state_graph(network({"x": "x", "y": "x or not x"}))
    assert [list(part) for part in bottoms(graph)] == [[2], [3]]


def test_indices_round_trip() -> None:
    states = unpack(np.arange(32), 5)
    np.testing.assert_array_equal(pack(states), np.arange(32))
    assert unpack(5, 4).tolist() == [1, 0, 1, 0]


def test_a_network_too_big_is_one_line() -> None:
    with pytest.raises(UserError, match=r"23 genes are too many for the exact solver.*at most 22"):
        state_graph(network({f"g{i}": f"g{i}" for i in range(23)}))
