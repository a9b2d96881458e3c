"""What the changes of a file are measured from: where perturbations do nothing, no form of a file gains by it."""

from __future__ import annotations

import dataclasses

import anndata
import numpy as np
import pandas as pd
import pytest
from fakes.configs import SCORE as CONFIG
from fakes.screens import noisy
from scipy import sparse

from perturbrl.evaluate.counterfactual import Prediction, observe_effects, read_predictions, score
from perturbrl.evaluate.counterfactual.export import CHANGE, write_predictions

COLUMNS = ("pds_cosine", "pearson_delta_pert", "wmse_ratio", "wr2_delta", "pearson_delta_ctrl", "mse_norm", "mse")


@pytest.fixture(scope="module")
def truth():
    """Perturbations that do nothing; at so high a rate of false discoveries that chance makes differential genes."""
    table = noisy(strength=0.0, cells=60, n_conditions=16, seed=4)
    return observe_effects(table, dataclasses.replace(CONFIG, alpha=0.95))


def parts_of(form, truth):
    """Cells or profiles that say that nothing changes: (label, [c, G]) of each condition, and of controls if any."""
    x, split, rng = truth.table.screen.x, truth.table.split, np.random.default_rng(0)
    train, test = split.control_train, truth.controls[""]
    mean = {name: sparse.csr_matrix(x[rows].mean(axis=0)) for name, rows in (("train", train), ("test", test))}
    controls = {
        "means of training controls": (mean["train"], None),
        "means of training controls, which are there": (mean["train"], mean["train"]),
        "means of training controls beside test controls": (mean["train"], x[test]),
        "means of test controls, which are there": (mean["test"], mean["test"]),
        "training controls": (x[rng.permutation(train)], None),
        "training controls, which are there": (x[rng.permutation(train)], x[train]),
        "training controls beside test controls": (x[rng.permutation(train)], x[test]),
        "test controls, which are there": (x[rng.permutation(test)], x[test]),
    }
    cells, own = controls[form]
    return [(name, cells) for name in truth.names] + ([] if own is None else [("control", own)])


def written(file, parts, truth):
    labels = [name for name, x in parts for _ in range(x.shape[0])]
    obs = pd.DataFrame({"condition": labels}, index=[f"p{i}" for i in range(len(labels))])
    x = sparse.csr_matrix(sparse.vstack([x for _, x in parts]), dtype=np.float32)
    anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=list(truth.table.screen.features))).write_h5ad(file)
    return file


FORMS = (
    *("means of training controls", "means of training controls, which are there"),
    *("means of training controls beside test controls", "means of test controls, which are there"),
    *("training controls", "training controls, which are there"),
    *("training controls beside test controls", "test controls, which are there"),
)


@pytest.fixture(scope="module")
def scores(truth, tmp_path_factory):
    folder, nothing = tmp_path_factory.mktemp("forms"), np.zeros_like(truth.change)
    rows = {"no_change": Prediction(nothing)}
    for form in FORMS:
        rows[form] = read_predictions(written(folder / "pred.h5ad", parts_of(form, truth), truth), truth)
    write_predictions(folder / "exported.h5ad", nothing, truth, {})
    rows["exported"] = read_predictions(folder / "exported.h5ad", truth)
    bare = anndata.read_h5ad(folder / "exported.h5ad")
    del bare.varm[CHANGE]
    bare.write_h5ad(folder / "bare.h5ad")
    rows["exported, cells alone"] = read_predictions(folder / "bare.h5ad", truth)
    return score(truth, rows)


@pytest.mark.parametrize("form", [*FORMS, "exported"])
def test_nothing_scores_as_nothing_in_every_form(scores, form):
    found, nothing = scores.rows[form], scores.rows["no_change"]
    for name in COLUMNS:
        assert found[name] == pytest.approx(nothing[name], abs=1e-6), name


@pytest.mark.parametrize("form", [*FORMS, "exported", "exported, cells alone"])
def test_no_form_agrees_with_calls_that_chance_made(scores, form):
    assert scores.header["n_excluded_de"] == 0 and 0.3 < scores.header["de_prevalence"] < 0.9
    assert scores.rows[form]["auprc_de"] == pytest.approx(scores.header["de_prevalence"], abs=0.03)
    assert abs(scores.rows[form]["de_mcc"]) < 0.05 and scores.rows[form]["direction_fidelity"] < 0.1


def test_cells_of_their_own_noise_gain_nothing(scores):
    """Fewer cells than there are controls: their noise is theirs, and makes a score worse if anything."""
    nothing, cells = scores.rows["no_change"], scores.rows["exported, cells alone"]
    assert cells["pearson_delta_pert"] < nothing["pearson_delta_pert"] + 0.05
    assert cells["wmse_ratio"] > nothing["wmse_ratio"] - 0.05


def test_the_reference_is_told(scores):
    told = dict(flag.split(": ", 1) for flag in scores.flags if "measured" in flag)
    assert told["means of training controls"] == "changes are measured from the training controls"
    assert told["means of test controls, which are there"] == "changes are measured from the controls of the file"
    assert told["means of training controls beside test controls"] == "changes are measured from the training controls"


def test_predicted_effects_are_measured_from_the_controls_beside_them(tmp_path):
    truth = observe_effects(noisy(cells=30, seed=2), CONFIG)
    x, train = truth.table.screen.x, truth.table.split.control_train
    change = np.random.default_rng(0).exponential(0.2, truth.change.shape)
    for rows in (train, truth.controls[""]):
        base = sparse.csr_matrix(x[rows].mean(axis=0))
        profile = [(n, sparse.csr_matrix(base + c)) for n, c in zip(truth.names, change, strict=True)]
        found = read_predictions(written(tmp_path / "pred.h5ad", [*profile, ("ctrl", base)], truth), truth)
        np.testing.assert_allclose(found.change, change, atol=1e-5)
    alone = read_predictions(written(tmp_path / "pred.h5ad", profile, truth), truth)
    np.testing.assert_allclose(alone.change + np.asarray(x[train].mean(axis=0)), base.toarray() + change, atol=1e-5)


def test_controls_of_several_contexts_are_those_of_their_label_or_column(tmp_path):
    from fakes.screens import interferon

    truth = observe_effects(interferon(n_genes=60, cells=20, contexts=("a", "b")), CONFIG)
    base = {
        context: sparse.csr_matrix(truth.table.screen.x[rows].mean(axis=0)) for context, rows in truth.controls.items()
    }
    profile = [
        (n, sparse.csr_matrix(base[c] + d)) for n, c, d in zip(truth.names, truth.contexts, truth.change, strict=True)
    ]
    named = [(f"control|{context}", x) for context, x in base.items()]
    found = read_predictions(written(tmp_path / "named.h5ad", profile + named, truth), truth)
    np.testing.assert_allclose(found.change, truth.change, atol=1e-5)
    file = written(tmp_path / "column.h5ad", [*profile, *(("ctrl", x) for x in base.values())], truth)
    unknown = read_predictions(file, truth)
    assert "training controls" in unknown.note
    adata = anndata.read_h5ad(file)
    adata.obs["context"] = [*truth.contexts, *base]
    adata.write_h5ad(file)
    np.testing.assert_allclose(read_predictions(file, truth).change, truth.change, atol=1e-5)
