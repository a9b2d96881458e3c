"""Malformed .h5ad files: the matrix, the tables beside it, and what else may lie in the file."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np

from .cases import Case, Collection, G, N, at, attribute, both, content, cut, inside, link, noise, put, without

FEATURE_0 = "GENE0"


def of_values() -> list[Case]:
    c = Collection("h5ad", "h5ad", ("rna",))
    c.refused(
        "nan", r"1 NaN and 0 infinite values, the first in cell 'cell\d+', feature 'GENE\d+'", at("X/data", 7, np.nan)
    )
    c.refused("inf", r"0 NaN and 1 infinite values", at("X/data", 7, np.inf))
    c.refused("minus_inf", r"0 NaN and 1 infinite values", at("X/data", 7, -np.inf))
    c.refused("all_nan", r"NaN and 0 infinite", put("X/data", lambda x: x * np.nan))
    c.refused("negative_count", r"1 negative counts, the first in cell", at("X/data", 7, -3))
    c.refused("all_negative", r"negative counts", put("X/data", lambda x: -x))
    c.refused(
        "beyond_float32",
        r"(too large|infinite)",
        put("X/data", lambda x: np.where(np.arange(len(x)) == 7, 1e300, x.astype(float))),
    )
    c.refused("near_float32_max", r"too large", at("X/data", 7, 3e38))
    c.refused("continuous_1e30", r"too large", put("X/data", lambda x: x * 1e30 + 0.5))
    c.ready("continuous_negative", put("X/data", lambda x: x - 1.5))
    c.ready("tiny_values", put("X/data", lambda x: x * np.float32(1e-20)))
    c.refused("denormals", r"constant", put("X/data", lambda x: x.astype(np.float64) * 1e-300))
    c.ready("large_counts", put("X/data", lambda x: x.astype(np.int64) * 2**31))
    c.ready("mixed_logs_and_counts", at("X/data", slice(0, 50), 0.25))
    c.ready("float16", put("X/data", lambda x: x.astype(np.float16)))
    c.ready("unsigned_bytes", put("X/data", lambda x: x.astype(np.uint8)))
    c.ready("booleans", put("X/data", lambda x: x > 1))
    c.refused("complex", r"numbers", put("X/data", lambda x: x.astype(np.complex64)))
    c.refused("strings_for_numbers", r"", put("X/data", lambda x: np.array([str(v) for v in x], dtype="S8")))
    c.refused("all_zero", r"no rna feature is left: all 12 are constant", put("X/data", lambda x: x * 0), True)
    c.refused("all_the_same", r"no rna feature is left: all 12 are constant", _dense(np.full((N, G), 3.0, np.float32)))
    c.ready("cells_without_counts", inside(lambda f: _scaled_rows(f, range(10))))
    c.ready("features_without_counts", put("X/data", lambda x: x), ("rna",))
    c.ready("one_feature_varies", _dense(_one_varies()))
    c.ready("counts_layer_of_logs", put("layers/counts/data", lambda x: np.log1p(x)))
    c.ready("counts_layer_with_nan", at("layers/counts/data", 3, np.nan))
    return c.cases


def of_sparse() -> list[Case]:
    c = Collection("h5ad", "h5ad", ("rna",))
    c.refused("index_beyond", r"X.*ind", at("X/indices", 5, G), True)
    c.refused("index_far_beyond", r"X.*ind", at("X/indices", 5, 2**31 - 1))
    c.refused("index_negative", r"X.*ind", at("X/indices", 5, -1))
    c.refused("pointer_decreases", r"X.*indptr", at("X/indptr", 60, 0), True)
    c.refused("pointer_negative", r"X.*indptr", at("X/indptr", 60, -5))
    c.refused("pointer_starts_late", r"X.*indptr", at("X/indptr", 0, 4))
    c.refused("pointer_ends_beyond", r"X.*ind", at("X/indptr", -1, 10**6))
    c.refused("pointer_jumps_beyond", r"X.*ind", at("X/indptr", slice(60, None), 10**6))
    c.refused("pointer_short", r"X.*ind", put("X/indptr", lambda p: p[:-1]))
    c.refused("pointer_long", r"X.*ind", put("X/indptr", lambda p: np.append(p, p[-1])))
    c.refused("pointer_empty", r"X.*ind", put("X/indptr", lambda p: p[:0]))
    c.refused("indices_short", r"X.*ind", put("X/indices", lambda i: i[:-9]))
    c.refused("data_short", r"X.*(ind|data)", put("X/data", lambda d: d[:-9]))
    c.refused("indices_float", r"X.*ind", put("X/indices", lambda i: i + 0.5))
    c.refused("indices_text", r"X.*ind", put("X/indices", lambda i: np.array([str(v) for v in i], dtype="S4")))
    c.refused("indices_two_axes", r"X.*ind", put("X/indices", lambda i: i.reshape(1, -1)))
    c.refused("data_two_axes", r"X", put("X/data", lambda d: d.reshape(1, -1)))
    c.refused("csr_called_csc", r"X", attribute("X", "encoding-type", "csc_matrix"), True)
    c.refused("shape_swapped", r"X", attribute("X", "shape", np.array([G, N])))
    c.refused("shape_negative", r"X", attribute("X", "shape", np.array([-N, G])))
    c.refused("shape_huge", r"X", attribute("X", "shape", np.array([10**12, 10**12])), True)
    c.refused("shape_wide", r"X", attribute("X", "shape", np.array([N, 10**9])))
    c.refused("shape_of_three", r"X", attribute("X", "shape", np.array([N, G, 1])))
    c.refused("shape_missing", r"", attribute("X", "shape", None))
    c.refused("encoding_unknown", r"", attribute("X", "encoding-type", "banana_matrix"))
    c.ready("encoding_version_unknown", attribute("X", "encoding-version", "99.0"))
    c.refused("indices_missing", r"", without("X/indices"))
    c.refused("data_missing", r"", without("X/data"))
    c.ready("columns_unsorted", put("X/indices", _reversed_pairs))
    c.refused("columns_twice", r"stored twice in row 0", at("X/indices", 1, 0))
    return c.cases


def of_dense() -> list[Case]:
    c = Collection("dense", "dense", ("rna",))
    c.refused("nan", r"1 NaN and 0 infinite", at("X", (3, 4), np.nan))
    c.refused("negative", r"1 negative counts, the first in cell 'cell3', feature 'GENE4'", at("X", (3, 4), -2))
    c.refused("too_few_rows", r"119", put("X", lambda x: x[:-1]))
    c.refused("too_many_columns", r"13", put("X", lambda x: np.c_[x, x[:, 0]]))
    c.refused("transposed", r"12 x 120|120 x 12", put("X", lambda x: x.T))
    c.refused("one_axis", r"X", put("X", lambda x: x.ravel()))
    c.refused("three_axes", r"X", put("X", lambda x: x[..., None]))
    c.refused("scalar", r"", put("X", 3.0))
    c.refused("strings", r"numbers", put("X", lambda x: x.astype("S4")))
    c.refused("compound", r"X", put("X", lambda x: np.zeros(x.shape, dtype=[("a", "f4"), ("b", "i4")])))
    c.refused("huge", r"X", _declared("X", (10**6, 10**6)))
    c.refused("tall", r"X", _declared("X", (10**11, G)))
    c.refused("huge_layer", r"layers/counts", _declared("layers/counts", (10**7, 10**7)))
    c.refused("zero_cells", r"empty: 0 cells x 12 features", _rows(0))
    c.refused("one_cell", r"1 cells|single|one cell|at least", _rows(1), True)
    for n in (2, 3, 5, 9, 15):
        c.refused(f"{n}_cells", r"cells|neighbours", _rows(n))
    for n in (20, 24):
        c.ready(f"{n}_cells", _rows(n))
    c.refused("filter_garbage", r"", _garbage_chunk)
    c.refused("null", r"X is not in the file", _null)
    return c.cases


def of_tables() -> list[Case]:
    c = Collection("h5ad", "h5ad", ("rna",))
    c.refused("no_obs", r"obs", without("obs"))
    c.refused("no_var", r"var", without("var"))
    c.refused("no_matrix", r"X is not in the file", without("X"))
    c.refused("matrix_is_a_group", r"X", both(without("X"), inside(lambda f: f.create_group("X"))))
    c.refused("obs_is_numbers", r"", both(without("obs"), put("obs", np.arange(N))))
    c.refused("var_is_numbers", r"", both(without("var"), put("var", np.arange(G))))
    c.refused("obs_without_index", r"", attribute("obs", "_index", None))
    c.refused("obs_index_elsewhere", r"", attribute("obs", "_index", "nothing"))
    c.refused("obs_short", r"119|length", put("obs/_index", lambda i: i[:-1]))
    c.refused("var_long", r"13|length", put("var/_index", lambda i: np.append(i, b"more")))
    c.refused("column_short", r"119|length", put("obs/batch/codes", lambda i: i[:-1]))
    c.refused("column_listed_but_gone", r"", without("obs/batch"))
    c.refused("codes_beyond", r"cod", at("obs/batch/codes", 4, 99), True)
    c.refused("codes_negative", r"cod", at("obs/batch/codes", 4, -7))
    c.refused("var_codes_beyond", r"cod", at("var/chromosome/codes", 4, 99))
    c.ready("codes_missing_value", at("obs/batch/codes", 4, -1))
    c.refused("codes_float", r"", put("obs/batch/codes", lambda i: i + 0.5))
    c.refused("codes_two_axes", r"", put("obs/batch/codes", lambda i: i.reshape(-1, 1)))
    c.refused("codes_gone", r"", without("obs/batch/codes"))
    c.refused("categories_gone", r"", without("obs/batch/categories"))
    c.refused("categories_twice", r"", put("obs/batch/categories", lambda v: np.array([b"b0", b"b0"], dtype=object)))
    c.refused("column_of_unknown_kind", r"", attribute("obs/batch", "encoding-type", "riddle"))
    c.refused("cell_name_empty", r"1 empty cell names", at("obs/_index", 3, b""))
    c.refused("feature_name_blank", r"1 empty feature names", at("var/_index", 3, b"  "))
    c.ready("cell_names_twice", at("obs/_index", 3, b"cell4"))
    c.ready("feature_names_twice", at("var/_index", 3, b"GENE4"))
    c.ready("feature_names_all_the_same", at("var/_index", slice(None), b"GENE"))
    c.refused("cell_names_numbers", r"", put("obs/_index", np.arange(N)))
    c.ready("feature_name_long", at("var/_index", 3, b"G" * 100_000))
    c.ready("feature_name_with_newline", at("var/_index", 3, b"a\nb\x1b[31m"))
    c.refused("cell_name_not_utf8", r"utf-8", at("obs/_index", 3, b"\xff\xfe\xfa"))
    c.refused("label_not_utf8", r"utf-8", at("obs/perturbation/categories", 1, b"\xff\xfe\xfa"))
    c.ready("label_with_newline", at("obs/perturbation/categories", 1, b"a\nb"))
    c.ready(
        "labels_missing", at("obs/perturbation/codes", slice(None), -1), screen=r"no column of perturbations was found"
    )
    c.ready("labels_some_missing", at("obs/perturbation/codes", slice(0, 5), -1))
    c.ready("labels_gone", _without_column("perturbation"), screen=r"no column of perturbations was found")
    c.ready("no_controls", at("obs/perturbation/categories", -1, b"wild type"), quick=True, screen=r"no control cells")
    c.ready(
        "controls_only", at("obs/perturbation/codes", slice(None), 4), screen=r"no column of perturbations was found"
    )
    c.ready("one_target", at("obs/perturbation/codes", slice(40, None), 0), screen=r"split=")
    c.ready(
        "few_cells_a_target", at("obs/perturbation/codes", slice(50, None), 4), screen=r"no perturbed cells are left"
    )
    c.ready("dose_of_words", _text_column("dose", "high"))
    c.ready("pseudotime_of_words", _text_column("pseudotime", "late"))
    c.ready("is_control_of_words", _text_column("is_control", "perhaps"))
    c.ready("feature_types_unknown", _text_column("feature_types", "Riddle", "var", G))
    c.ready("feature_types_atac", _text_column("feature_types", "Peaks", "var", G), ("atac",))
    return c.cases


def of_rest() -> list[Case]:
    c = Collection("h5ad", "h5ad", ("rna",))
    c.refused(
        "layer_of_another_shape",
        r"layers/counts: the matrix is 120 x 13",
        attribute("layers/counts", "shape", np.array([N, G + 1])),
    )
    c.refused("layers_is_numbers", r"layers is an array", both(without("layers"), put("layers", np.arange(3))))
    c.ready("uns_of_unknown_kind", attribute("uns", "encoding-type", "riddle"))
    c.ready("uns_gone", without("uns"))
    c.ready("obsm_of_another_length", put("obsm/X_pca", np.zeros((3, 2))))
    c.refused("raw_broken", r"raw/var is missing", put("raw/X", np.zeros(3)))
    c.ready("more_groups", put("more/of/this", np.zeros(3)))
    c.refused("external_link_matrix", r"X.*(external|link)", link("X", h5py.ExternalLink("other.h5", "/X")), True)
    c.refused("external_link_obs", r"(external|link)", link("obs/batch", h5py.ExternalLink("other.h5", "/secret")))
    c.refused("external_link_layer", r"(external|link)", link("layers/more", h5py.ExternalLink("other.h5", "/secret")))
    c.refused("external_link_in_uns", r"(external|link)", link("uns/more", h5py.ExternalLink("other.h5", "/secret")))
    c.refused("external_storage", r"X.*(external|outside)", _external_storage, True)
    c.refused("virtual_dataset", r"X.*(virtual|external)", _virtual)
    c.refused("soft_loop_matrix", r"X", link("X", h5py.SoftLink("/X")))
    c.refused(
        "soft_loop_of_two",
        r"",
        both(link("X", h5py.SoftLink("/layers/counts")), link("layers/counts", h5py.SoftLink("/X"))),
    )
    c.refused("soft_link_to_nothing", r"X", link("X", h5py.SoftLink("/nowhere")))
    c.refused("soft_loop_obs", r"", link("obs/batch", h5py.SoftLink("/obs/batch")))
    c.refused("group_holds_itself", r"endless loop", inside(lambda f: f["uns"].__setitem__("again", f["/"])))
    c.refused("file_of_zero_bytes", r"empty \(0 bytes\)", content(b""))
    c.refused("text", r"not an HDF5 file", content(b"a,b\n1,2\n"))
    c.refused("web_page", r"web page", content(b"<!doctype html><html>not found</html>"))
    c.refused("zip", r"not an HDF5 file", content(b"PK\x03\x04" + bytes(100)))
    c.refused("gzip", r"gzip", content(b"\x1f\x8b" + bytes(100)))
    c.refused("signature_only", r"damaged|truncated", content(b"\x89HDF\r\n\x1a\n"))
    c.refused("wrong_signature", r"not an HDF5 file", _overwritten(0, b"\x88HDF"))
    c.refused("superblock_of_unknown_version", r"damaged", _overwritten(8, b"\x63"))
    for percent in (1, 10, 30, 50, 70, 90, 99):
        c.refused(f"cut_at_{percent}", r"truncated|damaged|cannot be read", cut(percent / 100))
    c.ready("bytes_appended", lambda p: p.write_bytes(p.read_bytes() + b"more" * 50) and None)
    for seed in range(12):
        c.either(f"noise_{seed}", noise(seed))
    c.ready("symbolic_link", _linked)
    c.refused("symbolic_loop", r"loop|link", _looped)
    c.refused("folder", r"matrix.mtx", _folder)
    c.refused("hollow", r"", inside(lambda f: [f.__delitem__(k) for k in list(f)]))
    c.refused("pipe", r"regular file|not a file", _pipe)
    return c.cases


def _dense(x: np.ndarray):
    return both(
        without("X"), put("X", x), attribute("X", "encoding-type", "array"), attribute("X", "encoding-version", "0.2.0")
    )


def _one_varies() -> np.ndarray:
    x = np.full((N, G), 2.0, np.float32)
    x[:, 3] = np.arange(N) % 7
    return x


def _reversed_pairs(indices: np.ndarray) -> np.ndarray:
    out = indices.copy()
    out[0], out[1] = indices[1], indices[0]
    return out


def _scaled_rows(file: h5py.File, rows) -> None:
    data, pointer = file["X/data"][()], file["X/indptr"][()]
    for row in rows:
        data[pointer[row] : pointer[row + 1]] = 0
    file["X/data"][...] = data


def _declared(where: str, shape: tuple[int, ...]):
    """Declare a chunked matrix that takes no space: nothing of it was ever written."""

    def change(file: h5py.File) -> None:
        if where in file:
            del file[where]
        made = file.create_dataset(where, shape, np.float32, chunks=(1, 1) if len(shape) == 2 else None)
        made.attrs["encoding-type"], made.attrs["encoding-version"] = "array", "0.2.0"

    return inside(change)


def _rows(n: int):
    """Keep the first n cells (spread over the labels)."""
    kept = np.linspace(0, N - 1, n).astype(int)

    def change(file: h5py.File) -> None:
        for where in ("X", "obs/_index", "obs/perturbation/codes", "obs/batch/codes"):
            attributes, values = dict(file[where].attrs), file[where][()][kept]
            del file[where]
            file[where] = values
            file[where].attrs.update(attributes)

    return inside(change)


def _garbage_chunk(path: Path) -> None:
    x = np.random.default_rng(0).poisson(2.0, (N, G)).astype(np.float32)
    put("X", x, chunks=(N, G), compression="gzip")(path)
    with h5py.File(path, "r+") as file:
        file["X"].id.write_direct_chunk((0, 0), b"garbage" * 20)


def _null(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["X"]
        file.create_dataset("X", data=h5py.Empty("f4"))
        file["X"].attrs["encoding-type"], file["X"].attrs["encoding-version"] = "null", "0.1.0"


def _without_column(name: str):
    def change(file: h5py.File) -> None:
        del file[f"obs/{name}"]
        file["obs"].attrs["column-order"] = [c for c in file["obs"].attrs["column-order"] if c != name]

    return inside(change)


def _text_column(name: str, word: str, table: str = "obs", n: int = N):
    def change(file: h5py.File) -> None:
        file[f"{table}/{name}"] = [word] * n
        column = file[f"{table}/{name}"]
        column.attrs["encoding-type"], column.attrs["encoding-version"] = "string-array", "0.2.0"
        file[table].attrs["column-order"] = [*file[table].attrs["column-order"], name]

    return inside(change)


def _external_storage(path: Path) -> None:
    other = path.with_suffix(".bin")
    np.ones((N, G), np.float32).tofile(other)
    with h5py.File(path, "r+") as file:
        del file["X"]
        made = file.create_dataset("X", (N, G), np.float32, external=[(str(other), 0, h5py.h5f.UNLIMITED)])
        made.attrs["encoding-type"], made.attrs["encoding-version"] = "array", "0.2.0"


def _virtual(path: Path) -> None:
    other = path.with_suffix(".source")
    with h5py.File(other, "w") as file:
        file["x"] = np.ones((N, G), np.float32)
    layout = h5py.VirtualLayout((N, G), np.float32)
    layout[:] = h5py.VirtualSource(str(other), "x", (N, G))
    with h5py.File(path, "r+") as file:
        del file["X"]
        made = file.create_virtual_dataset("X", layout)
        made.attrs["encoding-type"], made.attrs["encoding-version"] = "array", "0.2.0"


def _overwritten(place: int, value: bytes):
    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[place : place + len(value)] = value
        path.write_bytes(bytes(data))

    return change


def _linked(path: Path) -> None:
    other = path.with_suffix(".real")
    path.rename(other)
    path.symlink_to(other)


def _looped(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)
