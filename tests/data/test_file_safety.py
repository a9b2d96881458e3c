"""Damaged and hostile files: refused in one line by whoever reads them, before a library follows what they say."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from cell_files import counts, write_10x_mtx, write_h5ad
from fakes.configs import file_config
from hostile_files import (
    CELLS,
    GENES,
    attribute,
    external_storage,
    h5ad,
    h5mu,
    linked,
    mtx,
    put,
    replaced,
    tenx,
    virtual,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from perturbrl.data.readers import sparse_checks
from perturbrl.data.readers.hdf5_safety import open_hdf5
from perturbrl.data.readers.number_lines import CheckedLines
from perturbrl.data.sources.file import build
from perturbrl.errors import UserError

# name of the file: (how to make it, what must be said of it)
INDICES = {
    "negative.h5ad": (lambda p: replaced(h5ad(p), "X/indices", put(3, -7)), r"X/indices: -7 at position 3"),
    "beyond.h5ad": (lambda p: replaced(h5ad(p), "X/indices", put(0, 2**30)), r"X/indices: 1073741824 at position 0"),
    "falling.h5ad": (lambda p: replaced(h5ad(p), "X/indptr", put(4, 1)), r"X/indptr falls from \d+ to 1 at position 4"),
    "leaping.h5ad": (lambda p: replaced(h5ad(p), "X/indptr", put(4, 10**9)), r"X/indptr falls from 1000000000 to"),
    "below.h5ad": (lambda p: replaced(h5ad(p), "X/indptr", put(0, -5)), r"X/indptr goes from -5 to"),
    "past.h5ad": (lambda p: replaced(h5ad(p), "X/indptr", put(-1, 10**6)), r"X/indptr goes from 0 to 1000000"),
    "short.h5ad": (lambda p: replaced(h5ad(p), "X/indices", lambda v: v[:3]), r"X: data has \d+ entries and indices 3"),
    "few.h5ad": (lambda p: replaced(h5ad(p), "X/indptr", lambda v: v[:-2]), r"X/indptr has 11 entries.* needs 13"),
    "csc.h5ad": (
        lambda p: attribute(h5ad(p), "X", encoding_type="csc_matrix"),
        r"X/indptr has 13 entries.*needs 6; is it a csr matrix called csc",
    ),
    "shape.h5ad": (lambda p: attribute(h5ad(p), "X", shape=[5, 12]), r"X: the matrix is 5 x 12, but there are 12 cell"),
    "vast.h5ad": (lambda p: attribute(h5ad(p), "X", shape=[12, 10**12]), r"X: the matrix is 12 x 1000000000000"),
    "float.h5ad": (lambda p: replaced(h5ad(p), "X/indices", lambda v: v * 1.0), r"X/indices: expected integers"),
    "text.h5ad": (lambda p: replaced(h5ad(p), "X/data", lambda v: v.astype("S4")), r"X/data: expected numbers"),
    "twice.h5ad": (lambda p: replaced(h5ad(p), "X/indices", lambda v: v * 0 + 2), r"X: a value is stored twice in row"),
    "compound.h5ad": (
        lambda p: replaced(h5ad(p), "X/data", lambda v: np.zeros(len(v), [("a", "f4"), ("b", "i4")])),
        r"X/data: expected numbers in one dimension",
    ),
    "layer.h5ad": (lambda p: replaced(h5ad(p), "layers/counts/indices", put(3, -7)), r"layers/counts/indices: -7"),
    "layershape.h5ad": (
        lambda p: replaced(h5ad(p), "layers/counts", np.ones((3, 5))),
        r"layers/counts: the matrix is 3 x 5, but there are 12 cell and 5 feature names",
    ),
    "raw.h5ad": (lambda p: replaced(h5ad(p), "raw/X/indptr", put(4, 10**9)), r"raw/X/indptr falls"),
    "obsm.h5ad": (lambda p: replaced(h5ad(p), "obsm/guides/indices", put(3, 5)), r"obsm/guides/indices: 5 at"),
    "obsp.h5ad": (lambda p: replaced(h5ad(p), "obsp/graph/indices", put(3, 99)), r"obsp/graph/indices: 99 at"),
    "rna.h5mu": (lambda p: replaced(h5mu(p), "mod/rna/X/indices", put(3, -7)), r"mod/rna/X/indices: -7 at position 3"),
    "atac.h5mu": (lambda p: replaced(h5mu(p), "mod/atac/X/indptr", put(2, -9)), r"mod/atac/X/indptr falls"),
    "layer.h5mu": (
        lambda p: replaced(h5mu(p), "mod/rna/layers/counts/indices", put(0, 77)),
        r"layers/counts/indices: 77",
    ),
    "indices.h5": (lambda p: replaced(tenx(p), "matrix/indices", put(3, -7)), r"matrix/indices: -7 at position 3"),
    "indptr.h5": (lambda p: replaced(tenx(p), "matrix/indptr", put(4, 10**9)), r"matrix/indptr falls"),
    "shape.h5": (lambda p: replaced(tenx(p), "matrix/shape", [5, 10**12]), r"the matrix is 5 x 1000000000000"),
    "shape3.h5": (lambda p: replaced(tenx(p), "matrix/shape", [5, 12, 1]), r"matrix/shape must be two whole numbers"),
}
TABLES = {
    "codes.h5ad": (lambda p: replaced(h5ad(p), "obs/batch/codes", put(5, 99)), r"obs\['batch'\]: code 99 in row 5"),
    "below.h5ad": (lambda p: replaced(h5ad(p), "obs/batch/codes", put(5, -3)), r"obs\['batch'\]: code -3 in row 5"),
    "longer.h5ad": (lambda p: replaced(h5ad(p), "obs/size", np.ones(13)), r"obs\['size'\] has 13 rows.* 12 names"),
    "scalar.h5ad": (lambda p: replaced(h5ad(p), "obs/size", 3.0), r"obs\['size'\]: expected texts or numbers in one"),
    "record.h5ad": (
        lambda p: replaced(h5ad(p), "obs/size", np.zeros(12, [("a", "f4"), ("b", "f4")])),
        r"obs\['size'\]: expected texts or numbers in one dimension",
    ),
    "references.h5ad": (
        lambda p: replaced(h5ad(p), "obs/size", np.full(12, None, dtype=h5py.ref_dtype)),
        r"obs\['size'\]: expected texts or numbers in one dimension, got references",
    ),
    "order.h5ad": (lambda p: attribute(h5ad(p), "obs", column_order=["size", "size"]), r"names column 'size' twice"),
    "gone.h5ad": (lambda p: attribute(h5ad(p), "obs", column_order=["size", "lane"]), r"obs\['lane'\] is missing"),
    "names.h5": (lambda p: replaced(tenx(p), "matrix/barcodes", np.zeros((12, 2))), r"matrix/barcodes: expected texts"),
}
FOREIGN = {
    "x.h5ad": (
        lambda p: external_storage(h5ad(p), "X/data", (30,)),
        r"/X/data has external storage, the file '.*secret",
    ),
    "obs.h5ad": (lambda p: external_storage(h5ad(p), "obs/size", (12,)), r"/obs/size has external storage"),
    "uns.h5ad": (lambda p: external_storage(h5ad(p), "uns/note", (12,)), r"/uns/note has external storage"),
    "link.h5ad": (
        lambda p: linked(h5ad(p), "layers/other", h5py.ExternalLink("secret.h5", "/X")),
        r"/layers/other is an external link, to '/X' in the file 'secret.h5'",
    ),
    "var.h5ad": (lambda p: linked(h5ad(p), "var", h5py.ExternalLink("secret.h5", "/var")), r"/var is an external link"),
    "behind.h5ad": (
        lambda p: linked(linked(h5ad(p), "uns/out", h5py.ExternalLink("x.h5", "/")), "a", h5py.SoftLink("/uns/out/X")),
        r"/uns/out is an external link",
    ),
    "virtual.h5ad": (lambda p: virtual(h5ad(p), "layers/view", (12,)), r"/layers/view is a virtual dataset"),
    "unknown.h5mu": (
        lambda p: linked(h5mu(p), "mod/spatial", h5py.ExternalLink("secret.h5", "/")),
        r"/mod/spatial is an external link",
    ),
    "storage.h5": (
        lambda p: external_storage(tenx(p), "matrix/barcodes", (12,)),
        r"/matrix/barcodes has external storage",
    ),
    "loop.h5ad": (lambda p: linked(h5ad(p), "uns/loop", lambda f: f["/"]), r"/uns/loop links back to a group that"),
    "soft.h5ad": (lambda p: linked(h5ad(p), "obs/loop", h5py.SoftLink("/obs")), r"/obs/loop links back to a group"),
    "self.h5ad": (
        lambda p: linked(h5ad(p), "uns/me", h5py.SoftLink("/uns/me")),
        r"/uns/me is a soft link to '/uns/me'",
    ),
    "nowhere.h5ad": (lambda p: linked(h5ad(p), "X", h5py.SoftLink("/Y")), r"/X is a soft link to '/Y', which is not"),
}
MARKET = {
    "row": (lambda p: mtx(p, "\n1 2 ", "\n99 2 "), "not a readable Matrix Market file"),
    "zero": (lambda p: mtx(p, "\n1 2 ", "\n0 2 "), "not a readable Matrix Market file"),
    "word": (lambda p: mtx(p, "\n1 2 ", "\none 2 "), "not a readable Matrix Market file"),
    "nul": (lambda p: mtx(p, "\n5 2 ", "\0005 2 "), r"is not an integer"),
    "fraction": (lambda p: mtx(p, "\n5 2 3\n", "\n5 2 3.5\n"), r"'3.5' is not an integer"),
    "comma": (lambda p: mtx(p, "\n5 2 3\n", "\n5 2 3,5\n"), r"'3,5' is not an integer"),
    "fields": (lambda p: mtx(p, "\n5 2 3\n", "\n5 2 3 3\n"), r"words in \d+ entries; each must have 3"),
    "twice": (lambda p: mtx(p, "\n2 2 ", "\n1 2 "), "an entry is given twice"),
    "promise": (
        lambda p: mtx(p, "\n5 12 ", "\n5 12 999999999999"),
        r"promises 999999999999\d+ entries, but the file is too",
    ),
    "less": (lambda p: mtx(p, "\n5 12 ", "\n5 12 -"), "not a readable Matrix Market file"),
    "wide": (lambda p: mtx(p, "\n5 12 ", "\n5 120000000000000 "), "the matrix is 5 x 120000000000000 but"),
    "complex": (lambda p: mtx(p, "integer", "complex"), "'coordinate complex general' is not read"),
    "packed": (lambda p: mtx(p, "\n1 2 ", "\n99 2 ", gz=True), "not a readable Matrix Market file"),
}
CASES = {
    f"{kind}-{name}": case
    for kind, cases in (("indices", INDICES), ("tables", TABLES), ("foreign", FOREIGN), ("mtx", MARKET))
    for name, case in cases.items()
}

# Reads each file in a process of its own, so that a crash is that file's alone; imports are done once.
READ_ALL = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
import anndata, mudata, scipy.io
import perturbrl.data.readers.stored_tables
from fakes.configs import file_config
from perturbrl.data.sources.file import build
from perturbrl.runner.validate import validate
from perturbrl.errors import UserError

def said(path):
    found = list(dict.fromkeys(f.what for f in validate(path) if f.severity == "error"))  # one for each task
    try:
        build(file_config(path))
    except UserError as error:
        return {"validate": found, "read": str(error)}
    return {"validate": found, "read": "read"}

good, *paths = sys.argv[1:]
validate(good)  # composes the configs once, not in every process
for path in paths:
    sys.stdout.flush()
    if not (child := os.fork()):
        print(json.dumps({path: said(path)}), flush=True)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status:
        print(json.dumps({path: {"validate": [], "read": f"died with status {status}"}}))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    if not hasattr(os, "fork"):
        pytest.skip("needs fork, to read each file in a process of its own")
    made = {}
    for name, (make, _) in CASES.items():
        path = tmp_path_factory.mktemp("hostile") / name
        made[name] = str(make(path))
    good = h5ad(tmp_path_factory.mktemp("good") / "a.h5ad")
    command = [sys.executable, "-c", READ_ALL, str(good), *made.values()]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = {}
    for line in done.stdout.splitlines():
        found |= json.loads(line)
    return {name: found[path] for name, path in made.items()}


@pytest.mark.parametrize("name", CASES)
def test_reader_and_validate_refuse_in_one_line(outcomes, name):
    import re

    said = outcomes[name]
    assert re.search(CASES[name][1], said["read"]), said["read"]
    assert "\n" not in said["read"] and "SECRET" not in said["read"]
    assert said["validate"] == [said["read"]]


def test_good_files_of_every_format_are_read(tmp_path):
    for path in (h5ad(tmp_path / "a.h5ad"), h5mu(tmp_path / "a.h5mu"), tenx(tmp_path / "a.h5")):
        np.testing.assert_array_equal(read(path).modalities["rna"].x.toarray(), counts(12, 5))


def test_links_within_the_file_are_followed(tmp_path):
    path = linked(h5ad(tmp_path / "a.h5ad"), "layers/same", lambda f: f["X"])
    linked(path, "layers/soft", h5py.SoftLink("/layers/counts"))
    for layer in ("same", "soft"):
        np.testing.assert_array_equal(read(path, layer).modalities["rna"].x.toarray(), counts(12, 5))


@pytest.mark.parametrize("dtype", ["u1", "u2", "i8", "u8", ">i4", ">i8"])
def test_index_types_that_scipy_does_not_know_are_read(tmp_path, dtype):
    path = replaced(h5ad(tmp_path / "a.h5ad"), "X/indices", lambda v: v.astype(dtype))
    x = read(path).modalities["rna"].x
    np.testing.assert_array_equal(x[::2].toarray(), counts(12, 5)[::2])
    np.testing.assert_array_equal(x[:, [3, 1]].toarray(), counts(12, 5)[:, [3, 1]])


def test_half_precision_and_big_endian_values_are_read(tmp_path):
    for dtype in ("f2", ">f4", "?"):
        path = replaced(h5ad(tmp_path / "a.h5ad"), "X/data", lambda v, d=dtype: v.astype(d))
        expected = counts(12, 5) > 0 if dtype == "?" else counts(12, 5)
        np.testing.assert_array_equal(read(path).modalities["rna"].x[:, 1:].toarray(), expected[:, 1:])


def test_unsorted_indices_are_read(tmp_path):
    x = sparse.csr_matrix(counts(12, 5))
    for row in range(12):
        a, b = x.indptr[row], x.indptr[row + 1]
        x.indices[a:b], x.data[a:b] = x.indices[a:b][::-1].copy(), x.data[a:b][::-1].copy()
    x.has_sorted_indices = False
    np.testing.assert_array_equal(read(write_h5ad(tmp_path / "a.h5ad", x)).modalities["rna"].x.toarray(), counts(12, 5))


def test_a_chain_of_links_that_multiplies_is_refused(tmp_path):
    path = h5ad(tmp_path / "a.h5ad")
    with h5py.File(path, "r+") as file:
        group = file["uns"]
        for _ in range(40):
            below = group.create_group("a")
            group["b"] = below
            group = below
    with pytest.raises(UserError, match="linked in more than 1000000 ways"):
        read(path)


def test_deep_groups_are_refused(tmp_path):
    path = h5ad(tmp_path / "a.h5ad")
    with h5py.File(path, "r+") as file:
        file.create_group("uns" + "/a" * 3000)
    with pytest.raises(UserError, match="nested more than 64 levels deep"):
        read(path)


def test_arrays_that_are_only_declared_are_refused(tmp_path):
    path = h5ad(tmp_path / "a.h5ad")
    for size, message in ((10**9, "nothing was written"), (10**15, "does not fit into memory")):
        with h5py.File(path, "r+") as file:
            del file["X/data"]
            file.create_dataset("X/data", (size,), "i1", chunks=(1000,))
        with pytest.raises(UserError, match=rf"X/data: .*{message}"):
            read(path)


def test_links_on_disk_that_lead_back_to_themselves(tmp_path):
    (tmp_path / "a.h5ad").symlink_to(tmp_path / "b.h5ad")
    (tmp_path / "b.h5ad").symlink_to(tmp_path / "a.h5ad")
    with pytest.raises(UserError, match="a symbolic link that leads back to itself"):
        read(tmp_path / "a.h5ad")
    folder = write_10x_mtx(tmp_path / "mtx", counts(12, 5), GENES, None, CELLS, gz=False)
    (folder / "matrix.mtx").unlink()
    (folder / "matrix.mtx").symlink_to("matrix.mtx")
    with pytest.raises(UserError, match=r"matrix.mtx: this is not a file"):
        read(folder)


def test_a_job_on_a_looped_link_is_the_users_mistake(tmp_path):
    from omegaconf import OmegaConf

    from perturbrl.runner.job import make_job

    link = tmp_path / "a.h5ad"
    link.symlink_to(link)
    config = composed(f"path={link}")
    job = make_job(config, tmp_path)
    assert job.raw["path"] == str(link) and OmegaConf.is_config(config)


def test_pipes_are_refused_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.h5ad")
    with pytest.raises(UserError, match="a device or a pipe"):
        read(tmp_path / "a.h5ad")


def test_a_truncated_gzip_is_refused(tmp_path):
    folder = write_10x_mtx(tmp_path / "mtx", counts(12, 5), GENES, None, CELLS, gz=True)
    whole = (folder / "matrix.mtx.gz").read_bytes()
    (folder / "matrix.mtx.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a readable Matrix Market file"):
        read(folder)


@pytest.mark.parametrize("end", ["", " ", "\n\n", "\r\n"])
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_the_last_line_of_a_matrix_may_end_in_any_way(end, size):
    text = b"%%MatrixMarket matrix coordinate real general\n2 2 2\n1 1 .5\n2 2 -1e-3" + end.encode()
    lines = CheckedLines(io.BytesIO(text), text.index(b"1 1 .5"), "real")
    out = b"".join(iter(lambda: lines.read(size), b""))
    assert lines.words == 6 and out.endswith(b"\n") and out.rstrip() == text.rstrip()


@given(
    st.lists(st.sampled_from(["1", "-2", ".5", "3.", "1e5", "+1E-2", "nan", "-inf", "1e", "1.2.3", "1-5", ".", "0x1"]))
)
def test_words_of_a_matrix_are_numbers_exactly_if_python_says_so(words):
    text = "\n".join(words).encode()
    good = all(is_number(word) for word in words)
    lines = CheckedLines(io.BytesIO(text), 0, "real")
    try:
        while lines.read(5):
            pass
    except ValueError:
        assert not good
    else:
        assert good and lines.words == len(words)


def is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def test_names_that_unpack_to_gigabytes_are_refused(tmp_path, monkeypatch):
    from perturbrl.data.readers import matrix_market

    monkeypatch.setattr(matrix_market, "MOST_NAMES", 1 << 20)
    folder = write_10x_mtx(tmp_path / "mtx", counts(12, 5), GENES, None, CELLS, gz=True)
    (folder / "barcodes.tsv.gz").write_bytes(gzip.compress(b"A" * (1 << 24)))
    with pytest.raises(UserError, match=r"barcodes.tsv.gz: unpacks to more than"):
        read(folder)


def test_ragged_names_are_refused(tmp_path):
    folder = write_10x_mtx(tmp_path / "mtx", counts(12, 5), GENES, ["Gene Expression"] * 5, CELLS, gz=False)
    lines = (folder / "features.tsv").read_text().splitlines()
    (folder / "features.tsv").write_text("\n".join([*lines[:2], "ENS2\tGENE2", *lines[3:]]) + "\n")
    with pytest.raises(UserError, match=r"features.tsv: row 3 lacks a name or type"):
        read(folder)


def test_names_that_no_terminal_prints_are_escaped(tmp_path):
    path = h5ad(tmp_path / "a.h5ad")
    with h5py.File(path, "r+") as file:
        file["uns"][b"caf\xe9"] = h5py.SoftLink("/X")
    with pytest.raises(UserError, match=r"/uns holds the name b'caf\\+xe9', which is not UTF-8"):
        read(path)
    assert str(UserError("a\x1b[2Jb\udcff")).isprintable()


def test_every_object_of_a_file_is_looked_at(tmp_path):
    path = linked(h5ad(tmp_path / "a.h5ad"), "uns/deep/er/link", h5py.ExternalLink("o.h5", "/"))
    with pytest.raises(UserError, match="/uns/deep/er/link is an external link"), open_hdf5(path):
        pytest.fail("the file must not be handed out")


@settings(max_examples=300, deadline=None)
@given(
    indptr=st.lists(st.integers(-2, 9), min_size=1, max_size=6),
    indices=st.lists(st.integers(-2, 5), max_size=8),
    width=st.integers(0, 5),
)
def test_a_matrix_is_accepted_exactly_if_each_place_is_within_and_stored_once(indptr, indices, width):
    rows = len(indptr) - 1
    arrays = sparse_checks.Compressed(
        np.ones(len(indices)), np.array(indices, np.int64), np.array(indptr, np.int64), (rows, width), "csr", "X"
    )
    rises = indptr[0] == 0 and indptr[-1] == len(indices) and sorted(indptr) == indptr
    places = [(r, c) for r in range(rows) for c in indices[indptr[r] : indptr[r + 1]]] if rises else []
    good = rises and all(0 <= c < width for _, c in places) and len(set(places)) == len(places)
    try:
        sparse_checks.check(arrays)
    except UserError:
        assert not good
    else:
        assert good


@pytest.mark.parametrize("block", [1, 7, 100])
def test_the_size_of_a_block_changes_nothing(monkeypatch, block):
    monkeypatch.setattr(sparse_checks, "BLOCK", block)
    x = sparse.csr_matrix(counts(12, 5))
    arrays = sparse_checks.Compressed(x.data, x.indices, x.indptr, x.shape, "csr", "X")
    sparse_checks.check(arrays)
    for position in range(len(x.indices)):
        for value in (-1, 5):
            bad = x.indices.copy()
            bad[position] = value
            with pytest.raises(UserError, match=rf"X/indices: {value} at position {position} "):
                sparse_checks.check(sparse_checks.Compressed(x.data, bad, x.indptr, x.shape, "csr", "X"))


def read(path: Path, layer: str | None = None):

    return build(file_config(path, layer=layer))


def composed(*overrides: str):
    from hydra import compose, initialize_config_dir

    from perturbrl import paths

    with initialize_config_dir(str(paths.conf_dir()), version_base=None):
        return compose("config", overrides=["source=file", "data=rna", *overrides])
