from __future__ import annotations

import dataclasses
import hashlib
import logging
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from cell_files import counts, peaks, write_10x_h5, write_10x_mtx, write_h5ad, write_h5mu
from fakes.configs import file_config
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from perturbrl.data.readers.columns import CONTROL, is_control_name, map_columns, standard_name
from perturbrl.data.readers.kinds import constant_features, first_where, kind_of, profile
from perturbrl.data.readers.modalities import guess_modality, modality_named
from perturbrl.data.readers.tables import Layout, open_table
from perturbrl.data.sources.file import build
from perturbrl.errors import UserError

CELLS = [f"cell{i}" for i in range(12)]


def read(path, **changes):
    return build(file_config(path, **changes))


def dense(x):
    return x.toarray() if sparse.issparse(x) else x


# --- h5ad


def test_h5ad_counts_stay_sparse_and_exact(tmp_path):
    x = counts(12, 5)
    path = write_h5ad(tmp_path / "a.h5ad", x)
    cells = read(path)
    rna = cells.modalities["rna"]
    assert sparse.isspmatrix_csr(rna.x) or rna.x.format == "csr"
    assert rna.kind == "counts"
    np.testing.assert_array_equal(rna.x.toarray(), x)
    assert cells.obs.index.tolist() == CELLS and rna.features.tolist() == [f"GENE{j}" for j in range(5)]
    assert cells.checksum == hashlib.sha256(path.read_bytes()).hexdigest()
    assert cells.name == "a"


def test_layer_and_raw_are_chosen_by_name(tmp_path):
    x, raw = counts(12, 5), counts(12, 7, seed=1)
    path = write_h5ad(tmp_path / "a.h5ad", np.log1p(x), layers={"counts": sparse.csr_matrix(x)}, raw=np.log1p(raw))
    assert read(path).modalities["rna"].kind == "log"
    chosen = read(path, layer="counts").modalities["rna"]
    assert chosen.kind == "counts"
    np.testing.assert_array_equal(dense(chosen.x), x)
    behind = read(path, layer="raw").modalities["rna"]
    assert behind.kind == "log" and behind.features[0] == "RAW0"
    np.testing.assert_allclose(dense(behind.x), np.log1p(raw))
    with pytest.raises(UserError, match=r"layers/spliced is not in the file; layers there: counts"):
        read(path, layer="spliced")


def test_feature_types_split_an_h5ad(tmp_path):
    x = counts(12, 6)
    types = ["Gene Expression", "Gene Expression", "Peaks", "Antibody Capture", "Peaks", "CRISPR Guide Capture"]
    path = write_h5ad(tmp_path / "a.h5ad", x, var={"feature_types": types})
    parts = read(path).modalities
    assert list(parts) == ["rna", "atac", "protein"]
    np.testing.assert_array_equal(dense(parts["atac"].x), x[:, [2, 4]])
    assert parts["protein"].features.tolist() == ["GENE3"]
    assert list(read(path, modality="atac").modalities) == ["atac"]


def test_modality_is_guessed_or_given(tmp_path):
    path = write_h5ad(tmp_path / "a.h5ad", counts(12, 5), names=peaks(5))
    assert list(read(path).modalities) == ["atac"]
    assert list(read(path, modality="protein").modalities) == ["protein"]
    with pytest.raises(UserError, match=r"source.modality: 'dna' is not known.*atac, auto, protein or rna"):
        read(path, modality="dna")
    split = write_h5ad(tmp_path / "b.h5ad", counts(12, 2), var={"feature_types": ["Gene Expression"] * 2})
    with pytest.raises(UserError, match="no modality 'atac' in the file; it holds rna"):
        read(split, modality="atac")


def test_dense_x_stays_dense(tmp_path):
    import anndata as ad

    x = counts(6, 3)
    ad.AnnData(x).write_h5ad(tmp_path / "d.h5ad")
    got = read(tmp_path / "d.h5ad").modalities["rna"].x
    assert isinstance(got, np.ndarray)
    np.testing.assert_array_equal(got, x)


def test_repeated_names_are_told_apart_where_rows_need_no_match(tmp_path):
    path = write_h5ad(tmp_path / "a.h5ad", counts(3, 3), names=["A", "A", "B"], cells=["c", "c", "c"])
    cells = read(path)
    assert cells.obs.index.tolist() == ["c", "c-1", "c-2"]
    assert cells.modalities["rna"].features.tolist() == ["A", "A-1", "B"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((0, 3), np.float32)}, "it is empty: 0 cells x 3 features"),
        ({"names": ["A", "", "C", "D", "E"]}, "1 empty feature names, the first at position 1"),
        ({"cells": [*CELLS[:11], " "]}, "1 empty cell names, the first at position 11"),
    ],
)
def test_faults_of_names_and_size(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        read(write_h5ad(tmp_path / "a.h5ad", **change))


def test_nan_negative_and_false_counts_are_refused_with_their_place(tmp_path):
    x = counts(12, 5)
    bad = x.copy()
    bad[4, 2] = np.nan
    with pytest.raises(UserError, match=r"1 NaN and 0 infinite values, the first in cell 'cell4', feature 'GENE2'"):
        read(write_h5ad(tmp_path / "nan.h5ad", bad))
    bad[4, 2] = -3
    with pytest.raises(UserError, match=r"1 negative counts, the first in cell 'cell4', feature 'GENE2'"):
        read(write_h5ad(tmp_path / "neg.h5ad", bad))
    logs = write_h5ad(tmp_path / "log.h5ad", x, layers={"counts": sparse.csr_matrix(np.log1p(x))})
    assert read(logs).modalities["rna"].kind == "counts"
    with pytest.raises(UserError, match=r"layers/counts: called counts, but not whole numbers.*look like logs"):
        read(logs, layer="counts")


# --- h5mu


def test_h5mu_names_order_and_obs(tmp_path):
    x, y, z = counts(12, 5), counts(12, 8, 1), counts(12, 2, 2)
    path = write_h5mu(
        tmp_path / "a.h5mu",
        {"ADT": (z, CELLS, ["CD3", "CD4"]), "peaks": (y, CELLS, peaks(8)), "gex": (x, CELLS, list("ABCDE"))},
        obs={"gex": {"cell_type": ["T"] * 12}, "peaks": {"donor": ["d1", "d2"] * 6}},
    )
    cells = read(path)
    assert list(cells.modalities) == ["rna", "atac", "protein"]
    np.testing.assert_array_equal(dense(cells.modalities["atac"].x), y)
    assert cells.modalities["atac"].x.format == "csr"
    assert cells.obs["cell_type"].tolist() == ["T"] * 12 and cells.obs["batch"].tolist() == ["d1", "d2"] * 6


def test_h5mu_rows_are_matched_by_name(tmp_path, caplog):
    x, y = counts(12, 5), counts(12, 8, 1)
    order = [*reversed(CELLS[2:]), "other1", "other2"]
    mods = {"rna": (x, CELLS, [f"G{j}" for j in range(5)]), "atac": (y, order, peaks(8))}
    path = write_h5mu(tmp_path / "a.h5mu", mods, obs={"atac": {"treatment": ["ctrl", "drug"] * 6}})
    with caplog.at_level(logging.WARNING):
        cells = read(path)
    assert "only the 10 cells that all modalities have are kept (rna 12, atac 12)" in caplog.text
    assert cells.obs.index.tolist() == CELLS[2:]
    np.testing.assert_array_equal(dense(cells.modalities["rna"].x), x[2:])
    np.testing.assert_array_equal(dense(cells.modalities["atac"].x), y[:10][::-1])
    by_name = dict(zip(order, ["control", "drug"] * 6, strict=True))
    assert cells.obs["perturbation"].tolist() == [by_name[c] for c in CELLS[2:]]
    assert read(path, modality="rna").n_cells == 12


def test_h5mu_faults(tmp_path):
    x, y = counts(12, 5), counts(12, 8, 1)
    genes = [f"G{j}" for j in range(5)]
    others = [f"o{i}" for i in range(12)]
    apart = write_h5mu(tmp_path / "a.h5mu", {"rna": (x, CELLS, genes), "atac": (y, others, peaks(8))})
    with pytest.raises(UserError, match=r"no cell in common \(rna 12, atac 12 cells\)"):
        read(apart)
    twice = [*CELLS[:11], "cell0"]
    same = write_h5mu(tmp_path / "b.h5mu", {"rna": (x, twice, genes), "atac": (y, twice, peaks(8))})
    with pytest.raises(UserError, match=r"1 repeated cell names \(first 'cell0'\).*make obs_names unique"):
        read(same)
    assert read(same, modality="rna").obs.index[-1] == "cell0-1"
    odd = write_h5mu(tmp_path / "c.h5mu", {"spatial": (x, CELLS, genes)})
    with pytest.raises(UserError, match=r"no rna/gex, atac/peaks or prot/protein/adt in the file; .*spatial"):
        read(odd)


def test_h5mu_layer_of_one_modality_only(tmp_path, caplog):
    x, y = counts(12, 5), counts(12, 8, 1) + 0.5
    mods = {"rna": (np.log1p(x), CELLS, [f"G{j}" for j in range(5)]), "atac": (y, CELLS, peaks(8))}
    path = write_h5mu(tmp_path / "a.h5mu", mods, layers={"rna": {"counts": sparse.csr_matrix(x)}})
    cells = read(path, layer="counts")
    assert {m: v.kind for m, v in cells.modalities.items()} == {"rna": "counts", "atac": "continuous"}
    assert "mod/atac has no layer 'counts': its X is used" in caplog.text
    with pytest.raises(UserError, match="no modality has layer 'umi'; layers there: counts"):
        read(path, layer="umi")


# --- 10x


@pytest.mark.parametrize("types", [["Gene Expression"] * 3 + ["Peaks"] * 2, None])
def test_10x_h5(tmp_path, types):
    x = counts(12, 5)
    names = ["A", "A", "C", *(peaks(2) if types else ["D", "E"])]
    cells = read(write_10x_h5(tmp_path / "f.h5", x, names, types, [f"AC{i}-1" for i in range(12)]))
    got = np.hstack([dense(m.x) for m in cells.modalities.values()])
    np.testing.assert_array_equal(got, x)
    assert list(cells.modalities) == (["rna", "atac"] if types else ["rna"])
    assert cells.modalities["rna"].features.tolist()[:3] == ["A", "A-1", "C"]
    assert cells.obs.index[3] == "AC3-1"
    with pytest.raises(UserError, match="a 10x file has no layers"):
        read(tmp_path / "f.h5", layer="counts")


def test_10x_h5_with_indices_out_of_range(tmp_path):
    import h5py

    path = write_10x_h5(tmp_path / "f.h5", counts(12, 5), list("ABCDE"), ["Gene Expression"] * 5, CELLS)
    with h5py.File(path, "r+") as file:
        file["matrix/indices"][0] = 99
    with pytest.raises(UserError, match="matrix/indices: 99 at position 0 is not between 0 and 4"):
        read(path)


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("types", [["Gene Expression"] * 2 + ["Antibody Capture"] * 3, None])
@pytest.mark.parametrize("prefix", ["", "GSM1_"])
def test_10x_mtx(tmp_path, gz, types, prefix):
    x = counts(12, 5)
    folder = write_10x_mtx(tmp_path / "m", x, list("ABCDE"), types, CELLS, gz, prefix)
    cells = read(folder)
    np.testing.assert_array_equal(np.hstack([dense(m.x) for m in cells.modalities.values()]), x)
    assert list(cells.modalities) == (["rna", "protein"] if types else ["rna"])
    assert all(m.x.format == "csr" for m in cells.modalities.values())


def test_10x_mtx_faults(tmp_path):
    folder = write_10x_mtx(tmp_path / "m", counts(12, 5), list("ABCDE"), None, CELLS, gz=False)
    before = read(folder).checksum
    (folder / "barcodes.tsv").write_text("".join(f"{c}\n" for c in CELLS[:5]))
    with pytest.raises(UserError, match=r"the matrix is 5 x 12 but genes.tsv has 5 rows and barcodes.tsv 5"):
        read(folder)
    (folder / "barcodes.tsv").write_text("".join(f"x{c}\n" for c in CELLS))
    assert read(folder).checksum != before
    (folder / "matrix.mtx").write_text("not a matrix")
    with pytest.raises(UserError, match="not a readable Matrix Market file"):
        read(folder)
    (folder / "barcodes.tsv").unlink()
    with pytest.raises(UserError, match=r"barcodes.tsv \(plain or .gz\) is missing"):
        read(folder)
    (folder / "matrix.mtx").unlink()
    with pytest.raises(UserError, match=r"has no matrix.mtx"):
        read(folder)


# --- formats


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"the file is empty \(0 bytes\)"),
        (b"gene,count\nA,1\n", "not an HDF5 file"),
        (b"\n <!DOCTYPE html>", "a web page, so the download failed"),
        (b"\x1f\x8b\x08\x00", "gzip-compressed as a whole"),
    ],
)
def test_files_that_are_not_hdf5(tmp_path, content, message):
    path = tmp_path / "a.h5ad"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(path)


def test_missing_truncated_and_foreign_files(tmp_path):
    import h5py

    with pytest.raises(UserError, match=r"gone.h5ad: no such file"):
        read(tmp_path / "gone.h5ad")
    whole = write_h5ad(tmp_path / "a.h5ad").read_bytes()
    (tmp_path / "cut.h5ad").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="the file is truncated"):
        read(tmp_path / "cut.h5ad")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["weights"] = [1.0]
    with pytest.raises(UserError, match=r"unknown layout \(it holds weights\)"):
        read(tmp_path / "f.h5")
    with pytest.raises(UserError, match="source=file needs path=FILE"):
        build(file_config(None))


# --- values


@pytest.mark.parametrize(
    ("values", "modality", "kind"),
    [
        ([[0, 1], [5, 2]], "rna", "counts"),
        ([[0, 1], [1, 1]], "atac", "binary"),
        ([[0, 1], [1, 1]], "rna", "counts"),
        ([[0, 2], [1, 1]], "atac", "counts"),
        ([[0, 1.5], [3.2, 1]], "rna", "log"),
        ([[0, 1.5], [3.2, 1]], "protein", "log"),
        ([[0, 1.5], [3.2, 1]], "atac", "continuous"),
        ([[0, 1.5], [300.2, 1]], "rna", "continuous"),
        ([[-0.1, 1.5], [3, 1]], "rna", "continuous"),
    ],
)
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_kind(values, modality, kind, form):
    assert kind_of(profile(form(np.asarray(values, dtype=np.float64))), modality) == kind


@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.data(),
)
def test_profile_agrees_with_numpy_on_sparse_and_dense(n, g, data):
    entries = st.sampled_from([0.0, 1.0, -2.0, 0.5, 7.0, np.nan, np.inf, -np.inf])
    x = np.asarray(data.draw(st.lists(entries, min_size=n * g, max_size=n * g))).reshape(n, g)
    finite = x[np.isfinite(x)]
    for form in (x, sparse.csr_matrix(x)):
        got = profile(form)
        assert (got.nan, got.infinite) == (np.isnan(x).sum(), np.isinf(x).sum())
        assert got.negative == (finite < 0).sum()
        assert got.whole == bool(np.all(finite == np.round(finite)))
        if finite.size:
            assert (got.low, got.high) == (finite.min(), finite.max())
        if not got.clean:
            i, j = first_where(form, lambda v: ~np.isfinite(v))
            assert not np.isfinite(x[i, j]) and np.isfinite(x.ravel()[: i * g + j]).all()


def test_constant_features_sparse_and_dense():
    x = np.array([[0, 2, 1], [0, 2, 0.0]])
    for form in (x, sparse.csr_matrix(x)):
        assert constant_features(form).tolist() == [True, True, False]


def test_modality_names():
    named = {n: modality_named(n) for n in ("Gene Expression", "GEX", "Peaks", "Antibody Capture", "prot", "Custom")}
    assert list(named.values()) == ["rna", "rna", "atac", "protein", "protein", None]
    assert guess_modality(np.array(["CD3_TotalSeqB", "CD4_TotalSeqB", "IgG"])) == "protein"
    assert guess_modality(np.array(["1-9963-10665", "GL000194.1:55758-56597"])) == "atac"
    assert guess_modality(np.array(["HLA-A", "MT-ND1", "AC107071.1", "ERVK3-1"])) == "rna"


# --- columns


def keys(**named):
    empty = file_config("x")
    return dataclasses.replace(empty, **named)


def frame(**columns):
    return pd.DataFrame(columns, index=[f"c{i}" for i in range(len(next(iter(columns.values()))))])


def test_common_columns_are_found_and_named():
    obs = frame(
        Condition=["ctrl", "KLF1+ctrl", "MAP2K6+KLF1", None],
        bulk_labels=pd.Categorical(["a", "b", "a", "b"]),
        bio_rep=["r1", "r1", "r2", "r2"],
        dose=["0", "1.5", "2", "1"],
        dpt_pseudotime=[0.0, 0.1, 0.2, 0.3],
        other=[1, 2, 3, 4],
    )
    got = map_columns(obs, keys(), "obs")
    assert got.obs["perturbation"].tolist() == ["control", "KLF1", "KLF1+MAP2K6", "unassigned"]
    assert got.obs["is_control"].tolist() == [True, False, False, False]
    assert got.obs["dose"].tolist() == [0, 1.5, 2, 1] and got.obs["dose"].dtype == np.float64
    assert got.source_columns == {
        "perturbation": "Condition",
        "is_control": "Condition",
        "cell_type": "bulk_labels",
        "batch": "bio_rep",
        "dose": "dose",
        "pseudotime": "dpt_pseudotime",
    }
    assert got.obs["other"].tolist() == [1, 2, 3, 4]


def test_is_control_column_and_control_label():
    obs = frame(gene=["none", "A", "B"], is_control=["True", "False", "False"])
    got = map_columns(obs, keys(), "obs").obs
    assert got["perturbation"].tolist() == ["control", "A", "B"] and got["is_control"].dtype == np.bool_
    named = map_columns(obs, keys(control_label="B"), "obs").obs
    assert named["is_control"].tolist() == [False, False, True]
    assert named["perturbation"].tolist() == ["none", "A", "control"]
    with pytest.raises(UserError, match=r"source.control_label='wild' is not a value of obs\['gene'\].*A, B, none"):
        map_columns(obs, keys(control_label="wild"), "obs")
    with pytest.raises(UserError, match="no perturbation column"):
        map_columns(frame(x=[1, 2]), keys(control_label="B"), "obs")


def test_no_control_means_no_column():
    got = map_columns(frame(gene=["A", "B"]), keys(), "obs")
    assert "is_control" not in got.obs and got.obs["perturbation"].tolist() == ["A", "B"]


def test_named_columns_must_exist_and_be_numbers():
    obs = frame(d=["1+1", "2"], dose=["1+1", "2"])
    with pytest.raises(UserError, match=r"source.batch_key='lane' is not a column of obs; its columns are d, dose"):
        map_columns(obs, keys(batch_key="lane"), "obs")
    with pytest.raises(UserError, match=r"obs\['d'\] is not a number in 1 of 2 cells, first in 'c0' \('1\+1'\)"):
        map_columns(obs, keys(dose_key="d"), "obs")
    passed = map_columns(obs, keys(), "obs")
    assert "dose" not in passed.obs and "not used as dose" in passed.notes[0]


@given(st.lists(st.sampled_from(["A", "B", "C", "ctrl", "non-targeting", ""]), min_size=1, max_size=5))
def test_standard_name_is_a_sorted_set_without_controls(parts):
    got = standard_name("+".join(parts))
    acting = sorted(set(parts) - {"ctrl", "non-targeting", ""})
    assert got == ("+".join(acting) or CONTROL)
    assert standard_name(got) == got
    assert standard_name("+".join(reversed(parts))) == got


def test_control_names():
    assert all(map(is_control_name, ["control", "CTRL", "Non-Targeting", "NegCtrl02", "DMSO", "NT", "DMSO_TF"[:4]]))
    assert not any(map(is_control_name, ["CTRC", "NTRK1", "DMS1", "PBSX", ""]))


# --- tables


def test_tables_plain_transposed_zipped_and_in_a_folder(tmp_path):
    x = counts(4, 3)
    table = pd.DataFrame(x, index=list("wxyz"), columns=["A", "B", "C"])
    table = table.assign(stage=["s1", "s1", "s2", "s2"], pseudotime=[0, 1, 2, 3])
    table.to_csv(tmp_path / "t.csv.gz")
    got = open_table(tmp_path / "t.csv.gz", Layout("cells", None, None, ("B",)))
    np.testing.assert_array_equal(got.parts["rna"].x, x[:, [0, 2]])
    assert got.obs["stage"].tolist() == ["s1", "s1", "s2", "s2"] and got.obs["pseudotime"].tolist() == [0, 1, 2, 3]
    folder = tmp_path / "f"
    folder.mkdir()
    table[["A", "B", "C"]].T.to_csv(folder / "genes.tsv", sep="\t")
    (folder / "README.txt").write_text("hello")
    turned = open_table(folder, Layout("genes", None, None, ()))
    np.testing.assert_array_equal(turned.parts["rna"].x, x)
    assert turned.parts["rna"].features.tolist() == ["A", "B", "C"]
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(folder / "genes.tsv", "repo/data/genes.tsv")
        archive.write(tmp_path / "t.csv.gz", "repo/data/t.csv.gz")
    with pytest.raises(UserError, match=r"2 tables in it \(.*genes.tsv.*\); say which with source.member=NAME"):
        open_table(tmp_path / "z.zip", Layout("genes", None, None, ()))
    chosen = open_table(tmp_path / "z.zip", Layout("genes", "genes.tsv", None, ()))
    np.testing.assert_array_equal(chosen.parts["rna"].x, x)


def test_a_stray_word_among_numbers_is_named(tmp_path):
    (tmp_path / "t.csv").write_text(",A,B\nc1,1,2\nc2,oops,3\nc3,4,5\n")
    with pytest.raises(UserError, match="'oops' in row 'c2', column 'A' is not a number"):
        open_table(tmp_path / "t.csv", Layout("cells", None, None, ()))
    (tmp_path / "bad.zip").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match="not a readable zip archive"):
        open_table(tmp_path / "bad.zip", Layout("cells", None, None, ()))
    with pytest.raises(UserError, match=r"source.rows: 'sideways' is not known.*cells or genes"):
        open_table(tmp_path / "t.csv", Layout("sideways", None, None, ()))


# --- imports and real files


def test_importing_the_sources_is_light():
    code = (
        "import sys, perturbrl.data.sources, perturbrl.data.sources.catalogue, perturbrl.data.examine; "
        "heavy = {'torch', 'scanpy', 'anndata', 'mudata', 'h5py', 'pooch', 'requests', 'rich'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


REAL = {
    "perturb_papalexi21_thp1/papalexi21_thp1.h5ad": (20729, {"rna": (299, "counts")}, "perturbation is_control batch"),
    "perturb_norman19_mcfaline23/devel.h5ad": (5961, {"rna": (500, "log")}, "perturbation is_control cell_type"),
    "multiome_scicar_a549_dex/scicar_a549_dex.h5mu": (
        2641,
        {"rna": (1185, "log"), "atac": (52761, "continuous")},
        "perturbation is_control",
    ),
    "multiome_bmmc_neurips21/bmmc_multiome.h5mu": (
        500,
        {"rna": (1134, "log"), "atac": (600, "binary")},
        "cell_type batch",
    ),
    "cite_bmmc_neurips21/bmmc_cite.h5mu": (600, {"rna": (1000, "log"), "protein": (134, "log")}, "cell_type batch"),
    "traj_paul15/paul15.h5ad": (2660, {"rna": (3004, "counts")}, "cell_type"),
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL)
def test_real_files(real_data, name):
    path = real_data / name
    if not path.exists():
        pytest.skip(f"{path} is absent")
    n, parts, columns = REAL[name]
    cells = read(path)
    assert cells.n_cells == n
    assert {m: (v.x.shape[1], v.kind) for m, v in cells.modalities.items()} == parts
    assert all(sparse.issparse(v.x) and v.x.shape[0] == n for v in cells.modalities.values())
    standard = {"perturbation", "is_control", "batch", "cell_type", "dose", "pseudotime"}
    assert set(cells.obs.columns) & standard == set(columns.split())
    assert cells.obs.index.is_unique


@pytest.mark.real_data
def test_real_counts_layers(real_data):
    path = real_data / "cite_bmmc_neurips21/bmmc_cite.h5mu"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    assert {v.kind for v in read(path, layer="counts").modalities.values()} == {"counts"}
