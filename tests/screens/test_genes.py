from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fakes.configs import data_config, description_config
from fakes.screens import GENES, made_raw, made_screen, made_split
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.decomposition import PCA

from perturbrl.errors import UserError
from perturbrl.screens import genes, schema
from perturbrl.screens.describe import describe
from perturbrl.screens.genes import gene_embedding, pca_basis, profiles, select, training_rows
from perturbrl.screens.schema import Screen, ScreenSplit


@pytest.fixture(scope="module")
def screen() -> Screen:
    return made_screen()


@pytest.fixture(scope="module")
def split(screen: Screen) -> ScreenSplit:
    return made_split(screen)


def with_test_cells_changed(screen: Screen, split: ScreenSplit) -> Screen:
    """The same screen, but for the expression of every cell that is not for training."""
    x = screen.x.toarray()
    others = np.setdiff1d(np.arange(len(x)), training_rows(split))
    x[others] = np.random.default_rng(0).exponential(5.0, (len(others), x.shape[1]))
    return dataclasses.replace(screen, x=sparse.csr_matrix(x))


@settings(max_examples=8)
@given(st.integers(1, 12), st.integers(0, 99))
def test_what_is_selected_and_described_does_not_depend_on_other_cells(count: int, seed: int) -> None:
    screen = made_screen()
    split = made_split(screen, seed=seed)
    changed = with_test_cells_changed(screen, split)
    config = data_config(n_features={"rna": count})
    a, b = select(screen, split, config), select(changed, split, config)
    assert a.features == b.features and a.slices == b.slices
    described = [describe(s, split, description_config()) for s in (a, b)]
    np.testing.assert_array_equal(described[0].description, described[1].description)
    np.testing.assert_array_equal(described[0].covariates, described[1].covariates)


def test_selection_keeps_the_most_variable_genes_and_the_perturbed_ones(screen: Screen, split: ScreenSplit) -> None:
    chosen = select(screen, split, data_config(n_features={"rna": 1}))
    assert set(GENES[:8]) <= set(chosen.features) and len(chosen.features) < len(GENES) + 1
    columns = [screen.features.index(f) for f in chosen.features]
    assert columns == sorted(columns) and chosen.slices == {"rna": slice(0, len(columns))}
    np.testing.assert_array_equal(chosen.x.toarray(), screen.x.toarray()[:, columns])


def test_nothing_is_selected_when_nothing_is_asked_for(screen: Screen, split: ScreenSplit) -> None:
    assert select(screen, split, data_config(select="none")) is screen
    assert select(screen, split, data_config(n_features={"rna": None})) is screen
    with pytest.raises(UserError, match="mutual_information needs pseudotime"):
        select(screen, split, data_config(select="mutual_information"))


def test_a_gene_that_training_cells_never_show_is_left_out(screen: Screen, split: ScreenSplit) -> None:
    x = screen.x.toarray()
    x[training_rows(split), 0] = 0.0
    silent = dataclasses.replace(screen, x=sparse.csr_matrix(x))
    assert "G0" not in select(silent, split, data_config()).features
    x[training_rows(split)] = 0.0
    with pytest.raises(UserError, match="no rna feature varies over the"):
        select(dataclasses.replace(screen, x=sparse.csr_matrix(x)), split, data_config(n_features={"rna": 3}))


def test_means_of_groups_equal_a_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = sparse.random(50, 7, 0.4, format="csr", random_state=0, dtype=np.float32)
    rows, group = rng.permutation(50)[:30], rng.integers(0, 5, 30)
    group[group == 3] = 2
    monkeypatch.setattr(schema, "CHUNK", 8)
    means = schema.group_means(x, rows, group, 6)
    for k in range(6):
        own = x.toarray()[rows[group == k]].astype(np.float64)
        if len(own):
            np.testing.assert_allclose(means[k], own.mean(axis=0), rtol=1e-12)
        else:
            assert np.isnan(means[k]).all()


def test_the_gene_embedding_is_that_of_its_definition(screen: Screen, split: ScreenSplit) -> None:
    """PCA of genes x training profiles, each profile centred over genes, unscaled: scikit-learn's scores."""
    rows = training_rows(split)
    x = screen.x.toarray().astype(np.float64)
    present = np.unique(screen.condition[rows])
    pseudobulk = np.stack([x[rows[screen.condition[rows] == k]].mean(axis=0) for k in present])
    means, indices = profiles(screen, rows)
    np.testing.assert_array_equal(indices, present)
    np.testing.assert_allclose(means, pseudobulk, rtol=1e-6)
    assert any(screen.conditions[k].is_control for k in present)
    expected = PCA(n_components=4, svd_solver="full").fit_transform(pseudobulk.T)
    found = gene_embedding(screen, split, 4)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-5, atol=1e-6)
    assert (found[np.abs(found).argmax(axis=0), np.arange(4)] > 0).all()
    assert gene_embedding(screen, split, 99).shape == (len(GENES), min(len(GENES), len(present)))


@pytest.mark.parametrize("most_dense", [4096, 1])
def test_the_basis_is_that_of_a_pca(
    screen: Screen, split: ScreenSplit, most_dense: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(genes, "MOST_DENSE", most_dense)
    monkeypatch.setattr(genes, "CHUNK", 64)
    rows = training_rows(split)
    mean, basis = pca_basis(screen, rows, 3)
    reference = PCA(n_components=3, svd_solver="full").fit(screen.x[rows].toarray().astype(np.float64))
    np.testing.assert_allclose(mean, reference.mean_, rtol=1e-6)
    np.testing.assert_allclose(np.abs(basis), np.abs(reference.components_), atol=1e-5)
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=1e-10)


def test_a_basis_of_few_cells_is_the_same_for_the_same_seed(screen: Screen, split: ScreenSplit) -> None:
    rows = training_rows(split)
    a, b, c = (pca_basis(screen, rows, 2, most_cells=40, seed=s)[1] for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert pca_basis(screen, rows[:3], 10)[1].shape == (2, len(GENES))


def test_columns_of_perturbed_genes() -> None:
    screen = made_screen(made_raw(labels=("G3_ko", "G3_ko+G1_oe", "elsewhere")), effects={"_ko": -1.0, "_oe": 1.0})
    by_name = {c.name: screen.target_columns(k).tolist() for k, c in enumerate(screen.conditions)}
    assert by_name == {"control": [], "G3_ko": [3], "G1_oe+G3_ko": [1, 3], "elsewhere": []}
    assert screen.panel_columns.tolist() == [1, 3]
    assert (screen.gene_of("G1_oe"), screen.sign_of("G1_oe"), screen.sign_of("G3_ko")) == ("G1", 1.0, -1.0)
    assert (screen.gene_of("elsewhere"), screen.sign_of("elsewhere")) == ("elsewhere", 1.0)
