"""Attractors, basins and transitions against definitions spelled out over all states of small networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perturbrl.errors import UserError
from perturbrl.landscape import labels
from perturbrl.landscape.attractors import (
    AttractorIndex,
    attractors,
    basins,
    run_to_attractor,
    transition_probabilities,
)
from perturbrl.landscape.boolean import BooleanDynamics, draw_keys, pack, unpack
from perturbrl.landscape.network import Network
from perturbrl.landscape.networks import load
from perturbrl.landscape.symbolic import free_inputs

MYELOID = load("myeloid")
RING = Network({"a": "not c", "b": "a", "c": "b"}, frozenset(), {}, {}, {}, 0.5)
SWITCH = Network({"a": "not b", "b": "not a"}, frozenset(), {}, {}, {}, 0.5)


def network(rules: list[str]) -> Network:
    return Network(dict(zip("abcd", rules, strict=True)), frozenset(), {}, {}, {}, 0.5, "random")


EXPRESSIONS = st.recursive(
    st.sampled_from(["a", "b", "c", "d", "True", "False"]),
    lambda part: st.one_of(
        part.map(lambda x: f"not ({x})"),
        st.tuples(part, st.sampled_from(["and", "or"]), part).map(lambda x: f"({x[0]} {x[1]} {x[2]})"),
    ),
    max_leaves=8,
)
NETWORKS = st.lists(EXPRESSIONS, min_size=4, max_size=4).map(network)


def updates(net: Network) -> dict[int, list[int]]:
    """For each of 2^G states, the state after an update of each gene."""
    images = BooleanDynamics(net).image(unpack(torch.arange(2 ** len(net.genes)), len(net.genes))).tolist()
    n = len(net.genes)
    after = {}
    for state, image in enumerate(images):
        bits = [state >> (n - 1 - g) & 1 for g in range(n)]
        after[state] = [state ^ (int(bits[g] != image[g]) << (n - 1 - g)) for g in range(n)]
    return after


def reachable(after: dict[int, list[int]], state: int) -> set[int]:
    seen, todo = {state}, [state]
    while todo:
        new = set(after[todo.pop()]) - seen
        seen |= new
        todo += new
    return seen


def terminal(net: Network) -> list[set[int]]:
    after = updates(net)
    reach = {state: reachable(after, state) for state in after}
    return [s for _, s in sorted({min(r): r for r in reach.values() if all(reach[x] == r for x in r)}.items())]


@given(NETWORKS)
@settings(max_examples=60, deadline=None)
def test_attractors_are_the_sets_that_are_not_left(net: Network) -> None:
    expected, after = terminal(net), updates(net)
    found = attractors(net)
    assert [set(pack(a.states).tolist()) for a in found] == expected
    for a, states in zip(found, expected, strict=True):
        assert a.n_states == len(states) == len(a.states)
        one_way = all(len({*after[s]} - {s}) == 1 for s in states)
        assert a.kind == ("fixed point" if len(states) == 1 else "cycle" if one_way else "complex")


@given(NETWORKS)
@settings(max_examples=40, deadline=None)
def test_shares_are_the_limit_of_the_chain(net: Network) -> None:
    chain = np.zeros((16, 16))
    for state, targets in updates(net).items():
        for target in targets:
            chain[state, target] += 1 / 4
    limit = np.linalg.matrix_power(chain, 1 << 14)
    found = attractors(net)
    expected = np.stack([limit[:, pack(a.states).numpy()].sum(1) for a in found], axis=1)
    result = basins(net, found)
    assert result.exact
    np.testing.assert_allclose(result.shares, expected.mean(0), atol=1e-9)
    for number in (0, 6, 11):
        alone = basins(net, found, start=unpack(torch.tensor([number]), 4))
        np.testing.assert_allclose(alone.shares, expected[number], atol=1e-9)


def test_the_ring_is_a_cycle_and_the_myeloid_fates_are_fixed_points() -> None:
    (ring,) = attractors(RING)
    assert (ring.kind, ring.n_states) == ("cycle", 6)
    assert {a.kind for a in attractors(MYELOID)} == {"fixed point"}


def test_the_basins_of_the_myeloid_network() -> None:
    """Against an independent computation, in another order of the attractors."""
    shares = basins(MYELOID).shares
    assert sorted(shares.round(3).tolist()) == [0.047, 0.067, 0.126, 0.150, 0.296, 0.313]


PUBLISHED = {
    "toggle": {"TetR state": 0.5, "LacI state": 0.5},
    "cortical": {"posterior": 0.729, "anterior": 0.271},
    "gonadal": {"dysgenetic": None, "granulosa": None, "Sertoli": None},
    "t_helper": {"undecided": None, "Th2": None, "Th1": None},
    "haematopoietic": {"undecided": 0.049, "erythroid": 0.098, "HSPC": 0.853},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_attractors_of_shipped_networks_are_the_published_phenotypes(name: str) -> None:
    """Shares were computed by independent code; inputs are off."""
    net = load(name)
    held = torch.full((len(net.genes),), torch.nan)
    held[[net.genes.index(gene) for gene in free_inputs(net)]] = 0.0
    found = attractors(net, held)
    assert [set(labels.fates(a.states.float(), net).tolist()) for a in found] == [{fate} for fate in PUBLISHED[name]]
    if None not in PUBLISHED[name].values():
        assert basins(net, found, held=held).shares.round(3).tolist() == [*PUBLISHED[name].values()]
    sizes = [a.n_states for a in found]
    assert sizes == ([1, 1, 32] if name == "haematopoietic" else [1] * len(found))


def test_simulated_basins_agree_with_exact_ones() -> None:
    exact = basins(MYELOID)
    simulated = basins(MYELOID, exact_genes=0, n_cells=4000, seed=1)
    assert exact.exact and not simulated.exact
    assert (np.abs(simulated.shares - exact.shares) < 5 * simulated.errors).all()
    assert simulated.shares.sum() == 1
    np.testing.assert_allclose(simulated.errors, np.sqrt(simulated.shares * (1 - simulated.shares) / 4000))


def test_basins_from_a_start() -> None:
    found = attractors(SWITCH)
    assert [a.states.tolist() for a in found] == [[[0, 1]], [[1, 0]]]
    start = torch.tensor([[1, 1], [1, 0]], dtype=torch.uint8)
    assert basins(SWITCH, found, start=start).shares.tolist() == [0.25, 0.75]
    with pytest.raises(UserError, match=r"start: shape is \(2,\); \[states, 2 genes\] is needed"):
        basins(SWITCH, found, start=start[0])


def test_what_is_held_shapes_attractors_and_basins() -> None:
    held = torch.full((11,), torch.nan)
    held[MYELOID.genes.index("Pu1")] = 0.0
    found = attractors(MYELOID, held)
    assert all(a.states[:, MYELOID.genes.index("Pu1")].sum() == 0 for a in found)
    exact = basins(MYELOID, found, held=held)
    assert exact.shares.sum() == pytest.approx(1)
    simulated = basins(MYELOID, found, held=held, exact_genes=0, n_cells=3000)
    assert (np.abs(simulated.shares - exact.shares) <= 5 * simulated.errors).all()


def test_transitions_of_a_switch_by_hand() -> None:
    """From (1, 0) a flip of a gives (0, 0), one of b (1, 1): either ends on each side half the time."""
    result = transition_probabilities(SWITCH)
    assert result.exact
    assert result.probabilities.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    simulated = transition_probabilities(SWITCH, exact_genes=0, n_cells=2000)
    assert np.abs(simulated.probabilities - 0.5).max() < 5 * simulated.errors.max()


def test_an_index_finds_listed_and_sampled_attractors() -> None:
    states = unpack(torch.arange(8), 3)
    whole, sampled = attractors(RING), attractors(RING, most=2)
    assert len(sampled[0].states) == 2
    expected = [0 if k in set(pack(whole[0].states).tolist()) else -1 for k in range(8)]
    assert expected.count(-1) == 2
    for found in (whole, sampled):
        assert AttractorIndex(found).find(states).tolist() == expected
        assert AttractorIndex(found).find(states.reshape(2, 4, 3)).shape == (2, 4)


def test_a_run_to_an_attractor_is_the_cells_own() -> None:
    generator = torch.Generator().manual_seed(4)
    state = torch.randint(2, (300, 11), generator=generator, dtype=torch.uint8)
    key, dynamics, index = draw_keys(300, generator), BooleanDynamics(MYELOID), AttractorIndex(attractors(MYELOID))
    end, which = run_to_attractor(dynamics, index, state, key)
    assert (which >= 0).all()
    assert torch.equal(dynamics.image(end), end)
    alone = run_to_attractor(dynamics, index, state[7:8], key[7:8])
    assert torch.equal(alone[0], end[7:8])
    short = run_to_attractor(dynamics, index, state, key, most_updates=3)
    assert (short[1] < 0).any()
    assert torch.equal(short[0], dynamics.run(state, 3, key))


def test_an_input_is_a_gene_that_keeps_its_value() -> None:
    net = Network({"a": "a", "b": "not b", "c": "a and c", "d": "d and d"}, frozenset(), {}, {}, {}, 0.5)
    assert free_inputs(net) == ("a", "d")
    assert free_inputs(net, torch.tensor([1.0, torch.nan, torch.nan, torch.nan])) == ("d",)


def test_too_large_for_the_exact_solver_is_one_line() -> None:
    names = [f"g{k}" for k in range(14)]
    many = Network({name: name for name in names}, frozenset(), {}, {}, {}, 0.5, "inputs")
    with pytest.raises(
        UserError, match=r"'inputs' of 14 genes: has more than 4096 attractors; hold its 14 free inputs"
    ):
        attractors(many)
    hard = Network({f"g{k}": f"g{(k * 7 + 3) % 60} or not g{(k * 11 + 5) % 60}" for k in range(60)}, *EMPTY, "hard")
    with pytest.raises(
        UserError, match=r"'hard' of 60 genes: too large .* no answer in 0.0001 seconds; hold some genes"
    ):
        attractors(hard, seconds=1e-4)


EMPTY = (frozenset[str](), {}, {}, {}, 0.5)
