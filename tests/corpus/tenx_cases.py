"""Malformed 10x Genomics output: .h5 of both versions, and folders with matrix.mtx."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from .cases import ALL, Case, Collection, N, at, both, cut, link, noise, put, without

FEATURES = 38


def of_h5() -> list[Case]:
    c = Collection("tenx", "tenx", ALL)
    c.refused("index_beyond", r"matrix/indices", at("matrix/indices", 4, FEATURES))
    c.refused("index_negative", r"matrix/indices", at("matrix/indices", 4, -1))
    c.refused("index_unsigned_wraps", r"matrix/indices", put("matrix/indices", lambda i: (i - 1).astype(np.uint64)))
    c.refused("pointer_decreases", r"indptr", at("matrix/indptr", 60, 0), True)
    c.refused("pointer_negative", r"indptr", at("matrix/indptr", 60, -4))
    c.refused("pointer_starts_late", r"indptr", at("matrix/indptr", 0, 3))
    c.refused("pointer_ends_beyond", r"indptr", at("matrix/indptr", -1, 10**7))
    c.refused("pointer_short", r"", put("matrix/indptr", lambda p: p[:-1]))
    c.refused("indices_short", r"", put("matrix/indices", lambda i: i[:-5]))
    c.refused("indices_float", r"", put("matrix/indices", lambda i: i + 0.5))
    c.refused("data_two_axes", r"", put("matrix/data", lambda d: d.reshape(1, -1)))
    c.refused("data_text", r"", put("matrix/data", lambda d: d.astype("S4")))
    c.refused("data_gone", r"", without("matrix/data"))
    c.refused("data_nan", r"1 NaN", put("matrix/data", _with_nan))
    c.refused("data_negative", r"negative counts", at("matrix/data", 3, -2))
    c.refused("shape_swapped", r"", put("matrix/shape", lambda s: s[::-1]))
    c.refused("shape_negative", r"", put("matrix/shape", lambda s: -s))
    c.refused("shape_huge", r"", put("matrix/shape", np.array([10**15, 10**15])))
    c.refused("shape_gone", r"", without("matrix/shape"))
    c.refused("shape_of_three", r"", put("matrix/shape", np.array([FEATURES, N, 1])))
    c.refused("barcodes_short", r"119 barcodes", put("matrix/barcodes", lambda b: b[:-1]))
    c.refused("barcode_empty", r"1 empty cell names", at("matrix/barcodes", 3, b""))
    c.ready("barcodes_twice", at("matrix/barcodes", 3, b"cell4"))
    c.ready("barcodes_numbers", put("matrix/barcodes", np.arange(N)))
    c.ready("barcode_not_utf8", at("matrix/barcodes", 3, b"\xff\xfe"))
    c.refused("names_gone", r"", without("matrix/features/name"))
    c.refused("names_short", r"37 feature names", put("matrix/features/name", lambda v: v[:-1]))
    c.refused("features_gone", r"", without("matrix/features"))
    c.ready("types_gone", without("matrix/features/feature_type"), ("rna",))
    c.refused("types_short", r"", put("matrix/features/feature_type", lambda v: v[:-1]))
    c.ready("types_unknown", put("matrix/features/feature_type", lambda v: np.full(len(v), b"Riddle")), ("rna",))
    c.ready("types_numbers", put("matrix/features/feature_type", lambda v: np.arange(len(v))), ("rna",))
    c.ready("genes_and_guides", put("matrix/features/feature_type", _guides), ("rna",))
    c.refused("matrix_is_numbers", r"", both(without("matrix"), put("matrix", np.arange(4))))
    c.refused("all_zero", r"constant", put("matrix/data", lambda d: d * 0))
    c.refused("external_link", r"(external|link)", link("matrix/data", h5py.ExternalLink("other.h5", "/x")))
    c.refused("soft_loop", r"", link("matrix/data", h5py.SoftLink("/matrix/data")))
    c.refused("soft_loop_group", r"", link("matrix", h5py.SoftLink("/matrix")))
    for percent in (10, 60, 95):
        c.refused(f"cut_at_{percent}", r"truncated|damaged|cannot be read", cut(percent / 100))
    for seed in range(4):
        c.either(f"noise_{seed}", noise(200 + seed))
    old = Collection("tenx2", "tenx2", ("rna",))
    old.refused("two_genomes", r"2 genomes", lambda p: _copied(p))
    old.refused("names_short", r"11 feature names", put("mm10/gene_names", lambda v: v[:-1]))
    old.refused("index_beyond", r"indices", at("mm10/indices", 4, 12))
    old.refused("pointer_decreases", r"indptr", at("mm10/indptr", 60, 0))
    old.ready("names_twice", at("mm10/gene_names", 3, b"GENE4"))
    return [*c.cases, *old.cases]


def of_mtx() -> list[Case]:
    c = Collection("mtx", "mtx", ("rna",))
    c.refused("empty_file", r"not a readable Matrix Market file", _matrix(lambda t: ""))
    c.refused("no_header", r"not a readable Matrix Market file", _matrix(lambda t: t.split("\n", 1)[1]))
    c.refused("header_only", r"not a readable Matrix Market file", _matrix(lambda t: t.split("\n", 1)[0] + "\n"))
    c.refused(
        "wrong_header", r"not a readable Matrix Market file", _matrix(lambda t: t.replace("MatrixMarket", "Riddle"))
    )
    c.refused("complex", r"", _matrix(_complex))
    c.refused(
        "too_few_lines", r"not a readable|lines|entries", _matrix(lambda t: "\n".join(t.splitlines()[:-5]) + "\n")
    )
    c.refused("too_many_lines", r"not a readable|lines|entries", _matrix(lambda t: t + "1 1 5\n2 2 5\n"))
    c.refused("ragged_line", r"not a readable", _matrix(_line(5, "3 4")))
    c.refused("index_zero", r"not a readable", _matrix(_line(5, "0 4 2")))
    c.refused("index_beyond", r"not a readable", _matrix(_line(5, "13 4 2")))
    c.refused("index_negative", r"not a readable", _matrix(_line(5, "-1 4 2")))
    c.refused("text_value", r"not a readable", _matrix(_line(5, "many", True)))
    c.refused("nan", r"NaN|not a readable", _matrix(_real(5, "nan")))
    c.refused("infinite", r"infinite|not a readable", _matrix(_real(5, "inf")))
    c.refused("negative", r"negative counts", _matrix(_line(5, "-2", True)))
    c.refused("transposed", r"12 x 120|120 x 12", _matrix(_transposed))
    c.refused("dimensions_zero", r"", _matrix(_dimensions("0 0 0", 0)))
    c.refused("dimensions_huge", r"", _matrix(_dimensions("1000000000000 1000000000000 2", 2)))
    c.refused("rows_huge", r"", _matrix(_dimensions("2000000000 120 2", 2)))
    c.refused("entries_huge", r"", _matrix(_dimensions("12 120 1000000000000000", 2)), True)
    c.refused("dimensions_negative", r"", _matrix(_dimensions("-12 120 2", 2)))
    c.refused("dimensions_text", r"", _matrix(_dimensions("a b c", 2)))
    c.ready("values_fractions", _matrix(lambda t: t.replace("integer", "real")))
    c.ready("pattern", _matrix(_pattern), ("rna",))
    c.refused("symmetric", r"", _matrix(lambda t: t.replace("general", "symmetric")))
    c.ready("comments", _matrix(lambda t: t.replace("\n", "\n% a comment\n% another\n", 1)))
    c.ready("carriage_returns", _matrix(lambda t: t.replace("\n", "\r\n")))
    c.refused("entries_twice", r"given twice", _matrix(_line(5, "1 1 1")))
    c.refused("all_zero", r"constant", _matrix(_dimensions("12 120 1", 1)))
    c.refused("matrix_gone", r"no matrix.mtx", lambda p: (p / "matrix.mtx").unlink())
    c.refused("matrix_is_a_folder", r"", _matrix_folder)
    c.refused("matrix_loop", r"", _matrix_loop)
    c.refused("two_matrices", r"holds 2 matrices", lambda p: _write(p / "b_matrix.mtx", (p / "matrix.mtx").read_text()))
    c.refused("not_gzip", r"", _named_gz(lambda b: b))
    c.refused("gzip_cut", r"", _named_gz(lambda b: gzip.compress(b)[:-40]))
    c.ready("gzip", _named_gz(gzip.compress))
    c.refused("barcodes_gone", r"barcodes.tsv.*missing", lambda p: (p / "barcodes.tsv").unlink())
    c.refused("features_gone", r"features.tsv or genes.tsv.*missing", lambda p: (p / "features.tsv").unlink())
    c.refused("barcodes_short", r"barcodes.tsv 119", _lines("barcodes.tsv", lambda v: v[:-1]))
    c.refused("features_long", r"features.tsv has 13 rows", _lines("features.tsv", lambda v: [*v, v[0]]))
    c.refused("barcodes_empty", r"barcodes.tsv", lambda p: _write(p / "barcodes.tsv", ""))
    c.refused("features_ragged", r"features.tsv", _lines("features.tsv", lambda v: [*v[:-1], v[-1] + "\ta\tb"]))
    c.refused(
        "feature_name_empty",
        r"features.tsv: row 1 lacks a name",
        _lines("features.tsv", lambda v: ["E\t\tGene Expression", *v[1:]]),
    )
    c.ready("barcodes_twice", _lines("barcodes.tsv", lambda v: [v[1], *v[1:]]))
    c.ready("features_one_column", _lines("features.tsv", lambda v: [line.split("\t")[1] for line in v]))
    c.ready(
        "types_unknown", _lines("features.tsv", lambda v: [line.replace("Gene Expression", "Riddle") for line in v])
    )
    c.ready(
        "types_peaks",
        _lines("features.tsv", lambda v: [line.replace("Gene Expression", "Peaks") for line in v]),
        ("atac",),
    )
    c.refused(
        "features_not_utf8", r"features.tsv", lambda p: (p / "features.tsv").write_bytes(b"\xff\xfe\xfa\tx\n") and None
    )
    c.refused("barcodes_binary", r"", lambda p: (p / "barcodes.tsv").write_bytes(bytes(range(256)) * 3) and None)
    return c.cases


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _matrix(change: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda folder: _write(folder / "matrix.mtx", change((folder / "matrix.mtx").read_text()))


def _lines(name: str, change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    return lambda p: _write(p / name, "".join(f"{line}\n" for line in change((p / name).read_text().splitlines())))


def _line(number: int, text: str, value_only: bool = False) -> Callable[[str], str]:
    """Replace an entry, counted from the line of the dimensions, or only its value."""

    def change(whole: str) -> str:
        lines = whole.splitlines()
        first = next(i for i, line in enumerate(lines) if not line.startswith("%"))
        place = lines[first + number].rsplit(" ", 1)[0]
        lines[first + number] = f"{place} {text}" if value_only else text
        return "\n".join(lines) + "\n"

    return change


def _real(number: int, text: str) -> Callable[[str], str]:
    return lambda whole: _line(number, text, True)(whole.replace("integer", "real"))


def _dimensions(text: str, entries: int) -> Callable[[str], str]:
    def change(whole: str) -> str:
        lines = whole.splitlines()
        first = next(i for i, line in enumerate(lines) if not line.startswith("%"))
        return "\n".join([*lines[:first], text, *lines[first + 1 : first + 1 + entries]]) + "\n"

    return change


def _transposed(whole: str) -> str:
    head = [line for line in whole.splitlines() if line.startswith("%")]
    rest = [line.split() for line in whole.splitlines() if not line.startswith("%")]
    return "\n".join([*head, *(f"{b} {a} {v}" for a, b, v in rest)]) + "\n"


def _complex(whole: str) -> str:
    head, *lines = [
        line for line in whole.replace("integer", "complex").splitlines() if line.strip("%") or "%%" in line
    ]
    return "\n".join([head, lines[0], *(f"{line} 0" for line in lines[1:])]) + "\n"


def _pattern(whole: str) -> str:
    lines = [line for line in whole.replace("integer", "pattern").splitlines() if line != "%"]
    return "\n".join([*lines[:2], *(" ".join(line.split()[:2]) for line in lines[2:])]) + "\n"


def _matrix_folder(folder: Path) -> None:
    (folder / "matrix.mtx").unlink()
    (folder / "matrix.mtx").mkdir()


def _matrix_loop(folder: Path) -> None:
    (folder / "matrix.mtx").unlink()
    (folder / "matrix.mtx").symlink_to("matrix.mtx")


def _named_gz(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def of_folder(folder: Path) -> None:
        (folder / "matrix.mtx.gz").write_bytes(change((folder / "matrix.mtx").read_bytes()))
        (folder / "matrix.mtx").unlink()

    return of_folder


def _with_nan(data: np.ndarray) -> np.ndarray:
    out = data.astype(np.float32)
    out[4] = np.nan
    return out


def _guides(types: np.ndarray) -> np.ndarray:
    return np.where(types == b"Gene Expression", b"Gene Expression", b"CRISPR Guide Capture")


def _copied(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.copy("mm10", "hg19")
