"""The real screens: read, split in every way that fits them, checked for leaks and described."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fakes.configs import conditions_config, data_config, description_config, file_config, split_config
from fakes.screens import names

from perturbrl.data.schema import RawCells
from perturbrl.data.sources.file import build
from perturbrl.errors import UserError
from perturbrl.screens.describe import read_prior
from perturbrl.screens.load import load_perturbations
from perturbrl.screens.schema import PerturbationTable

pytestmark = pytest.mark.real_data
FILES = {
    "papalexi": "perturb_papalexi21_thp1/papalexi21_thp1.h5ad",
    "norman_mcfaline": "perturb_norman19_mcfaline23/devel.h5ad",
    "a549": "multiome_scicar_a549_dex/scicar_a549_dex.h5mu",
}


def raw(real_data: Path, name: str) -> RawCells:
    file = real_data / FILES[name]
    if not file.is_file():
        pytest.skip(f"{FILES[name]} is not in the folder of real data sets")
    return build(file_config(file))


def table(real_data: Path, name: str, split: str, data: str = "rna", **changes) -> PerturbationTable:
    return load_perturbations(
        raw(real_data, name),
        data_config(data),
        conditions_config(name),
        split_config(split, **changes),
        description_config(),
    )


@pytest.mark.parametrize("seed", range(3))
def test_papalexi_unseen_single(real_data: Path, seed: int) -> None:
    found = table(real_data, "papalexi", "unseen_single", seed=seed)
    screen, split = found.screen, found.split
    assert screen.x.shape == (16192, 299) and len(screen.conditions) == 26
    assert screen.notes == ("4537 of 20729 cells are left out: guide_confident is not true",)
    assert len(names(screen, split.test)) == 6 and len(names(screen, split.train)) == 15
    assert len(screen.panel_columns) == 9  # the rest of the targets are not among the genes
    assert screen.batches == ("rep_1", "rep_2", "rep_3")
    assert np.isfinite(found.description).all() and not found.description[0].any()


@pytest.mark.parametrize("batch", ["rep_1", "rep_2", "rep_3"])
def test_papalexi_replicate_held_out(real_data: Path, batch: str) -> None:
    split = table(real_data, "papalexi", "unseen_batch", held_out=batch).split
    assert set(split.strata.values()) <= {"batch", "cells"} and len(split.test) > 3000


@pytest.mark.parametrize("kind", ["unseen_single", "combinations", "additive", "unseen_context", "iid_cells"])
def test_norman_and_mcfaline(real_data: Path, kind: str) -> None:
    found = table(real_data, "norman_mcfaline", kind)
    screen = found.screen
    assert len(screen.condition) == 5961 and len(screen.conditions) == 64
    assert {c.context for c in screen.conditions} == {"k562", "A172", "T98G", "U87MG"}
    assert sum(len(c.targets) == 2 for c in screen.conditions) == 15
    strata = Counter(found.split.strata[int(k)] for k in np.unique(screen.condition[found.split.test]))
    expected = {
        "unseen_single": {"single"},
        "combinations": {"single", "seen1", "seen2"},
        "additive": {"seen2"},
        "unseen_context": {"context"},
        "iid_cells": {"cells"},
    }
    assert expected[kind] <= set(strata) <= expected[kind] | {"seen0"}


@pytest.mark.parametrize("context", ["k562", "A172", "T98G", "U87MG"])
def test_each_cell_line_held_out(real_data: Path, context: str) -> None:
    found = table(real_data, "norman_mcfaline", "unseen_context", held_out=context)
    assert len(names(found.screen, found.split.test)) == 9 and found.covariates.shape == (64, 2)


@pytest.mark.parametrize(("data", "features"), [("rna", 1185), ("joint", 1185 + 5000), ("atac", 5000)])
@pytest.mark.parametrize(("direction", "test"), [("extrapolation", "dex@3"), ("interpolation", "dex@1")])
def test_a549_time_as_dose(real_data: Path, data: str, features: int, direction: str, test: str) -> None:
    found = table(real_data, "a549", "unseen_dose", data, direction=direction)
    assert found.screen.x.shape == (2641, features) and names(found.screen, found.split.test) == {test}
    assert [c.name for c in found.screen.conditions] == ["control", "dex@1", "dex@3"]


def test_a_split_that_the_data_cannot_have(real_data: Path) -> None:
    with pytest.raises(UserError, match="papalexi21_thp1 has none"):
        table(real_data, "papalexi", "combinations")
    with pytest.raises(UserError, match=r"needs 2 or more batches \(values of conditions.batch=null\); devel has none"):
        table(real_data, "norman_mcfaline", "unseen_batch")


@pytest.mark.parametrize(
    ("file", "keep", "genes", "alike"),
    [
        ("prior_progeny/progeny_human_top100.csv", {}, 1000, ("OAS1", "IFI6")),
        ("prior_hallmark/h.all.v6.2.symbols.gmt", {}, 4000, ("STAT1", "IRF1")),
        ("prior_dorothea/dorothea_hs.csv.gz", {"confidence": ["A", "B", "C"]}, 5000, ("STAT1", "IRF1")),
    ],
)
def test_priors_say_that_genes_of_one_pathway_are_alike(
    real_data: Path, file: str, keep: dict, genes: int, alike: tuple[str, str]
) -> None:
    if not (real_data / file).is_file():
        pytest.skip(f"{file} is not in the folder of real data sets")
    prior = read_prior(str(real_data / file), 10, keep)
    assert len(prior.rows) > genes and prior.scores.shape == (len(prior.rows), 10)
    unit = prior.scores / np.maximum(np.linalg.norm(prior.scores, axis=1, keepdims=True), 1e-12)
    first, second = (unit[prior.rows[gene]] for gene in alike)
    assert np.mean(unit @ first < second @ first) > 0.8
