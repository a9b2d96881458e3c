"""Exported predictions are plausible cells, and score as the run that wrote them."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
from fakes.configs import SCORE
from fakes.screens import interferon
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perturbrl.errors import UserError
from perturbrl.evaluate.counterfactual import Prediction, observe_effects, read_predictions, score
from perturbrl.evaluate.counterfactual.export import CHANGE, write_predictions
from perturbrl.metrics_info import HELD_OUT

CONFIG = SCORE.__class__(**{**vars(SCORE), "n_duplicates": 0, "n_components": 5})


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n_genes=st.integers(7, 40),
    n_cells=st.integers(4, 24),
    contexts=st.sampled_from([("",), ("a", "b"), ("b cell", "t/nk", "x|y")]),
    conditions=st.sampled_from([("IFNB",), ("IFNB", "g/1", "y z")]),
    strength=st.sampled_from([0.0, 0.3, 3.0, 50.0]),
    seed=st.integers(0, 99),
)
def test_cells_are_plausible_and_the_round_trip_gives_the_scores(
    tmp_path, n_genes, n_cells, contexts, conditions, strength, seed
):
    truth = observe_effects(interferon(n_genes, n_cells, conditions, contexts, seed), CONFIG)
    change = truth.change + np.random.default_rng(seed).normal(0, strength, truth.change.shape)
    write_predictions(tmp_path / "pred.h5ad", change, truth, {"run": "made"})
    scores = score(truth, {"run": Prediction(change), "file": read_predictions(tmp_path / "pred.h5ad", truth)})
    for name in HELD_OUT:
        np.testing.assert_array_equal(scores.values["run"][name], scores.values["file"][name], err_msg=name)

    adata = anndata.read_h5ad(tmp_path / "pred.h5ad")
    x, control = adata.X.toarray(), np.asarray(adata.obs["is_control"])
    assert np.isfinite(x).all() and x.min() >= 0
    # twice the highest expression of a control is log 2 more
    assert x.max() <= x[control].max() + np.log(2) + 1e-4
    for name, context, goal in zip(truth.names, truth.contexts, truth.control + change, strict=True):
        cells = x[np.asarray(adata.obs["condition"] == name)]
        assert len(cells) == truth.n_compared(truth.names.index(name))
        # what is predicted to rise is there, though no control may have it
        assert (cells[:, goal > 4 * x.max() / len(cells)].max(axis=0, initial=0) > 0).all()
        assert (cells[:, goal <= 0] == 0).all(), context
    assert set(adata.obs["perturbation"][control]) == {"control"}


@pytest.fixture(scope="module")
def truth():
    return observe_effects(interferon(n_genes=50, cells=20, conditions=("IFNB", "IFNG")), CONFIG)


@pytest.fixture
def exported(truth, tmp_path):
    write_predictions(tmp_path / "pred.h5ad", truth.change, truth, {"run": "made"})
    return tmp_path / "pred.h5ad"


def test_the_cells_alone_say_nearly_what_the_changes_say(truth, exported):
    adata = anndata.read_h5ad(exported)
    del adata.varm[CHANGE]
    adata.write_h5ad(exported)
    scores = score(truth, {"run": Prediction(truth.change), "cells": read_predictions(exported, truth)})
    for name in ("pds_cosine", "pearson_delta_ctrl", "de_mcc", "direction_fidelity", "energy_ratio"):
        assert scores.rows["cells"][name] == pytest.approx(scores.rows["run"][name], abs=0.1), name


def test_genes_and_cells_in_another_order_are_the_same_file(truth, exported):
    adata = anndata.read_h5ad(exported)
    rng = np.random.default_rng(0)
    adata = adata[rng.permutation(adata.n_obs), rng.permutation(adata.n_vars)].copy()
    adata.write_h5ad(exported)
    np.testing.assert_array_equal(read_predictions(exported, truth).change, truth.change)


def test_changes_that_are_not_those_of_the_cells_are_refused(truth, exported):
    adata = anndata.read_h5ad(exported)
    adata.X = adata.X * 0.9
    adata.write_h5ad(exported)
    with pytest.raises(UserError, match=r"stored with other cells of condition 'IFNB'.*remove varm") as error:
        read_predictions(exported, truth)
    assert "\n" not in str(error.value)
    del adata.varm[CHANGE]
    adata.write_h5ad(exported)
    assert read_predictions(exported, truth).cells is not None


@pytest.mark.parametrize("fault, said", [("short", "varm"), ("nan", "damaged"), ("names", "no changes of condition")])
def test_damaged_changes_are_refused_in_one_line(truth, exported, fault, said):
    adata = anndata.read_h5ad(exported)
    if fault == "short":
        adata.varm[CHANGE] = adata.varm[CHANGE][:, :1]
    if fault == "nan":
        adata.varm[CHANGE] = adata.varm[CHANGE] * np.nan
    if fault == "names":
        adata.uns["perturbrl"]["conditions"] = np.array(["IFNB", "other"], dtype=object)
    adata.write_h5ad(exported)
    with pytest.raises(UserError, match=said) as error:
        read_predictions(exported, truth)
    assert "\n" not in str(error.value)
