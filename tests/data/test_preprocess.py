from __future__ import annotations

import dataclasses
import warnings

import anndata
import numpy as np
import pytest
import scanpy as sc
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from perturbrl.data import pseudotime as pseudotime_module
from perturbrl.data.preprocess import (
    CentredLogRatio,
    DepthNormalize,
    KeepFeatures,
    Log1p,
    Standardize,
    TfIdf,
    select_features,
    transform,
)
from perturbrl.data.preprocess.steps import dense, varies
from perturbrl.data.pseudotime import diffusion_pseudotime, pseudotime
from perturbrl.data.schema import Modality
from perturbrl.errors import UserError
from tests.data.made_cells import configs, made_cells

COUNTS = hnp.arrays(np.int64, (7, 5), elements=st.integers(0, 50))


@given(COUNTS)
def test_depth_normalisation_gives_every_cell_the_same_sum_and_keeps_empty_cells(x):
    y = DepthNormalize(1e4).apply(x)
    np.testing.assert_allclose(y.sum(1), np.where(x.sum(1) > 0, 1e4, 0), rtol=1e-5)
    np.testing.assert_allclose(y * x.sum(1, keepdims=True), x * y.sum(1, keepdims=True), rtol=1e-4)


@given(COUNTS)
def test_tf_idf_equals_loops_over_cells_and_peaks(x):
    train, scale = x[:5], 100.0
    expected = np.zeros(x.shape)
    for i in range(x.shape[0]):
        for g in range(x.shape[1]):
            n_open = sum(train[:, g] > 0)
            if x[i, g] > 0 and n_open:
                expected[i, g] = np.log(1 + scale * (1 / sum(x[i] > 0)) * (len(train) / n_open))
    np.testing.assert_allclose(TfIdf.fit(train, scale).apply(x), expected, rtol=1e-5)


def test_tf_idf_reads_counts_binary_and_weights_alike():
    x = np.random.default_rng(0).poisson(1.0, (9, 6))
    step = TfIdf.fit(x, 1e4)
    for other in ((x > 0).astype(np.int8), x * 0.3):
        np.testing.assert_array_equal(TfIdf.fit(other, 1e4).idf, step.idf)
        np.testing.assert_array_equal(step.apply(other), step.apply(x))


@given(COUNTS)
def test_centred_log_ratio_rows_sum_to_zero_and_keep_log_ratios(x):
    y = CentredLogRatio().apply(x)
    np.testing.assert_allclose(y.sum(1), 0, atol=1e-4)
    np.testing.assert_allclose(y[:, 1] - y[:, 0], np.log((1 + x[:, 1]) / (1 + x[:, 0])), atol=1e-5)


@pytest.mark.parametrize("fit", [lambda x: DepthNormalize(1e4), lambda x: Log1p(), lambda x: TfIdf.fit(x, 1e4)])
def test_sparse_input_stays_sparse_gives_the_same_and_is_not_changed(fit):
    x = np.random.default_rng(1).poisson(0.7, (12, 8))
    held = sparse.csr_matrix(x)
    y = fit(held).apply(held)
    assert sparse.issparse(y) and y.dtype == np.float32
    np.testing.assert_allclose(y.toarray(), fit(x).apply(x), rtol=1e-6)
    np.testing.assert_array_equal(held.toarray(), x)


@given(hnp.arrays(np.float32, (8, 3), elements=st.floats(-100, 100, width=16)))
def test_standardised_training_cells_have_mean_0_and_sd_1_or_are_constant_0(x):
    step = Standardize.fit(x)
    y = step.apply(x)
    constant = (x == x[0]).all(0)
    assert (y[:, constant] == 0).all() and (step.sd[constant] == 1).all()
    np.testing.assert_allclose(y[:, ~constant].mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(y[:, ~constant].std(0), 1, atol=1e-4)


def test_a_constant_feature_keeps_its_distance_in_new_cells():
    step = Standardize.fit(np.full((4, 1), 0.1, np.float32))
    np.testing.assert_allclose(step.apply(np.array([[2.1]], np.float32)), 2.0, rtol=1e-6)


def test_highly_variable_genes_are_those_scanpy_flags():
    rng = np.random.default_rng(0)
    x = sparse.csr_matrix(np.log1p(rng.negative_binomial(1, 1 / (1.3 + rng.gamma(1, 3, 200)), (150, 200))).astype("f4"))
    assert varies(x).all()
    kept = KeepFeatures.fit_dispersion(x, 40).columns
    cells = anndata.AnnData(x)
    flags = sc.pp.highly_variable_genes(cells, n_top_genes=40, flavor="seurat", inplace=False)["highly_variable"]
    np.testing.assert_array_equal(kept, np.flatnonzero(flags))


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
def test_variance_selection_ranks_by_variance_and_breaks_ties_by_position(make):
    x = np.random.default_rng(0).poisson(2.0, (30, 6)).astype("f4")
    x[:, 5] = x[:, 2] * 3
    x[:, 1] = x[:, 5]
    np.testing.assert_array_equal(KeepFeatures.fit_variance(make(x), 1).columns, [1])
    expected = np.sort(np.argsort(-x.var(0), kind="stable")[:4])
    np.testing.assert_array_equal(KeepFeatures.fit_variance(make(x), 4).columns, expected)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
def test_mutual_information_finds_what_depends_on_time_without_correlating(make):
    rng = np.random.default_rng(0)
    time = rng.random(300)
    x = rng.normal(10, 5, (300, 6)).astype("f4")
    x[:, 3] = (time - 0.5) ** 2
    x[:, 4] = 7
    kept = KeepFeatures.fit_mutual_information(make(x), time, 1, seed=0)
    np.testing.assert_array_equal(kept.columns, [3])


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
def test_constant_features_are_never_kept(make):
    x = np.random.default_rng(0).poisson(2.0, (20, 5)).astype("f4")
    x[:, 1], x[:, 4] = 0.1, 0
    np.testing.assert_array_equal(varies(make(x)), [True, False, True, True, False])
    for count in (None, 4):
        for fit in (KeepFeatures.fit_variance, KeepFeatures.fit_dispersion):
            np.testing.assert_array_equal(fit(make(x), count).columns, [0, 2, 3])


def rna(x, kind):
    return Modality(x, np.array([f"g{i}" for i in range(x.shape[1])]), kind)


@pytest.mark.parametrize("as_sparse", [True, False])
def test_rna_counts_are_scaled_and_logged_and_logs_are_left_alone(as_sparse):
    x = made_cells(as_sparse=as_sparse, modalities=("rna",)).modalities["rna"].x
    data, _, _ = configs()
    y = dense(transform("rna", rna(x, "counts"), data, np.arange(40), "made"))
    counts = dense(x).astype(float)
    np.testing.assert_allclose(y, np.log1p(1e4 * counts / counts.sum(1, keepdims=True)), rtol=1e-5)
    for kind in ("log", "continuous", "binary"):
        np.testing.assert_array_equal(dense(transform("rna", rna(x, kind), data, np.arange(40), "made")), counts)


def test_protein_is_centred_only_when_it_is_counts():
    data, _, _ = configs("cite")
    x = made_cells().modalities["protein"].x
    assert np.abs(transform("protein", rna(x, "counts"), data, np.arange(40), "m").sum(1)).max() < 1e-4
    np.testing.assert_array_equal(dense(transform("protein", rna(x, "log"), data, np.arange(40), "m")), x.toarray())


@pytest.mark.parametrize("as_sparse", [True, False])
@pytest.mark.parametrize(("bad", "stage"), [(-5.0, "after preprocessing"), (np.nan, "as read"), (np.inf, "as read")])
def test_values_that_are_not_finite_are_told_with_feature_and_row(bad, stage, as_sparse):
    x = np.ones((6, 4))
    x[3, 2] = bad
    modality = rna(sparse.csr_matrix(x) if as_sparse else x, "counts")
    data = dataclasses.replace(configs()[0], target_sum=None)
    with pytest.raises(UserError, match=rf"{stage}: rna has NaN or infinite values in 1 of 6 cells.*'g2' of row 3"):
        transform("rna", modality, data, np.arange(4), "made")


def test_nan_in_atac_is_not_taken_for_a_closed_peak():
    x = np.ones((6, 4))
    x[5, 1] = np.nan
    with pytest.raises(UserError, match="as read: atac has NaN"):
        transform("atac", rna(x, "binary"), configs("atac")[0], np.arange(4), "made")


@pytest.mark.parametrize("select", ["hvg", "mutual_information"])
def test_no_feature_left_is_an_error(select):
    data = dataclasses.replace(configs()[0], select=select)
    with pytest.raises(UserError, match=f"data.select={select}: no rna feature is left: all 3 are constant over the 5"):
        select_features("rna", np.ones((5, 3), "f4"), rna(np.ones((5, 3)), "counts"), data, np.arange(5.0), 0)


def arc(n, seed=0):
    rng = np.random.default_rng(seed)
    t = rng.random(n)
    return t, np.column_stack([np.cos(3 * t), np.sin(3 * t), 0.02 * rng.normal(size=(n, 2))]).astype("f4")


def naive_dpt(x, root, k):
    """Haghverdi et al. 2016, by the matrix of accumulated transitions M = (I - T + psi0 psi0^T)^-1 - I."""
    n = len(x)
    d = np.sqrt(((x[:, None].astype(float) - x[None]) ** 2).sum(-1))
    near = np.array([[j for j in np.argsort(d[i]) if j != i][:k] for i in range(n)])
    s2 = np.array([np.median(d[i, near[i]]) for i in range(n)]) ** 2
    kernel = np.eye(n)
    for i in range(n):
        for j in near[i]:
            w = np.sqrt(2 * np.sqrt(s2[i] * s2[j]) / (s2[i] + s2[j])) * np.exp(-(d[i, j] ** 2) / (s2[i] + s2[j]))
            kernel[i, j] = kernel[j, i] = w
    q = kernel.sum(1)
    w = kernel / np.outer(q, q)
    z = w.sum(1)
    t = w / np.sqrt(np.outer(z, z))
    psi0 = np.sqrt(z / z.sum())
    m = np.linalg.inv(np.eye(n) - t + np.outer(psi0, psi0)) - np.eye(n)
    out = np.sqrt(((m[root] - m) ** 2).sum(1))
    return out / out.max()


def test_diffusion_pseudotime_equals_the_accumulated_transition_matrix():
    _, x = arc(40)
    rows = np.arange(40)
    got = diffusion_pseudotime(x, rows, rows[:0], root=7, n_pcs=50, n_neighbors=8, n_components=39, seed=0)
    np.testing.assert_allclose(got, naive_dpt(x, 7, 8), atol=1e-5)


def scanpy_dpt(x, root, n_neighbors, n_components):
    """Pseudotime by scanpy, which counts the cell itself as a neighbour and the stationary state as a component."""
    cells = anndata.AnnData(np.asarray(x, dtype=np.float32))
    sc.pp.neighbors(cells, n_neighbors=n_neighbors + 1, method="gauss", knn=True, use_rep="X")
    sc.tl.diffmap(cells, n_comps=n_components + 1)
    cells.uns["iroot"] = root
    sc.tl.dpt(cells, n_dcs=n_components + 1)
    return cells.obs["dpt_pseudotime"].to_numpy()


def without_diagonal(kernel):
    """Take from a kernel the weight of a cell on itself, which scanpy does not have."""
    return kernel - sparse.diags(kernel.diagonal())


@pytest.mark.parametrize("case", ["curve", "blood cells"])
def test_diffusion_pseudotime_agrees_with_scanpy(case, monkeypatch):
    if case == "curve":
        x = arc(300)[1]
    else:
        x = PCA(30, random_state=0).fit_transform(sc.datasets.pbmc68k_reduced().raw.X.toarray())
    rows = np.arange(len(x))
    expected = scanpy_dpt(x, 0, 15, 10)
    got = diffusion_pseudotime(x, rows, rows[:0], 0, 50, 15, 10, seed=0)
    assert spearmanr(got, expected).statistic > 0.99
    kernel = pseudotime_module._kernel
    monkeypatch.setattr(pseudotime_module, "_kernel", lambda *graph: without_diagonal(kernel(*graph)))
    got = diffusion_pseudotime(x, rows, rows[:0], 0, 50, 15, 10, seed=0)
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_diffusion_pseudotime_orders_a_curve_and_test_cells_by_their_neighbours():
    t, x = arc(400)
    train, test = np.arange(0, 320), np.arange(320, 400)
    root = int(t[train].argmin())
    got = diffusion_pseudotime(x, train, test, root, 50, 10, 10, seed=0)
    assert got[root] == 0 and got[train].max() == 1
    order, truth = got.argsort().argsort(), t.argsort().argsort()
    assert np.corrcoef(order[train], truth[train])[0, 1] > 0.99
    assert np.corrcoef(order[test], truth[test])[0, 1] > 0.99
    near = np.argsort(((x[test[0]] - x[train]) ** 2).sum(1))[:10]
    np.testing.assert_allclose(got[test[0]], got[train][near].mean(), rtol=1e-5)


def test_many_cells_take_their_pseudotime_from_a_graph_of_some(monkeypatch):
    monkeypatch.setattr("perturbrl.data.pseudotime.GRAPH_CELLS", 100)
    searched = []
    plain = NearestNeighbors.kneighbors

    def kneighbors(search, x=None, *args, **kwargs):
        searched.append((search.n_samples_fit_, search.n_samples_fit_ if x is None else len(x)))
        return plain(search, x, *args, **kwargs)

    monkeypatch.setattr(NearestNeighbors, "kneighbors", kneighbors)
    t, x = arc(400)
    train, test = np.arange(0, 320), np.arange(320, 400)
    root = int(t[train].argmin())
    with pytest.warns(UserWarning, match="made of 100 of the 320 training cells"):
        got = diffusion_pseudotime(x, train, test, root, 50, 10, 10, seed=0)
    assert searched == [(100, 100), (100, 300)], "never all cells against all"
    assert got[root] == 0 and got.max() == 1
    assert np.corrcoef(got.argsort().argsort(), t.argsort().argsort())[0, 1] > 0.98


def test_cells_that_no_path_joins_to_the_root_come_last_with_a_warning():
    _, x = arc(60)
    far = np.concatenate([x, x[:20] + 100])
    rows = np.arange(80)
    with pytest.warns(UserWarning, match="20 of 80 training cells are not joined to the root"):
        got = diffusion_pseudotime(far, rows, rows[:0], 0, 50, 6, 10, seed=0)
    assert (got[60:] == 1).all() and got[:60].min() == 0


def test_identical_cells_do_not_break_diffusion_pseudotime():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        got = diffusion_pseudotime(np.ones((30, 4), "f4"), np.arange(25), np.arange(25, 30), 0, 50, 5, 10, seed=0)
    assert np.isfinite(got).all()


def times(raw, **changed):
    data = dataclasses.replace(configs()[0], **changed)
    x = dense(raw.modalities["rna"].x).astype("f4")
    return pseudotime(raw, x, data, np.arange(40), np.arange(40, 60), seed=0)


def test_row_obs_and_dpt_pseudotime_and_what_the_presets_mean():
    raw = made_cells()
    np.testing.assert_array_equal(times(raw, pseudotime="row"), np.arange(60))
    np.testing.assert_array_equal(times(raw, preset="released"), np.arange(60))
    np.testing.assert_array_equal(times(raw, pseudotime="obs"), raw.obs["pseudotime"])
    np.testing.assert_array_equal(times(raw), times(raw, pseudotime="dpt"))
    assert times(raw)[0] == 0
    assert times(raw, root="cell9")[9] == 0 and times(raw, root="cell9")[0] > 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"root": "cell99"}, "data.root: no cell of made is called 'cell99'; cell names look like 'cell0'"),
        ({"root": "cell50"}, "data.root: 'cell50' is a test cell under this split"),
        ({"dpt_neighbors": 40}, "data.dpt_neighbors: 40 neighbours need more than 40 training cells; there are 40"),
    ],
)
def test_what_diffusion_pseudotime_refuses(changed, said):
    with pytest.raises(UserError) as error:
        times(made_cells(), **changed)
    assert said in str(error.value)


def test_a_pseudotime_column_must_be_there_complete_and_numeric():
    raw = made_cells()
    without = dataclasses.replace(raw, obs=raw.obs.rename(columns={"pseudotime": "dpt_time"}))
    with pytest.raises(UserError, match=r"no column 'pseudotime' \(columns: dpt_time\); choose data.pseudotime=dpt"):
        times(without, pseudotime="obs")
    holed = dataclasses.replace(raw, obs=raw.obs.assign(pseudotime=[np.nan] * 7 + [0.5] * 53))
    with pytest.raises(UserError, match="missing or infinite in 7 of 60 rows"):
        times(holed, pseudotime="obs")
    words = dataclasses.replace(raw, obs=raw.obs.assign(pseudotime=["early"] * 60))
    with pytest.raises(UserError, match="holds no numbers"):
        times(words, pseudotime="obs")
