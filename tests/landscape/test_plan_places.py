"""What --from and --to mean, and cells of a file as states of a network."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

from perturbrl.errors import UserError
from perturbrl.landscape.network import Network
from perturbrl.landscape.networks import load
from perturbrl.landscape.plan import cells as cell_files
from perturbrl.landscape.plan import places
from perturbrl.landscape.plan.cells import LabelledCells, read_cells
from perturbrl.landscape.plan.settings import settings

from .plan_toy import TOY

MYELOID = load("myeloid")
MOUSE = {"Pu1": "Sfpi1", "Eklf": "Klf1", "Scl": "Tal1", "Fog1": "Zfpm1", "EgrNab": "Egr1"}
ON = {
    "Erythrocytes": {"Gata1", "Fog1", "Eklf", "Scl"},
    "Monocytes": {"Pu1", "cJun", "EgrNab", "Cebpa"},
    "GMP": {"Cebpa", "Pu1", "Gata2"},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Counts of 40 cells of three types; mouse names; no cJun; other genes give every cell the same depth."""
    rng = np.random.default_rng(0)
    genes = [gene for gene in MYELOID.genes if gene != "cJun"]
    labels = np.repeat([*ON], [16, 20, 4])
    mean = np.array([[9.0 if gene in ON[label] else 0.2 for gene in genes] for label in labels])
    counts = np.hstack([rng.poisson(mean), rng.poisson(20, (len(labels), 30))])
    names = [*(MOUSE.get(gene, gene) for gene in genes), *(f"Other{k}" for k in range(30))]
    obs = pd.DataFrame({"cell_type": labels}, index=[f"cell{k}" for k in range(len(labels))])
    path = tmp_path / "cells.h5ad"
    ad.AnnData(counts.astype(np.float32), obs, pd.DataFrame(index=names)).write_h5ad(path)
    return path


def changed(file: Path, **obs: Any) -> Path:
    data = ad.read_h5ad(file)
    data.obs = pd.DataFrame(obs or {"n": np.arange(data.n_obs)}, index=data.obs_names)
    data.write_h5ad(file)
    return file


def test_genes_are_found_by_their_aliases_and_the_coverage_is_reported(file: Path) -> None:
    cells = read_cells(file, MYELOID, settings({"neighbors": 1}))
    assert cells.measured.sum() == 10
    assert cells.notes[0] == "10 of 11 genes of the network are in cells.h5ad."
    assert "Pu1 = Sfpi1" in cells.notes[1]
    assert cells.notes[2] == "Not measured, set by their rules from the others: cJun."


def test_cells_are_on_where_their_type_is(file: Path) -> None:
    cells = read_cells(file, MYELOID, settings({"neighbors": 1}))
    for label, on in ON.items():
        expected = torch.tensor([float(gene in on) for gene in MYELOID.genes])
        share = cells.of(label).float().mean(0)
        clear = torch.tensor([gene in ON["Erythrocytes"] | ON["Monocytes"] - {"cJun"} for gene in MYELOID.genes])
        assert ((share - expected).abs()[clear] < 0.35).all(), label


def test_a_gene_that_is_not_measured_follows_its_rule(file: Path) -> None:
    """The rule of cJun: Pu1 and not Gfi1."""
    states = read_cells(file, MYELOID, settings({"neighbors": 1})).states
    on = {gene: states[:, g].bool() for g, gene in enumerate(MYELOID.genes)}
    assert torch.equal(on["cJun"], on["Pu1"] & ~on["Gfi1"])
    assert on["cJun"].any()


@pytest.mark.parametrize(
    "changes", [{"threshold": "network"}, {"neighbors": 5}, {"neighbors": 12, "components": 1}], ids=str
)
def test_settings_of_binarisation_change_the_states(file: Path, changes: dict[str, Any]) -> None:
    base = {"neighbors": changes["neighbors"]} if "components" in changes else {"neighbors": 1}
    one, other = (read_cells(file, MYELOID, settings(each)) for each in (base, {"neighbors": 1, **changes}))
    assert not torch.equal(one.states, other.states)


def test_start_cells_are_those_of_the_type_and_weighted_by_their_number(file: Path) -> None:
    cells = read_cells(file, MYELOID, settings({"neighbors": 1}))
    question, notes = places.ask(MYELOID, "monocyte", "erythrocyte", settings(), cells)
    assert question.n_cells == 20
    assert question.source == "Monocytes"
    assert question.weights.sum() == pytest.approx(1)
    different = {tuple(state) for state in cells.of("Monocytes").tolist()}
    assert {tuple(state) for state in question.start.tolist()} == different
    assert f"Start: 20 cells Monocytes, {len(different)} different states." in notes
    assert "20 cells are few: the intervals are wide." in notes


def test_attractors_without_names_are_named_by_the_cells_most_like_them(file: Path) -> None:
    bare = dataclasses.replace(MYELOID, fates={}, stages={})
    cells = read_cells(file, bare, settings({"neighbors": 1}))
    question, notes = places.ask(bare, "Monocytes", "Erythrocytes", settings(), cells)
    on = {gene: g for g, gene in enumerate(bare.genes)}
    erythrocyte = torch.tensor([[int(gene in ON["Erythrocytes"]) for gene in bare.genes]])
    assert question.target.contains(erythrocyte).all()
    assert (question.target.patterns[:, on["Pu1"]] != 1).all()
    assert any("is called Erythrocytes: " in note for note in notes)


def test_a_type_of_cells_can_be_the_target_where_fates_have_other_names(file: Path) -> None:
    cells = read_cells(file, MYELOID, settings({"neighbors": 1}))
    cells = dataclasses.replace(cells, labels=np.where(cells.labels == "Erythrocytes", "Red cells", cells.labels))
    question, _ = places.ask(MYELOID, "Monocytes", "red cell", settings(), cells)
    assert question.target.name == "Red cells"
    assert question.target.contains(torch.tensor([[int(g in ON["Erythrocytes"]) for g in MYELOID.genes]])).all()


def test_a_fate_starts_in_its_attractors() -> None:
    question, notes = places.ask(MYELOID, "Monocytes", "attractor 1", settings())
    assert len(question.start) == 2
    assert notes[0] == "Start: the 2 attractors of monocyte, 2 states, equally likely."
    assert question.n_cells is None
    progenitor, _ = places.ask(MYELOID, "progenitor", "monocyte", settings())
    assert {g for g, on in zip(MYELOID.genes, progenitor.start[0].tolist(), strict=True) if on} == MYELOID.start


def test_markers_are_what_every_pattern_of_the_target_fixes() -> None:
    question, _ = places.ask(MYELOID, "monocyte", "erythrocyte", settings())
    assert places.markers(question) == (("Gata1", True), ("Eklf", True), ("Fli1", False), ("Pu1", False))


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("monocyte", "monocyte", "--to: 'monocyte' is where the cells come from"),
        ("monocyte", "monocytes", "is where the cells come from"),
        ("monocyte", "erythrocite", r"--to: 'erythrocite' is no fate of the network \(did you mean 'erythrocyte'"),
        ("monocite", "erythrocyte", r"--from: 'monocite': it is no fate of the network \(did you mean 'monocyte'"),
        ("monocyte", "attractor 9", "there is no 'attractor 9'; the network has 6 attractors"),
        ("granulocyte-monocyte progenitor", "erythrocyte", "no attractor of the network is in it"),
    ],
)
def test_places_that_are_none_are_refused(source: str, target: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        places.ask(MYELOID, source, target, settings())


def test_a_target_in_which_the_start_is_already_is_refused() -> None:
    network = dataclasses.replace(TOY, fates={**TOY.fates, "d": (("D",), ())})
    with pytest.raises(UserError, match="every start state of 'right' is in 'd' already"):
        places.ask(network, "right", "d", settings())


def test_few_cells_and_unknown_types_are_refused(file: Path) -> None:
    cells = read_cells(file, MYELOID, settings({"neighbors": 1}))
    with pytest.raises(UserError, match="--from: .*has 4 cells 'GMP'; 5 are needed"):
        places.ask(MYELOID, "GMP", "monocyte", settings(), cells)
    assert places.ask(MYELOID, "GMP", "monocyte", settings({"least_cells": 4}), cells)[0].n_cells == 4
    with pytest.raises(UserError, match=r"--from: .*has no cells 'Monocytos' \(did you mean 'Monocytes'"):
        places.ask(MYELOID, "Monocytos", "erythrocyte", settings(), cells)
    mixed = np.array(["Mixed" if k in (0, 1, 16, 17) else label for k, label in enumerate(cells.labels)])
    with pytest.raises(UserError, match="no attractor of the network is like the cells 'mixed'"):
        places.ask(MYELOID, "Monocytes", "mixed", settings(), dataclasses.replace(cells, labels=mixed))


def test_enough_cells_are_not_called_few(file: Path) -> None:
    cells = read_cells(file, MYELOID, settings({"neighbors": 1}))
    _, notes = places.ask(MYELOID, "Monocytes", "erythrocyte", settings({"few_cells": 20}), cells)
    assert not any("few" in note for note in notes)


def test_files_without_labels_or_genes_are_refused(file: Path, tmp_path: Path) -> None:
    strange = Network({"X1": "X2", "X2": "X1"}, frozenset(), {}, {}, {}, 0.5)
    with pytest.raises(UserError, match="has 0 of the network's 2 genes"):
        read_cells(file, strange, settings())
    with pytest.raises(UserError, match="cannot be read"):
        read_cells(file, MYELOID, settings(), aliases=tmp_path / "none.csv")
    with pytest.raises(UserError, match="no column of obs names the type of the cells; give --label, one of n"):
        read_cells(changed(file), MYELOID, settings())


def test_a_table_of_aliases_is_used(file: Path, tmp_path: Path) -> None:
    network = Network({"Mine": "Yours", "Yours": "Mine"}, frozenset(), {}, {}, {}, 0.5)
    table = tmp_path / "alias.csv"
    table.write_text("gene,symbols\nmine,Nowhere KLF1\nYours,Gata-1\n")
    cells = read_cells(file, network, settings(), aliases=table)
    assert cells.notes[1] == "By another name: Mine = Klf1, Yours = Gata1."
    table.write_text("gene,symbols\nmine,\n")
    with pytest.raises(UserError, match="row 2: the columns 'gene' and 'symbols' are needed"):
        read_cells(file, network, settings(), aliases=table)


def test_every_shipped_alias_is_of_another_name() -> None:
    assert all(gene not in map(cell_files.plain, names) for gene, names in cell_files.known_aliases().items())


def test_a_gene_with_one_value_is_off_and_reported(file: Path) -> None:
    data = ad.read_h5ad(file)
    data.X[:, list(data.var_names).index("Gfi1")] = 0
    data.write_h5ad(file)
    cells: LabelledCells = read_cells(file, MYELOID, settings({"neighbors": 1}))
    assert "Gfi1: the same value in every cell, counted as off." in cells.notes
    assert not cells.states[:, MYELOID.genes.index("Gfi1")].any()
