"""The same case through cell-eval 0.8: where its definitions are those of the notes, the numbers must be the same."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from fakes.configs import SCORE as CONFIG
from fakes.screens import noisy
from scipy import sparse

from perturbrl.evaluate.counterfactual import Prediction, observe_effects, score
from perturbrl.evaluate.counterfactual.differential_expression import AgainstControl
from perturbrl.screens.schema import Condition

pytestmark = pytest.mark.peers
cell_eval = pytest.importorskip("cell_eval")


@pytest.fixture(scope="module")
def case():
    """Targets that are no genes, so that neither masks anything; predicted cells that are half right."""
    made = noisy(cells=40, shift=0.3)
    features = tuple(f"x{g}" for g in range(len(made.screen.features)))
    table = type(made)(
        type(made.screen)(**{**vars(made.screen), "features": features}),
        made.split,
        made.description,
        made.covariates,
        made.seen,
    )
    truth = observe_effects(table, CONFIG)
    rng = np.random.default_rng(0)
    x = table.screen.x
    cells = {}
    for i, c in enumerate(truth.conditions):
        other = truth.cells[(i + 1) % len(truth.cells)]
        own = truth.cells[i]
        cells[int(c)] = sparse.csr_matrix(
            np.where(rng.random((len(own), 1)) < 0.5, x[own].toarray(), x[other].toarray())
        )
    change = np.vstack([np.asarray(cells[int(c)].mean(axis=0)) for c in truth.conditions]) - truth.control
    return truth, Prediction(change.astype(np.float64), cells.__getitem__)


def annotated(truth, parts):
    labels = [name for name, x in parts for _ in range(x.shape[0])]
    obs = pd.DataFrame({"target": pd.Categorical(labels)}, index=[f"c{i}" for i in range(len(labels))])
    var = pd.DataFrame(index=list(truth.table.screen.features))
    return anndata.AnnData(sparse.csr_matrix(sparse.vstack([x for _, x in parts]), dtype=np.float32), obs=obs, var=var)


@pytest.fixture(scope="module")
def results(case, tmp_path_factory):
    truth, prediction = case
    x = truth.table.screen.x
    control = (Condition(()).name, x[truth.controls[""]])
    real = annotated(truth, [control, *((n, x[rows]) for n, rows in zip(truth.names, truth.cells, strict=True))])
    said = annotated(
        truth, [control, *((n, prediction.cells(int(c))) for n, c in zip(truth.names, truth.conditions, strict=True))]
    )
    evaluator = cell_eval.MetricsEvaluator(
        said,
        real,
        control_pert=Condition(()).name,
        pert_col="target",
        num_threads=1,
        outdir=str(tmp_path_factory.mktemp("cell-eval")),
    )
    found, _ = evaluator.compute(
        profile="full", write_csv=False, skip_metrics=["clustering_agreement", "pearson_edistance"], break_on_error=True
    )
    frame = found.to_pandas().set_index("perturbation")
    return frame.loc[list(truth.names)], evaluator


@pytest.fixture(scope="module")
def ours(case):
    truth, prediction = case
    frame = score(truth, {"cells": prediction}).frame
    frame = frame[frame["row"] == "cells"].pivot(index="condition", columns="metric", values="value")
    return frame.loc[list(truth.names)]


@pytest.mark.parametrize("name, theirs", [("mse", "mse"), ("mae", "mae"), ("pearson_delta_ctrl", "pearson_delta")])
def test_profiles(results, ours, name, theirs):
    np.testing.assert_allclose(ours[name], results[0][theirs].astype(float), rtol=1e-4)


def test_discrimination_is_the_same_rank_over_one_less(case, results, ours):
    n = len(case[0].conditions)
    rank = (1 - results[0]["discrimination_score_cosine"].astype(float)) * n
    np.testing.assert_allclose(ours["pds_cosine"], 1 - rank / (n - 1), atol=1e-9)
    assert 0.5 < ours["pds_cosine"].mean() < 1  # a case in which ranks differ


def test_differential_genes(case, results):
    truth, _ = case
    x = truth.table.screen.x
    test = AgainstControl(x[truth.controls[""]], [slice(0, x.shape[1])], 0.05, -1.0)
    table = results[1].de_comparison.real.data.to_pandas()
    agreed = []
    for i, name in enumerate(truth.names):
        own = table[table.iloc[:, 0].astype(str) == name].set_index("feature").loc[list(truth.table.screen.features)]
        calls = test.calls(x[truth.cells[i]], truth.used[i])
        # pdex corrects for continuity: p differs by little, calls at the edge may too
        np.testing.assert_allclose(np.log10(calls.fdr), np.log10(own["fdr"].astype(float)), atol=0.1)
        agreed.append(np.mean(calls.significant == (own["fdr"].astype(float) < 0.05)))
    assert np.mean(agreed) > 0.99
