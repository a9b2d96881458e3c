from __future__ import annotations

import re
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import pytest

from perturbrl.errors import UserError
from perturbrl.landscape.network import Network, regulators, truth_table
from perturbrl.landscape.networks import load

NET = load("myeloid")


def published_rules() -> dict[str, str]:
    """The rules in scanpy's own copy of Krumsiek et al. 2011, with our spelling of the genes."""
    ours = {gene.lower(): gene for gene in NET.genes}
    rules = {}
    found = find_spec("scanpy")
    assert found is not None and found.origin is not None
    for line in (Path(found.origin).parent / "sim_models" / "krumsiek11.txt").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            text = re.sub(r"[A-Za-z0-9.]+", lambda m: ours.get(m[0].lower().replace(".", ""), m[0]), line)
            gene, rule = text.split("=")
            rules[gene.strip()] = rule.strip()
    return rules


def test_rules_have_the_truth_tables_of_scanpys_file() -> None:
    theirs = published_rules()
    assert set(theirs) == set(NET.genes)
    for gene, rule in theirs.items():
        read = regulators(rule, NET.genes)
        assert NET.regulators[NET.genes.index(gene)] == read
        assert truth_table(NET.rules[gene], read) == truth_table(rule, read)


def update(net: Network, state: frozenset[str]) -> frozenset[str]:
    on = set()
    for gene, names, table in zip(net.genes, net.regulators, net.truth_tables, strict=True):
        row = sum((name in state) << (len(names) - 1 - k) for k, name in enumerate(names))
        if table[row]:
            on.add(gene)
    return frozenset(on)


def test_the_four_fates_are_the_published_steady_states() -> None:
    every = (frozenset(g for g, on in zip(NET.genes, bits, strict=True) if on) for bits in product((0, 1), repeat=11))
    steady = {state for state in every if update(NET, state) == state}
    published = {
        "erythrocyte": {"Gata1", "Fog1", "Eklf", "Scl"},
        "megakaryocyte": {"Gata1", "Fog1", "Fli1", "Scl"},
        "monocyte": {"Cebpa", "Pu1", "cJun", "EgrNab"},
        "granulocyte": {"Cebpa", "Pu1", "Gfi1"},
    }
    assert {frozenset(state) for state in published.values()} <= steady
    for fate, state in published.items():
        matching = [name for name, (on, off) in NET.fates.items() if set(on) <= state and not set(off) & state]
        assert matching == [fate]


def test_truth_table_of_a_rule_by_hand() -> None:
    assert regulators("b and not (c or a)", ("a", "b", "c")) == ("a", "b", "c")
    assert truth_table("b and not (c or a)", ("a", "b", "c")) == (0, 0, 1, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("rule", ["a and", "a + b", "f(a)", "a and 1", "a if b else a"])
def test_what_is_not_a_rule_is_refused(rule: str) -> None:
    with pytest.raises(UserError, match=r"rule .*'and', 'or', 'not'"):
        regulators(rule, ("a", "b"))


def test_unknown_gene_is_named() -> None:
    with pytest.raises(UserError, match=r"'c' is not a gene of the network; genes are a or b"):
        regulators("a and c", ("a", "b"))
