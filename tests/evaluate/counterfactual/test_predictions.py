from __future__ import annotations

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from fakes.configs import SCORE as CONFIG
from fakes.screens import exact, noisy
from scipy import sparse

from perturbrl.errors import UserError
from perturbrl.evaluate.counterfactual import observe_effects, read_predictions, score
from perturbrl.evaluate.counterfactual.predictions import _ordered


@pytest.fixture(scope="module")
def truth():
    return observe_effects(noisy(cells=20), CONFIG)


def observed(truth, profiles: bool = False) -> anndata.AnnData:
    """The true test cells and controls as a file of predictions, genes and cells in another order."""
    screen = truth.table.screen
    rng = np.random.default_rng(0)
    rows = rng.permutation(np.concatenate([*truth.cells, *truth.controls.values()]))
    labels = [screen.conditions[c].name for c in screen.condition[rows]]
    x = screen.x[rows]
    if profiles:
        x = sparse.csr_matrix(np.vstack([truth.change + truth.control, truth.control[:1]]))
        labels = [*truth.names, "control"]
    order = rng.permutation(x.shape[1])
    obs = pd.DataFrame({"condition": labels}, index=[f"p{i}" for i in range(len(labels))])
    var = pd.DataFrame(index=[screen.features[g] for g in order])
    return anndata.AnnData(sparse.csr_matrix(x[:, order], dtype=np.float32), obs=obs, var=var)


def read(adata, tmp_path, truth):
    file = tmp_path / "pred.h5ad"
    adata.write_h5ad(file)
    return read_predictions(file, truth)


def test_the_true_cells_predict_the_truth(truth, tmp_path):
    found = read(observed(truth), tmp_path, truth)
    np.testing.assert_allclose(found.change, truth.change, atol=1e-6)
    row = score(truth, {"file": found}).rows["file"]
    assert [row[name] for name in ("pds_cosine", "de_jaccard", "direction_fidelity")] == pytest.approx([1, 1, 1])


def test_dense_files_and_further_genes_and_controls_are_fine(truth, tmp_path):
    cells = observed(truth)
    more = anndata.AnnData(
        np.hstack([cells.X.toarray(), np.ones((cells.n_obs, 1), np.float32)]),
        obs=cells.obs,
        var=pd.DataFrame(index=[*cells.var_names, "further"]),
    )
    more = anndata.concat([more, more[:3].copy()])
    more.obs_names_make_unique()
    known = cells.obs["condition"].tolist()
    turned = ["non-targeting" if name == "control" else name for name in known]
    more.obs["condition"] = [*turned, *[truth.table.screen.conditions[1].name] * 3]
    np.testing.assert_allclose(read(more, tmp_path, truth).change, truth.change, atol=1e-6)


def test_profiles_are_emitted_as_cells(truth, tmp_path):
    found = read(observed(truth, profiles=True), tmp_path, truth)
    np.testing.assert_allclose(found.change, truth.change, atol=1e-6)
    assert found.cells is not None and found.cells(int(truth.conditions[0])) is None
    assert score(truth, {"file": found}).rows["file"]["de_jaccard"] > 0.1


def test_labels_in_any_order_and_without_a_context_where_there_is_one(tmp_path):
    truth = observe_effects(exact(contexts=("k562",)), CONFIG)
    cells = observed(truth)
    turned = ["+".join(reversed(name.split("|")[0].split("+"))) for name in cells.obs["condition"]]
    cells.obs = cells.obs.drop(columns="condition").assign(perturbation=turned)
    np.testing.assert_allclose(read(cells, tmp_path, truth).change, truth.change, atol=1e-5)


def test_a_name_without_context_is_not_enough_where_there_are_two(tmp_path):
    truth = observe_effects(exact(contexts=("a", "b"), n_doubles=3, seed=1), CONFIG)
    both = {c.targets for c in map(truth.table.screen.conditions.__getitem__, truth.conditions)}
    assert len(both) < len(truth.conditions)
    cells = observed(truth)
    cells.obs["condition"] = [name.split("|")[0] for name in cells.obs["condition"]]
    with pytest.raises(UserError, match="no condition of the data set"):
        read(cells, tmp_path, truth)


@pytest.mark.parametrize("label, found", [("B+A@0.5|x y", "A+B@0.5|x y"), ("A", "A"), ("C+B+A|a+0", "A+B+C|a+0")])
def test_targets_are_sorted(label, found):
    assert _ordered(label) == found


def broken(cells, fault):
    x = cells.X.toarray()
    if fault == "gene":
        return cells[:, [name for name in cells.var_names if name not in ("g7", "g9")]].copy()
    if fault == "twice":
        cells.var_names = ["g0", *cells.var_names[1:]]
    if fault == "column":
        cells.obs = cells.obs.rename(columns={"condition": "what"})
    if fault == "missing":
        return cells[cells.obs["condition"] != "g20"].copy()
    if fault == "unknown":
        cells.obs["condition"] = [*cells.obs["condition"][:-1], "g9999"]
    if fault == "unlabelled":
        cells.obs["condition"] = [*cells.obs["condition"][:-1], None]
    if fault == "nan":
        x[3, 4] = np.nan
    if fault == "counts":
        x = np.rint(np.expm1(x))
    if fault == "log twice":
        x = np.log1p(np.log1p(x) / 3)
    if fault == "empty":
        return anndata.AnnData(obs=cells.obs, var=cells.var)
    return anndata.AnnData(x, obs=cells.obs, var=cells.var)


@pytest.mark.parametrize(
    "fault, said",
    [
        ("gene", r"var_names lacks 2 of the 200 genes of the table, first 'g7'"),
        ("twice", r"var_names has '.*' twice"),
        ("column", r"obs has no column \"condition\".*what"),
        ("missing", r"1 of 12 test conditions are not predicted, first 'g20'"),
        ("unknown", r"1 labels are no condition of the data set, first 'g9999'"),
        ("unlabelled", r"obs\['condition'\] has no label in 1 of 280 rows"),
        ("nan", r"1 predicted values are NaN"),
        ("counts", r"whole numbers, which are counts"),
        ("log twice", r"log1p once"),
        ("empty", r"X is not in the file"),
    ],
)
def test_every_mismatch_is_named(truth, tmp_path, fault, said):
    with pytest.raises(UserError, match=said) as error:
        read(broken(observed(truth), fault), tmp_path, truth)
    assert "pred.h5ad" in str(error.value) and "\n" not in str(error.value)


def test_files_that_are_none(truth, tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_predictions(tmp_path / "none.h5ad", truth)
    (tmp_path / "text.h5ad").write_text("not HDF5")
    with pytest.raises(UserError, match="cannot be read"):
        read_predictions(tmp_path / "text.h5ad", truth)


def test_hostile_files_are_refused_before_they_are_followed(truth, tmp_path):
    path = tmp_path / "pred.h5ad"
    for change, said in (("link", "/uns/out is an external link"), ("index", r"X/indices: -7 at position 0")):
        cells = observed(truth)
        cells.X = sparse.csr_matrix(cells.X)
        cells.write_h5ad(path)
        with h5py.File(path, "r+") as file:
            if change == "link":
                file["uns/out"] = h5py.ExternalLink("secret.h5", "/")
            else:
                file["X/indices"][0] = -7
        with pytest.raises(UserError, match=said):
            read_predictions(path, truth)
