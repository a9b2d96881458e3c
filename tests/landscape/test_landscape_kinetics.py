from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from perturbrl.landscape import kinetics
from perturbrl.landscape.network import Network
from perturbrl.landscape.networks import load

NET = load("myeloid")
CIRCUIT = kinetics.circuit(NET)
levels = st.lists(st.floats(0, 2, width=32), min_size=11, max_size=11).map(lambda x: torch.tensor([x]))


@given(levels)
def test_hill_cube_is_the_sum_over_corners(protein: Tensor) -> None:
    fast = kinetics.network_production(protein, CIRCUIT)[0].tolist()
    for g, (gene, names, table) in enumerate(zip(NET.genes, NET.regulators, NET.truth_tables, strict=True)):
        total = 0.0
        for value, corner in zip(table, product((0, 1), repeat=len(names)), strict=True):
            weight = 1.0
            for name, on in zip(names, corner, strict=True):
                x, k = float(protein[0, NET.genes.index(name)]), NET.threshold(gene, name)
                h = x**4 / (x**4 + k**4)
                weight *= h if on else 1 - h
            total += value * weight
        assert fast[g] == pytest.approx(total, abs=1e-5)


def test_a_gene_with_many_regulators_costs_the_others_nothing_and_reads_its_rule() -> None:
    names = [f"r{k}" for k in range(14)]
    rules = {name: name for name in names} | {"wide": " or ".join(names), "no": f"not ({' and '.join(names)})"}
    net = Network(rules, frozenset(), {}, {}, {("no", "r0"): 0.3}, 0.5)
    circuit = kinetics.circuit(net)
    assert [len(rule.nodes) for rule in circuit.rules] == [1] * 14 + [14, 14]
    assert len(circuit.regulators) == 15  # r0 has two thresholds
    protein = torch.rand(3, 16, generator=torch.Generator().manual_seed(0))
    got = kinetics.network_production(protein, circuit)
    on = kinetics.hill(protein[:, :14], 0.5)
    torch.testing.assert_close(got[:, :14], on)
    torch.testing.assert_close(got[:, 14], 1 - (1 - on).prod(dim=1))
    on[:, 0] = kinetics.hill(protein[:, 0], 0.3)
    torch.testing.assert_close(got[:, 15], 1 - on.prod(dim=1))


def test_blocks_of_cells_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    protein = torch.rand(37, 11, generator=torch.Generator().manual_seed(0))
    whole = kinetics.network_production(protein, CIRCUIT)
    monkeypatch.setattr(kinetics, "CELLS", 5)
    assert torch.equal(kinetics.network_production(protein, CIRCUIT), whole)


def test_saturated_regulators_give_back_the_boolean_rules() -> None:
    for bits in product((0.0, 100.0), repeat=len(NET.genes)):
        if sum(bits) > 300:
            continue
        got = kinetics.network_production(torch.tensor([bits]), CIRCUIT)[0]
        state = {gene: bool(bit) for gene, bit in zip(NET.genes, bits, strict=True)}
        for g, (names, table) in enumerate(zip(NET.regulators, NET.truth_tables, strict=True)):
            row = int("".join(str(int(state[name])) for name in names), 2)
            assert float(got[g]) == pytest.approx(float(table[row]), abs=1e-4)


def test_hill_is_a_half_at_its_threshold() -> None:
    assert kinetics.hill(torch.tensor([0.0, 0.3, 0.6]), 0.3).tolist() == pytest.approx([0, 0.5, 16 / 17])


def test_target_production_by_hand() -> None:
    protein, weights = torch.tensor([[0.5, 100.0]]), torch.tensor([[3.0, 1.0], [0.0, -4.0]])
    want = torch.sigmoid(torch.tensor([0.0, -2.0]))
    torch.testing.assert_close(kinetics.target_production(protein, weights)[0], want)


def test_langevin_amplitude_by_hand() -> None:
    got = kinetics.langevin_amplitude(torch.tensor(0.5), torch.tensor(1.5), tau=0.5, noise=0.1)
    assert float(got) == pytest.approx(0.2)
