"""Networks written as .bnet, and read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from perturbrl.errors import UserError
from perturbrl.landscape.networks import SHIPPED, bnet, load


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_networks_are_read_as_they_were_written(tmp_path: Path, name: str) -> None:
    network = load(name)
    file = tmp_path / f"{name}.bnet"
    file.write_text(bnet.text(network), encoding="utf-8")
    read = load(file)
    table = dict(zip(network.genes, zip(network.regulators, network.truth_tables, strict=True), strict=True))
    for gene, regulators, values in zip(read.genes, read.regulators, read.truth_tables, strict=True):
        assert set(regulators) == set(table[gene][0]) and sum(values) == sum(table[gene][1])
    assert (set(read.genes), read.start, read.fates) == (set(network.genes), network.start, network.fates)


def test_names_that_look_like_operators_and_negations_of_parentheses() -> None:
    rule = "not (nota or b_and) and not notb or True"
    assert bnet._rule(rule) == "!(nota | b_and) & !notb | true"
    assert bnet._rule("not(a) and not not b") == "!(a) & !!b"


def test_a_fate_may_have_a_colon_and_no_genes(tmp_path: Path) -> None:
    (tmp_path / "n.bnet").write_text("# perturbrl start:\n# perturbrl fate a: b: x !y\n# fate q: z\nx, !y\ny, !x\n")
    network = load(tmp_path / "n.bnet")
    assert network.start == frozenset() and network.fates == {"a: b": (("x",), ("y",))}


def test_an_unknown_gene_of_a_fate_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "n.bnet").write_text("# perturbrl start: x\n# perturbrl fate a: x !z\nx, !y\ny, !x\n")
    with pytest.raises(UserError, match=r"n\.bnet, line 2: 'z' is not a gene of the network$"):
        load(tmp_path / "n.bnet")
