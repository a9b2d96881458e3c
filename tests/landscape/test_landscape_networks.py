"""Networks that are shipped, and readers of networks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import biodivine_aeon as aeon
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perturbrl.errors import UserError
from perturbrl.landscape.attractors import attractors, basins
from perturbrl.landscape.boolean import BooleanDynamics, unpack
from perturbrl.landscape.networks import SHIPPED, load
from perturbrl.landscape.networks.files import identifiers, read_model
from perturbrl.landscape.symbolic import free_inputs


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_network_is_whole(name: str) -> None:
    net = load(name)
    assert net.name == name
    assert net.start <= set(net.genes)
    markers = {gene for on, off in [*net.fates.values(), *net.stages.values()] for gene in (*on, *off)}
    assert markers <= set(net.genes)
    assert net.truth_tables
    assert {gene for edge in net.thresholds for gene in edge} <= set(net.genes)


MODELS = {
    "myeloid": "bbm177_myeloid-progenitors.sbml",
    "gonadal": "bbm055_human-gonadal-sex-determination.bnet",
    "cortical": "bbm007_cortical-area-development.bnet",
    "t_helper": "bbm040_t-cell-differentiation.bnet",
    "haematopoietic": "bbm271_blood-stem-cell-heterogeneity.bnet",
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_network_has_the_rules_of_the_public_collection(name: str, real_data: Path) -> None:
    def simple(gene: str) -> str:
        plain = gene.lower().removeprefix("v_").replace("_", "").replace("coupfti", "couptfi")
        return plain.removeprefix("c" if gene == "cJun" else "")

    ours, theirs = load(name), load(real_data / "boolean_models" / MODELS[name])
    order = [[simple(gene) for gene in theirs.genes].index(simple(gene)) for gene in ours.genes]
    assert len(ours.genes) == len(theirs.genes)
    states = torch.randint(2, (20_000, len(order)), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    in_their_order = torch.empty_like(states)
    in_their_order[:, order] = states
    image = BooleanDynamics(theirs).image(in_their_order)[:, order]
    assert torch.equal(BooleanDynamics(ours).image(states), image)


@pytest.mark.real_data
def test_fixed_points_of_the_public_collection(real_data: Path) -> None:
    """As counted in the collection's own tool with every input off."""
    expected = {7: 2, 22: 4, 40: 3, 55: 3, 62: 13, 70: 2, 73: 5, 85: 2, 183: 1, 208: 5, 271: 2, 281: 3}
    counts = {}
    for number in expected:
        (path,) = (real_data / "boolean_models").glob(f"bbm{number:03d}_*.bnet")
        net = load(path)
        held = torch.full((len(net.genes),), torch.nan)
        held[[net.genes.index(gene) for gene in free_inputs(net)]] = 0.0
        counts[number] = sum(a.kind == "fixed point" for a in attractors(net, held))
    assert counts == expected


BASINS = {
    "bbm177_myeloid-progenitors.sbml": [0.047, 0.067, 0.126, 0.150, 0.296, 0.313],
    "bbm007_cortical-area-development.bnet": [0.271, 0.729],
    "bbm271_blood-stem-cell-heterogeneity.bnet": [0.049, 0.098, 0.853],
    "bbm281_emt-switch.bnet": [0.059, 0.156, 0.784],
}


@pytest.mark.real_data
@pytest.mark.parametrize("file", BASINS)
def test_basins_of_the_public_collection(file: str, real_data: Path) -> None:
    """Against absorption probabilities that were solved for by independent code."""
    result = basins(load(real_data / "boolean_models" / file))
    assert result.exact
    assert sorted(result.shares.round(3).tolist()) == BASINS[file]


def test_the_page_about_networks_runs_and_names_what_is_shipped(root: Path) -> None:
    page = (root / "docs" / "networks.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], names)
    assert names["shares"].sum() == pytest.approx(1)
    assert names["ends"].shape == (1000, 11)
    assert not names["ends"][:, load("myeloid").genes.index("Pu1")].any()
    assert names["seen"].shape == (2, 1000, 11)
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [*SHIPPED]


def test_operators_of_a_bnet_file(tmp_path: Path) -> None:
    text = (
        "targets, factors\n# a comment\nmiR-200, !(A & B) | C\nA, A\nB, 1\nC, (A => B) & (A <=> C)\nD, A ^ B\nif, 0\n"
    )
    net = load(write(tmp_path, "x.bnet", text))
    assert net.name == "x"
    assert set(net.genes) == {"miR_200", "A", "B", "C", "D", "if_"}
    for a in (0, 1):
        for c in (0, 1):
            on = {"A": a, "C": c, "B": 1}
            state = torch.tensor([[on.get(gene, 0) for gene in net.genes]], dtype=torch.uint8)
            image = dict(zip(net.genes, BooleanDynamics(net).image(state)[0].tolist(), strict=True))
            expected = {"miR_200": int(not a or c), "A": a, "B": 1, "C": int(a == c), "D": int(a != 1), "if_": 0}
            assert image == expected


EXPRESSIONS = st.recursive(
    st.sampled_from(["a", "b", "c", "d"]),
    lambda part: st.one_of(
        part.map(lambda x: f"!({x})"),
        st.tuples(part, st.sampled_from(["&", "|"]), part).map(lambda x: f"({x[0]} {x[1]} {x[2]})"),
    ),
    max_leaves=12,
)


@given(st.lists(EXPRESSIONS, min_size=4, max_size=4))
@settings(max_examples=50)
def test_a_network_read_is_the_network_in_the_file(tmp_path_factory: pytest.TempPathFactory, rules: list[str]) -> None:
    text = "".join(f"{gene}, {rule}\n" for gene, rule in zip("abcd", rules, strict=True))
    folder = tmp_path_factory.mktemp("networks")
    states = unpack(torch.arange(16), 4)
    expected = [
        [int(eval(rule.replace("!", " not ").replace("&", "and").replace("|", "or"), {}, on)) for rule in rules]
        for on in (dict(zip("abcd", map(bool, state.tolist()), strict=True)) for state in states)
    ]
    model = aeon.BooleanNetwork.from_bnet(text)
    model = model.infer_valid_graph()
    for name, content in (("n.bnet", text), ("n.sbml", model.to_sbml()), ("n.aeon", model.to_aeon())):
        net = read_model(write(folder, name, content))
        assert net.genes == tuple("abcd")
        assert BooleanDynamics(net).image(states).tolist() == expected


def test_a_long_chain_is_read(tmp_path: Path) -> None:
    names = [f"g{k}" for k in range(300)]
    text = "".join(f"{name}, {name}\n" for name in names) + "any, " + " | ".join(names) + "\n"
    net = load(write(tmp_path, "chain.bnet", text))
    assert len(net.regulators[net.genes.index("any")]) == 300


def test_a_gene_without_a_line_is_an_input(tmp_path: Path) -> None:
    net = load(write(tmp_path, "x.bnet", "A, B & !C\nC, A\n"))
    assert net.rules["B"] == "B"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.bnet", "A, A\nB, A & (B\n", r"x\.bnet, line 2: not a network in bnet format: Expected '\)'"),
        ("x.bnet", "", r"x\.bnet: holds no genes"),
        ("x.bnet", "Gata1, Gata1\nB, GATA_1\n", r"'GATA_1' is read by a rule but has no line; did you mean 'Gata1'\?"),
        ("x.sbml", "<sbml><p></sbml>", r"x\.sbml: not a network in sbml format: XML Error"),
        ("x.sbml", "<sbml></sbml>", r"x\.sbml: not a network in sbml format: .*SBML Level3"),
        ("x.aeon", "A -> B\n", r"x\.aeon: gene 'B' has regulators but no rule"),
        ("x.aeon", "A -> B\n$B: f(A)\n", r"x\.aeon: gene 'B': its rule f\(A\) has an open parameter"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(write(tmp_path, name, text))
    assert "\n" not in str(caught.value)


def test_two_genes_of_one_python_name_are_refused() -> None:
    assert identifiers(["miR-200", "9a", "if", "Pu1"], "x") == {
        "miR-200": "miR_200",
        "9a": "_9a",
        "if": "if_",
        "Pu1": "Pu1",
    }
    with pytest.raises(UserError, match=r"x: genes 'a-b' and 'a_b' are both 'a_b'; rename one"):
        identifiers(["a-b", "a_b"], "x")


def test_what_is_no_network(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"network: 'myeloyd' is not known \(did you mean 'myeloid'\?\); choose"):
        load("myeloyd")
    with pytest.raises(UserError, match=r"none\.bnet: cannot be read: No such file"):
        load(tmp_path / "none.bnet")
    (tmp_path / "x.bnet").write_bytes(b"\xff\xfe\x00A")
    with pytest.raises(UserError, match=r"x\.bnet: cannot be read: not UTF-8 text"):
        load(tmp_path / "x.bnet")
