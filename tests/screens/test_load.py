from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from fakes.configs import conditions_config, data_config, description_config, split_config
from fakes.screens import made_raw, made_screen
from omegaconf import OmegaConf
from scipy import sparse

from perturbrl import paths
from perturbrl.data.schema import Modality, RawCells
from perturbrl.errors import UserError
from perturbrl.screens import load
from perturbrl.screens.genes import profiles
from perturbrl.screens.load import load_perturbations, load_screen

AUTO = conditions_config()


def joint(raw: RawCells, peaks: int = 6, proteins: int = 4) -> RawCells:
    rng = np.random.default_rng(1)
    more = {
        "atac": Modality(
            sparse.csr_matrix((rng.random((raw.n_cells, peaks)) < 0.5).astype(np.float32)),
            np.array([f"chr1:{k}-{k + 9}" for k in range(peaks)]),
            "binary",
        ),
        "protein": Modality(
            rng.poisson(5.0, (raw.n_cells, proteins)), np.array(["G0", *(f"CD{k}" for k in range(3))]), "counts"
        ),
    }
    return dataclasses.replace(raw, modalities={**raw.modalities, **more})


def test_counts_become_logs_of_counts_per_ten_thousand() -> None:
    raw = made_raw()
    screen = made_screen(raw)
    counts = raw.modalities["rna"].x.toarray().astype(np.float64)
    np.testing.assert_allclose(
        screen.x.toarray(), np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True)), rtol=1e-5
    )
    assert sparse.isspmatrix_csr(screen.x) and screen.x.dtype == np.float32


@pytest.mark.parametrize("modalities", [["rna"], ["rna", "atac"], ["rna", "protein"], ["atac"]])
def test_a_cell_is_read_without_the_others(modalities: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fitted: in pieces, or with other cells beside it, a cell has the same values."""
    raw = joint(made_raw())
    config = data_config(modalities=modalities)
    whole = load_screen(raw, config, AUTO)
    monkeypatch.setattr(load, "CHUNK", 37)
    pieces = load_screen(raw, config, AUTO)
    np.testing.assert_array_equal(whole.x.toarray(), pieces.x.toarray())
    keep = np.arange(raw.n_cells) % 5 != 2
    part = load_screen(
        dataclasses.replace(raw, obs=raw.obs.assign(keep=keep)),
        config,
        dataclasses.replace(AUTO, keep="keep", min_cells=5),
    )
    np.testing.assert_array_equal(part.x.toarray(), whole.x.toarray()[keep])


def test_modalities_stand_side_by_side_under_names_of_their_own() -> None:
    raw = joint(made_raw())
    screen = load_screen(raw, data_config(modalities=["rna", "atac", "protein"], tfidf_scale=100.0), AUTO)
    assert screen.slices == {"rna": slice(0, 12), "atac": slice(12, 18), "protein": slice(18, 22)}
    assert screen.features[18:20] == ("protein:G0", "CD0") and len(set(screen.features)) == 22
    x = screen.x.toarray().astype(np.float64)
    is_open = raw.modalities["atac"].x.toarray()
    share = is_open / np.maximum(is_open.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(x[:, 12:18], np.log1p(100.0 * share), rtol=1e-5)
    logs = np.log1p(raw.modalities["protein"].x)
    np.testing.assert_allclose(x[:, 18:], logs - logs.mean(axis=1, keepdims=True), atol=1e-5)
    assert "no inverse document frequency" in screen.notes[0]
    k = next(k for k, c in enumerate(screen.conditions) if c.name == "G0+G1")
    assert screen.target_columns(k).tolist() == [0, 1, 18]  # the protein of G0 too


def test_values_that_are_logs_already_are_left_alone() -> None:
    raw = made_raw()
    logs = sparse.csr_matrix(np.log1p(raw.modalities["rna"].x.toarray() * 0.3).astype(np.float32))
    modality = Modality(logs, raw.modalities["rna"].features, "log")
    screen = made_screen(dataclasses.replace(raw, modalities={"rna": modality}))
    np.testing.assert_array_equal(screen.x.toarray(), logs.toarray())
    assert screen.notes == ()


@pytest.mark.parametrize(("kind", "changes"), [("continuous", {}), ("counts", {"log1p": False})])
def test_what_is_no_log_is_told(kind: str, changes: dict) -> None:
    raw = made_raw()
    modality = dataclasses.replace(raw.modalities["rna"], kind=kind)
    screen = load_screen(dataclasses.replace(raw, modalities={"rna": modality}), data_config(**changes), AUTO)
    assert screen.notes == (f"rna is {kind}, not a log of counts: scores on it are not comparable",)


def test_bad_input_is_one_line() -> None:
    raw = made_raw()
    with pytest.raises(UserError, match="data=atac: source made has no atac; choose another data="):
        load_screen(raw, data_config("atac"), AUTO)
    x = raw.modalities["rna"].x.copy()
    x.data[7] = np.nan
    modality = dataclasses.replace(raw.modalities["rna"], x=x)
    with pytest.raises(UserError, match="rna has NaN or infinite values in 1 of"):
        made_screen(dataclasses.replace(raw, modalities={"rna": modality}))


def test_from_a_source_to_a_table() -> None:
    table = load_perturbations(
        made_raw(), data_config(), AUTO, split_config("combinations"), description_config(components=3)
    )
    p = len(table.screen.conditions)
    assert table.description.shape[0] == table.covariates.shape[0] == p == 17
    assert table.seen.sum() == len(table.conditions_of(table.split.train)) + 1
    means, present = profiles(table.screen, table.split.test)
    for mean, k in zip(means, present, strict=True):
        cells = table.split.test[table.screen.condition[table.split.test] == k]
        np.testing.assert_allclose(mean, table.screen.x[cells].toarray().astype(np.float64).mean(axis=0), rtol=1e-6)


def test_every_choice_of_conditions_binds_and_says_its_name() -> None:
    for file in sorted((Path(paths.conf_dir()) / "conditions").glob("*.yaml")):
        assert conditions_config(file.stem).name == file.stem == OmegaConf.load(file).name
