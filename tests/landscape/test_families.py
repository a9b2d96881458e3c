from __future__ import annotations

from collections import Counter, defaultdict
from itertools import product

import networkx as nx
import numpy as np
import pytest
import torch

from perturbrl.errors import UserError
from perturbrl.landscape import families, labels, markers, wiring
from perturbrl.landscape.boolean import BooleanDynamics, draw_keys
from perturbrl.landscape.families import FAMILIES, generate
from perturbrl.landscape.network import Network
from perturbrl.landscape.simulate import simulate

SIZES = (5, 12, 25)


def graph(network: Network) -> nx.DiGraph:
    edges = [(r, g) for g, names in zip(network.genes, network.regulators, strict=True) for r in names]
    return nx.DiGraph(edges)


def matching(state: list[int], network: Network) -> list[str]:
    on = {gene for gene, bit in zip(network.genes, state, strict=True) if bit}
    return [name for name, (present, absent) in network.fates.items() if set(present) <= on and not on & set(absent)]


@pytest.mark.parametrize(("kind", "n"), product(FAMILIES, SIZES))
def test_a_network_has_its_size_and_several_fates_and_is_its_seeds(kind: str, n: int) -> None:
    network = generate(kind, n, 3)
    assert len(network.genes) == n and len(set(network.genes)) == n and all(g.isidentifier() for g in network.genes)
    assert len(network.fates) >= 2 and network.start and network.name == f"{kind}_{n}_3"
    assert generate(kind, n, 3) == network and generate(kind, n, 4).rules != network.rules


@pytest.mark.parametrize("kind", FAMILIES)
def test_cells_from_the_progenitor_end_in_the_fixed_points_that_the_fates_name(kind: str) -> None:
    network = generate(kind, 12, 1)
    dynamics = BooleanDynamics(network)
    every = torch.tensor(list(product((0, 1), repeat=12)), dtype=torch.uint8)
    fixed = {tuple(row) for row in every[(dynamics.image(every) == every).all(dim=1)].tolist()}
    start = torch.tensor([[int(gene in network.start) for gene in network.genes]], dtype=torch.uint8)
    assert tuple(start[0].tolist()) not in fixed and not matching(start[0].tolist(), network)
    keys = draw_keys(300, torch.Generator().manual_seed(7))  # other draws than those that the network was kept for
    ends = [tuple(row) for row in dynamics.run(start.repeat(300, 1), 600, keys).tolist()]
    named = defaultdict(set)
    for end in ends:
        fates = matching(list(end), network)
        assert len(fates) <= 1
        if end in fixed and fates:
            named[fates[0]].add(end)
    assert set(named) == set(network.fates)
    assert sum(end in fixed and bool(matching(list(end), network)) for end in ends) > 0.9 * 300
    assert all(len(states) == 1 for states in named.values())


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_hill_form_reaches_the_same_fates(kind: str) -> None:
    network = generate(kind, 20, 0)
    free = torch.full((1, 20), torch.nan)
    final = simulate(network, free, 200, torch.Generator().manual_seed(0), noise=0.15).final[0]
    counts = Counter(labels.fates(final, network).tolist())
    assert set(counts) - {labels.UNDECIDED} == set(network.fates)
    assert counts[labels.UNDECIDED] < 0.1 * 200


def test_families_differ_as_their_names_say() -> None:
    graphs = {}
    for kind in FAMILIES:
        draft = wiring.draw(kind, 200, np.random.default_rng(0))
        graphs[kind] = graph(Network(dict(zip(draft.genes, draft.rules, strict=True)), frozenset(), {}, {}, {}, 0.5))
    hubs = {kind: max(dict(graphs[kind].out_degree).values()) for kind in FAMILIES}
    assert hubs["scale_free"] > 1.5 * max(hubs["modular"], hubs["feed_forward"])
    loops = {kind: max(map(len, nx.strongly_connected_components(graphs[kind]))) for kind in FAMILIES}
    assert loops["feed_forward"] == 2 < min(loops["scale_free"], loops["modular"])  # a switch is a loop of two
    n, n_modules = 400, round((400 / 8) ** 0.5)
    reads = wiring._regulators("modular", n, (0,), np.random.default_rng(0))
    inside = [r % n_modules == g % n_modules for g, names in enumerate(reads) for r in names]
    assert np.mean(inside) > 0.7 > 3 / n_modules


def test_rules_are_signed_and_read_every_regulator() -> None:
    draws = np.random.default_rng(0)
    for size in (1, 2, 3, 4, 5):
        for _ in range(30):
            names = [f"a{k}" for k in range(size)]
            network = Network({"x": wiring._rule(names, draws), **{a: a for a in names}}, frozenset(), {}, {}, {}, 0.5)
            assert network.regulators[0] == tuple(names)
            table = np.array(network.truth_tables[0]).reshape((2,) * size)
            for axis in range(size):
                change = np.diff(table.astype(int), axis=axis)
                assert change.any() and (change.min() >= 0 or change.max() <= 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ring", 20, 0), "family: 'ring' is not known; choose feed_forward, modular or scale_free"),
        (("modular", 4, 0), "n_regulators: must be 5 to 500, got 4"),
        (("modular", 501, 0), "n_regulators: must be 5 to 500, got 501"),
        (("modular", 20, -1), "network_seed: must be at least 0, got -1"),
    ],
)
def test_refusals_are_one_line(arguments: tuple[str, int, int], message: str) -> None:
    with pytest.raises(UserError) as caught:
        generate(*arguments)
    assert str(caught.value) == message


def test_no_draw_with_several_fates_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markers, "LEAST_SHARE", 1.1)
    monkeypatch.setattr(families, "N_DRAWS", 2)
    with pytest.raises(UserError, match=r"^family=modular n_regulators=9 network_seed=0: none of 2 draws has several"):
        generate("modular", 9, 0)
