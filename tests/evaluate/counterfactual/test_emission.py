from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fakes.configs import SCORE as CONFIG
from fakes.screens import INDUCED, interferon, noisy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from perturbrl.evaluate.counterfactual import Prediction, observe_effects, score
from perturbrl.evaluate.counterfactual.cellwise import CALLED
from perturbrl.evaluate.counterfactual.emission import Emission

DRAWN_LESS = dataclasses.replace(CONFIG, n_duplicates=1)


@pytest.fixture(scope="module")
def stimulated():
    return observe_effects(interferon(contexts=("a", "b"), conditions=("IFNB", "IFNG")), DRAWN_LESS)


@pytest.fixture(scope="module")
def scores(stimulated):
    return score(stimulated, {"no_change": Prediction(np.zeros_like(stimulated.change))})


@pytest.mark.parametrize("screen", ["stimulated", "knocked"])
def test_the_true_mean_passes_in_the_columns_that_need_cells(screen, request):
    """A prediction of means that is perfect must not look like a bad one, nor like its own noise."""
    truth = request.getfixturevalue("stimulated") if screen == "stimulated" else observe_effects(noisy(), DRAWN_LESS)
    found = score(truth, {}).rows
    row, replicate = found["true_mean"], found["technical_duplicate"]
    assert row["direction_fidelity"] > 0.9
    assert row["auprc_de"] > 0.9
    for name in ("de_mcc", "de_jaccard", "f1", "auprc"):
        assert row[name] > max(replicate[name], 0.7), name
    assert abs(row["energy_ratio"]) < 0.05


def test_columns_that_even_the_true_mean_fails_are_told():
    """Effects at the edge of what a test finds: which genes it finds is a matter of noise."""
    weak = score(observe_effects(noisy(strength=0.12, cells=40), DRAWN_LESS), {})
    low = weak.header["low_ceiling"]
    assert "de_jaccard" in low
    assert all((weak.rows["true_mean"][name] < 0.5) == (name in low) for name in CALLED)
    assert any("even for the true mean" in flag and "DE Jaccard" in flag for flag in weak.flags)


def test_columns_that_the_true_mean_passes_are_not(scores):
    assert scores.header["low_ceiling"] == [] and not any("even for" in flag for flag in scores.flags)


def test_induced_genes_have_counts_and_are_tested_and_named(stimulated, scores):
    genes = [stimulated.table.screen.features.index(name) for name in INDUCED]
    x = stimulated.table.screen.x
    for i in range(len(stimulated.conditions)):
        emission = Emission(stimulated)
        predicted = emission.start(i).moved(stimulated.change[i]).toarray()[:, genes] > 0
        observed = x[stimulated.cells[i]].toarray()[:, genes] > 0
        np.testing.assert_allclose(predicted.mean(axis=0), observed.mean(axis=0), atol=0.15)
    named = scores.header["induced_genes"]
    assert named["n"] >= 2 and {"IFIT1", "IFIT3"} <= set(named["names"])
    assert stimulated.table.screen.features[:2] == ("IFIT1", "IFIT3")
    assert scores.metrics.cells.tested[:, genes].all()


def test_what_no_cell_expresses_is_left_out_by_name():
    table = interferon()
    x = table.screen.x.tolil()
    x[:, 7:9] = 0
    screen = dataclasses.replace(table.screen, x=sparse.csr_matrix(x, dtype=np.float32))
    truth = observe_effects(dataclasses.replace(table, screen=screen), DRAWN_LESS)
    left_out = score(truth, {}).header["untested_genes"]
    assert left_out["n"] >= 2
    assert set(left_out["names"]) >= {truth.table.screen.features[7], truth.table.screen.features[8]}


def test_no_change_is_the_control_cells(stimulated):
    emission = Emission(stimulated)
    start = emission.start(0)
    moved = start.moved(np.zeros(start.cells.shape[1]))
    assert (moved != stimulated.table.screen.x[emission.rows(0)]).nnz == 0
    assert len(emission.rows(0)) == stimulated.n_cells[0]


def test_the_same_change_gives_the_same_cells(stimulated):
    change = np.random.default_rng(1).normal(0, 0.3, stimulated.change.shape[1])
    one, other = (Emission(stimulated).start(1).moved(change) for _ in range(2))
    assert (one != other).nnz == 0


@settings(max_examples=30, deadline=None)
@given(
    n_genes=st.integers(8, 40),
    n_cells=st.integers(4, 30),
    strength=st.floats(0.0, 6.0),
    empty=st.integers(0, 4),
    seed=st.integers(0, 1000),
)
def test_cells_are_plausible_and_have_the_predicted_mean(n_genes, n_cells, strength, empty, seed):
    table = noisy(n_genes=n_genes, n_conditions=4, cells=n_cells, n_validation=0, seed=seed)
    x = table.screen.x.toarray()
    x[:, 4 : 4 + empty] = 0
    screen = dataclasses.replace(table.screen, x=sparse.csr_matrix(x))
    truth = observe_effects(dataclasses.replace(table, screen=screen), CONFIG)
    change = np.random.default_rng(seed).normal(0, strength, n_genes)
    cells = Emission(truth).start(0).moved(change).toarray()
    most = np.log1p(2 * np.expm1(x[truth.controls[""]].max()))
    assert cells.min() >= 0 and cells.max() <= most * (1 + 1e-6)
    goal = np.clip(truth.control[0] + change, 0, None)
    reachable = goal < 0.7 * most
    rough = 0.1 * goal + 3 * most / len(cells)  # whole cells gain or lose a gene
    assert (np.abs(cells.mean(axis=0) - goal) <= rough)[reachable].all()
    assert (cells.mean(axis=0)[goal > 3 * most / len(cells)] > 0).all()  # what is induced is there


def test_a_deep_group_of_cells_has_the_predicted_mean():
    truth = observe_effects(interferon(cells=300), CONFIG)
    change = truth.change[0] * np.random.default_rng(0).uniform(0, 1.5, truth.change.shape[1])
    mean = Emission(truth).start(0).moved(change).toarray().mean(axis=0)
    goal = np.clip(truth.control[0] + change, 0, None)
    np.testing.assert_allclose(mean, goal, atol=0.08)
    assert np.corrcoef(mean - truth.control[0], change)[0, 1] > 0.995


def test_cells_that_do_not_vary_are_moved_exactly():
    from fakes.screens import exact

    truth = observe_effects(exact(cells=6), CONFIG)
    change = np.random.default_rng(0).normal(0, 0.2, truth.change.shape[1])
    cells = Emission(truth).start(0).moved(change).toarray()
    np.testing.assert_allclose(cells, np.tile(truth.control[0] + change, (len(cells), 1)), atol=0.02)


def test_a_gene_that_hardly_any_control_expresses_is_not_scaled_beyond_reason():
    table = noisy(cells=10)
    x = table.screen.x.toarray()
    x[:, 50] = 0
    x[table.split.control_test[0], 50] = 0.01
    screen = dataclasses.replace(table.screen, x=sparse.csr_matrix(x))
    truth = observe_effects(dataclasses.replace(table, screen=screen), CONFIG)
    cells = Emission(truth).start(0).moved(np.full(200, 5.0))
    assert np.expm1(cells.data.max()) <= 2.001 * np.expm1(screen.x[truth.controls[""]].max())


def test_features_with_negative_values_are_moved():
    table = noisy(cells=10)
    x = table.screen.x.toarray()
    x[:, 50:] -= 3.0
    screen = dataclasses.replace(table.screen, x=sparse.csr_matrix(x))
    truth = observe_effects(dataclasses.replace(table, screen=screen), CONFIG)
    start = Emission(truth).start(0)
    cells = start.moved(np.full(200, 0.5)).toarray()
    np.testing.assert_allclose(cells[:, 50:], start.cells.toarray()[:, 50:] + 0.5, atol=1e-5)
