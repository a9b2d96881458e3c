from __future__ import annotations

import dataclasses

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy
from fakes.configs import SCORE as CONFIG
from fakes.screens import exact, noisy

from perturbrl.effects.observed import sample
from perturbrl.effects.profile_metrics import weights
from perturbrl.errors import UserError
from perturbrl.evaluate.counterfactual import observe_effects


@pytest.fixture(scope="module")
def table():
    return noisy(cells=20)


def dense(table, rows):
    return table.screen.x[rows].toarray().astype(np.float64)


def test_changes_are_means_of_test_cells_less_test_controls(table):
    truth = observe_effects(table, CONFIG)
    assert len(truth.conditions) == 12
    control = dense(table, table.split.control_test)
    for i, c in enumerate(truth.conditions):
        own = dense(table, table.split.test[table.screen.condition[table.split.test] == c])
        np.testing.assert_allclose(truth.change[i], own.mean(axis=0) - control.mean(axis=0), atol=1e-9)
        np.testing.assert_allclose(truth.control[i], control.mean(axis=0), atol=1e-9)
        error = own.var(axis=0, ddof=1) / len(own) + control.var(axis=0, ddof=1) / len(control)
        assert truth.noise[i] == pytest.approx(error[truth.used[i]].sum())
        assert truth.n_cells[i] == len(own)
        assert truth.effect_size[i] == pytest.approx(np.linalg.norm(truth.change[i][truth.used[i]]))


def test_the_noise_is_the_jackknife_of_the_mean(table):
    cells = dense(table, table.split.test[:20])
    n = len(cells)
    without = (cells.sum(axis=0) - cells) / (n - 1)
    jackknife = (n - 1) / n * np.square(without - without.mean(axis=0)).sum()
    assert (cells.var(axis=0, ddof=1) / n).sum() == pytest.approx(jackknife)


def test_weights_are_those_of_scanpy(table):
    truth = observe_effects(table, CONFIG)
    rows = np.concatenate([table.split.test, table.split.control_test])
    names = [table.screen.conditions[c].name for c in table.screen.condition[rows]]
    cells = anndata.AnnData(table.screen.x[rows].astype(np.float64), obs=pd.DataFrame({"p": pd.Categorical(names)}))
    cells.obs_names = [str(i) for i in range(len(rows))]
    cells.var_names = list(table.screen.features)
    cells.uns["log1p"] = {"base": None}
    scanpy.tl.rank_genes_groups(cells, "p", method="t-test_overestim_var", reference="rest")
    scores = []
    for name in truth.names:
        frame = scanpy.get.rank_genes_groups_df(cells, name).set_index("names")
        scores.append(frame.loc[list(table.screen.features), "scores"].to_numpy())
    np.testing.assert_allclose(truth.weights, weights(np.array(scores), truth.used), rtol=2e-3, atol=1e-6)


def test_own_targets_are_not_used_and_panel_targets_discriminate_nothing(table):
    truth = observe_effects(table, CONFIG)
    for i, c in enumerate(truth.conditions):
        (target,) = table.screen.conditions[c].targets
        assert np.flatnonzero(~truth.used[i]).tolist() == [table.screen.features.index(target)]
    assert np.flatnonzero(~truth.panel_free).tolist() == list(range(24))


def test_the_centre_reads_training_cells_only(table):
    truth = observe_effects(table, CONFIG)
    x = table.screen.x.copy()
    keep = np.zeros(x.shape[0], dtype=bool)
    keep[np.concatenate([table.split.train, table.split.control_train])] = True
    x.data[np.repeat(~keep, np.diff(x.indptr))] *= 3
    other = dataclasses.replace(table, screen=dataclasses.replace(table.screen, x=x))
    np.testing.assert_array_equal(observe_effects(other, CONFIG).centre, truth.centre)
    assert not np.allclose(observe_effects(other, CONFIG).change, truth.change)


def test_contexts_have_their_own_controls():
    table = exact(contexts=("a", "b"))
    truth = observe_effects(table, CONFIG)
    assert set(truth.contexts) == {"a", "b"}
    for i, context in enumerate(truth.contexts):
        own = [
            k for k in table.split.control_test if table.screen.conditions[table.screen.condition[k]].context == context
        ]
        np.testing.assert_allclose(truth.control[i], dense(table, own).mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("empty, said", [("test", "no perturbed cells"), ("control_test", "no control cells")])
def test_nothing_to_score(table, empty, said):
    split = dataclasses.replace(table.split, **{empty: np.empty(0, dtype=np.int64)})
    with pytest.raises(UserError, match=said):
        observe_effects(dataclasses.replace(table, split=split), CONFIG)


def test_sample_draws_no_cell_twice():
    rows = np.arange(10, 20)
    for n in (10, 30):
        np.testing.assert_array_equal(sample(rows, n, 0, "x"), rows)
    few = sample(rows, 6, 0, "x")
    assert len(set(few)) == 6 and set(few) <= set(rows)
    np.testing.assert_array_equal(few, sample(rows, 6, 0, "x"))
    assert not np.array_equal(few, sample(rows, 6, 1, "x"))
