"""Exact control sets by AEON: known sizes of the myeloid network, and agreement with the explicit solver."""

from __future__ import annotations

from itertools import combinations, permutations, product

import pytest

from perturbrl.errors import UserError
from perturbrl.landscape.control.aeon import Problem, control_sets, solve
from perturbrl.landscape.control.attractors import attractor_control
from perturbrl.landscape.network import Network
from perturbrl.landscape.networks import load
from perturbrl.landscape.state_graph import absorption, bottoms, state_graph, unpack

MYELOID = load("myeloid")
FATES = {
    "erythrocyte": {"Gata1", "Eklf", "Fog1", "Scl"},
    "megakaryocyte": {"Gata1", "Fli1", "Fog1", "Scl"},
    "monocyte": {"Pu1", "cJun", "EgrNab"},
    "granulocyte": {"Pu1", "Cebpa", "Gfi1"},
}


def state(on: set[str]) -> dict[str, bool]:
    return {gene: gene in on for gene in MYELOID.genes}


def test_the_36_problems_of_the_myeloid_network() -> None:
    pairs = [(state(FATES[a]), state(FATES[b])) for a, b in permutations(FATES, 2)]
    problems = [Problem(a, b, mode) for mode in ("one_step", "temporary", "permanent") for a, b in pairs]
    sizes = [solution.size for solution in solve(MYELOID, problems)]
    assert len(sizes) == 36
    assert {min(sizes[:12]), max(sizes[:12])} == {1, 4}
    assert {min(sizes[12:24]), max(sizes[12:24])} == {1, 3}


def test_the_least_one_step_set_is_the_least_number_of_flips_that_is_sure() -> None:
    fixed = [int(part[0]) for part in bottoms(state_graph(MYELOID))]
    by_size = [attractor_control(MYELOID, k).steps for k in range(1, 6)]
    states = [dict(zip(MYELOID.genes, unpack(index, 11).tolist(), strict=True)) for index in fixed]
    pairs = list(permutations(range(len(fixed)), 2))
    solutions = solve(MYELOID, [Problem(states[i], states[j], "one_step") for i, j in pairs], time_limit=None)
    for (i, j), solution in zip(pairs, solutions, strict=True):
        sure = [k for k, steps in enumerate(by_size, start=1) if steps[i, j] < 1 + 1e-9]
        assert solution.size == min(sure)


def test_phenotype_sets_equal_an_enumeration_of_held_genes() -> None:
    small = Network(
        {"a": "a and not b", "b": "b and not a", "c": "a or (c and not b)", "d": "not c"},
        frozenset(),
        {},
        {},
        {},
        0.5,
    )
    target = {"c": True, "b": False}
    result = control_sets(small, None, target, "phenotype", max_size=2, time_limit=None)
    surely = set()
    for size in range(3):
        for genes in combinations(range(4), size):
            graph = state_graph(small, frozen=genes)
            ends = bottoms(graph)
            good = [bool((unpack(part, 4)[:, [2, 1]] == [1, 0]).all()) for part in ends]
            share = absorption(graph, ends).probabilities[:, good].sum(1)
            for values in product((0, 1), repeat=size):
                cube = [s for s in range(16) if all(s >> g & 1 == v for g, v in zip(genes, values, strict=True))]
                if (share[cube] == 1).all():
                    surely.add(tuple(sorted((small.genes[g], bool(v)) for g, v in zip(genes, values, strict=True))))
    least = min(map(len, surely))
    assert {tuple(sorted(found.items())) for found in result.smallest} == {s for s in surely if len(s) == least}
    assert sum(result.sets.values()) == len(surely)


def test_an_unreachable_target_has_no_set() -> None:
    wanted = {"Gata1": True, "Pu1": True, "Eklf": True, "Fli1": True}
    result = control_sets(MYELOID, None, wanted, "phenotype", max_size=1, time_limit=None)
    assert result.size is None and result.smallest == ()


def test_a_problem_too_big_for_the_time_limit_is_one_line() -> None:
    with pytest.raises(UserError, match=r"exact control of 11 genes is not done after 0.001 s; name fewer"):
        control_sets(MYELOID, state(FATES["monocyte"]), state(FATES["granulocyte"]), time_limit=0.001)


@pytest.mark.parametrize(
    ("source", "target", "mode", "message"),
    [
        ({"Pu1": True}, {}, "one_step", r"target: names no gene"),
        ({"Pu1": True}, None, "phenotype", r"source: no value of 'Gata2'"),
        (None, {"Pu2": True}, "phenotype", r"target.*'Pu2'"),
        (None, {"Pu1": True}, "temporary", r"mode=temporary needs one source state and one target state"),
        (None, {"Pu1": True}, "forever", r"mode.*'forever'"),
    ],
)
def test_bad_input_is_one_line(source: object, target: object, mode: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        control_sets(MYELOID, source, target or {"Pu1": True} if target is None else target, mode)  # type: ignore[arg-type]


def test_a_rule_may_read_a_gene_that_has_no_effect_in_it() -> None:
    network = Network({"a": "a and (b or not b)", "b": "b or True"}, frozenset(), {}, {}, {}, 0.5)
    result = control_sets(network, None, {"a": True}, "phenotype", time_limit=None)
    assert result.smallest == ({"a": True},)
