"""Decision diagrams against the sum over all corners of a truth table."""

from __future__ import annotations

from itertools import product
from random import Random

import torch
from hypothesis import given
from hypothesis import strategies as st

from perturbrl.landscape.diagrams import OFF, ON, Diagram, diagram


def answers(like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros_like(like), torch.ones_like(like)


@given(st.integers(1, 5).flatmap(lambda r: st.lists(st.booleans(), min_size=2**r, max_size=2**r)), st.randoms())
def test_a_diagram_is_the_multilinear_form_of_its_table(table: list[bool], random: Random) -> None:
    r = len(table).bit_length() - 1
    sites = random.sample(range(8), r)
    occupancy = torch.tensor([[random.random() for _ in range(3)] for _ in range(8)], dtype=torch.float64)
    expected = torch.zeros(3, dtype=torch.float64)
    for value, corner in zip(table, product((0, 1), repeat=r), strict=True):
        weight = torch.ones(3, dtype=torch.float64)
        for site, on in zip(sites, corner, strict=True):
            weight *= occupancy[site] if on else 1 - occupancy[site]
        expected += value * weight
    got = diagram(table, sites).evaluate(occupancy.unbind(0), answers(occupancy[0]))
    torch.testing.assert_close(got, expected)
    corners = torch.tensor([*product((0.0, 1.0), repeat=r)]).T
    exact = diagram(table, range(r)).evaluate(corners.unbind(0), answers(corners[0]))
    assert exact.tolist() == [float(value) for value in table]


def test_a_rule_of_twenty_regulators_has_twenty_nodes() -> None:
    any_of = [False] + [True] * (2**20 - 1)
    assert len(diagram(any_of, range(20)).nodes) == 20


def test_a_regulator_without_effect_is_not_asked_and_a_constant_asks_nobody() -> None:
    assert diagram([False, False, True, True], (5, 6)) == Diagram(((5, OFF, ON),), 2)
    assert diagram([True, True], (3,)) == Diagram((), ON)
    assert diagram([False], ()) == Diagram((), OFF)
    assert diagram([True], ()).evaluate([], answers(torch.zeros(2))).tolist() == [1.0, 1.0]


def test_parts_that_are_equal_are_one_node() -> None:
    parity = [sum(bits) % 2 == 1 for bits in product((0, 1), repeat=6)]
    assert len(diagram(parity, range(6)).nodes) == 2 * 6 - 1
