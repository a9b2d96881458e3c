"""Networks from lists of edges."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from perturbrl.errors import UserError
from perturbrl.landscape.boolean import BooleanDynamics
from perturbrl.landscape.networks import load
from perturbrl.landscape.networks.edges import SignedEdge, read_edges, read_network

PLAIN = "source,target,sign\na,t,1\nb,t,+\nc,t,-1\nd,t,repression\nc,u,-\nt,t,1\n"


def write(folder: Path, text: str, name: str = "edges.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_one_activator_suffices_and_one_repressor_vetoes(tmp_path: Path) -> None:
    net = load(write(tmp_path, PLAIN))
    assert net.genes == ("a", "t", "b", "c", "d", "u")
    dynamics = BooleanDynamics(net)
    for on, t, u in (("a", 1, 1), ("b", 1, 1), ("ab", 1, 1), ("t", 1, 1), ("", 0, 1), ("ac", 0, 0), ("btd", 0, 1)):
        state = torch.tensor([[int(gene in on) for gene in net.genes]], dtype=torch.uint8)
        image = dict(zip(net.genes, dynamics.image(state)[0].tolist(), strict=True))
        assert (image["t"], image["u"]) == (t, u), on
        assert all(image[gene] == int(gene in on) for gene in "abcd"), "a gene that nothing regulates is an input"


def test_a_file_in_the_manner_of_dorothea(tmp_path: Path) -> None:
    text = "tf,confidence,target,mor\nGATA1,A,KLF1,1\nSPI1,D,KLF1,-1\nSPI1,C,GATA1,-0.3\n"
    path = write(tmp_path, text)
    assert read_edges(path) == [SignedEdge("GATA1", "KLF1", 1), SignedEdge("SPI1", "GATA1", -1)]
    assert len(read_edges(path, "ABCD")) == 3
    assert read_network(path, "A").rules == {"GATA1": "GATA1", "KLF1": "GATA1"}
    with pytest.raises(UserError, match=r"edges\.csv: has no edge with confidence E"):
        read_edges(path, "E")


def test_an_edge_twice_is_one_edge_and_names_become_python_names(tmp_path: Path) -> None:
    net = load(write(tmp_path, "target\tsource\tsign\nmiR-200\tZEB1\t-1\nmiR-200\tZEB1\t-1\n", "edges.tsv"))
    assert net.rules == {"ZEB1": "ZEB1", "miR_200": "not (ZEB1)"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"the columns are none; source,target,sign or tf,target,mor are needed"),
        ("from,to\na,b\n", r"the columns are from,to; source,target,sign or tf,target,mor are needed"),
        ("source,target,sign\n", r"edges\.csv: has no edge"),
        ("source,target,sign\na,b\n", r"row 2: has 2 cells; the header has 3"),
        ("source,target,sign\na,b,1\n,b,1\n", r"row 3: names no source"),
        ("source,target,sign\na,b,0\n", r"row 2: the sign is '0'; a number other than 0"),
        ("source,target,sign\na,b,nan\n", r"row 2: the sign is 'nan'"),
        ("source,target,sign\na,b,up\n", r"row 2: the sign is 'up'"),
        ("source,target,sign\na,b,1\na,b,-1\n", r"row 3: a -> b has another sign in an earlier row"),
        ("source,target,sign\na-b,c,1\na.b,c,1\n", r"genes 'a-b' and 'a.b' are both 'a_b'"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "signs"),
    [
        ("source,target,sign\nA,B,activation\nB,A,?\n", [1, 0]),
        ("tf,target,mor\nA,B,-0.5\nB,A,\nB,C,0\n", [-1, 0, 0]),
        ("source,target\nA,B\n", [0]),
    ],
)
def test_signs_may_be_missing_where_the_reader_has_others(tmp_path, text, signs):
    (tmp_path / "edges.csv").write_text(text)
    assert [edge.sign for edge in read_edges(tmp_path / "edges.csv", unsigned=True)] == signs
    with pytest.raises(UserError, match="the columns are source,target;|the sign is"):
        read_edges(tmp_path / "edges.csv")


def test_a_sign_that_is_none_is_refused_even_where_signs_may_be_missing(tmp_path):
    (tmp_path / "edges.csv").write_text("source,target,sign\nA,B,up\n")
    with pytest.raises(UserError, match="row 2: the sign is 'up'"):
        read_edges(tmp_path / "edges.csv", unsigned=True)
