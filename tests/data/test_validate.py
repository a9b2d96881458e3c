from __future__ import annotations

import dataclasses

import h5py
import numpy as np
import pytest
from cell_files import counts, peaks, write_10x_h5, write_10x_mtx, write_h5ad, write_h5mu
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from perturbrl.data.sources.file import build, default_config
from perturbrl.data.validate import Finding, everything, render, validate
from perturbrl.errors import UserError

CELLS = [f"cell{i}" for i in range(24)]
GENES = [f"G{j}" for j in range(5)]
SCREEN = {"perturbation": ["control", "KLF1"] * 12}


def seen(findings: list[Finding], severity: str) -> list[str]:
    return [f"{f.where}: {f.what}" for f in findings if f.severity == severity]


def only(findings: list[Finding], severity: str, part: str) -> Finding:
    """The one finding of this severity that says ``part``."""
    found = [f for f in findings if f.severity == severity and part in f"{f.where}: {f.what}"]
    assert len(found) == 1, (part, seen(findings, "ok"), seen(findings, "warning"), seen(findings, "error"))
    return found[0]


def task(findings: list[Finding], name: str) -> Finding:
    return next(f for f in findings if f.where == "task" and f.tasks == (name,))


def test_a_good_file_is_ready(tmp_path):
    findings = validate(write_h5ad(tmp_path / "a.h5ad", counts(24, 5), obs=SCREEN))
    assert seen(findings, "error") == []
    assert "rna 24 x 5" in only(findings, "ok", "cells x features").what
    only(findings, "ok", "rna: counts, from 0 to")
    only(findings, "ok", "perturbation: 2 values: KLF1, control")
    only(findings, "ok", "is_control: 12 of 24 cells")
    for name in ("data=rna", "env=paper", "env=paper_discrete", "env=counterfactual"):
        assert task(findings, name).severity == "ok"
    assert "needs rna and atac, the file has rna" in task(findings, "data=joint").what
    assert task(findings, "data=cite").severity == task(findings, "data=atac").severity == "warning"
    assert "landscape" in task(findings, "env=fate").mend


def test_multimodal_file_is_ready_for_joint(tmp_path):
    mods = {"rna": (counts(24, 5), CELLS, GENES), "atac": (counts(24, 8, 1), CELLS, peaks(8))}
    findings = validate(write_h5mu(tmp_path / "a.h5mu", mods))
    assert task(findings, "data=joint").severity == task(findings, "data=atac").severity == "ok"
    only(findings, "ok", "all 24 cells are in every modality")


def test_names(tmp_path):
    path = write_h5ad(tmp_path / "a.h5ad", counts(4, 3), names=["A", "A", "B"], cells=["c", "c", "d", "e"])
    findings = validate(path)
    assert "A-1" in only(findings, "warning", "1 feature names occur more than once: A").mend
    only(findings, "warning", "1 cell names occur more than once: c")
    empty = validate(write_h5ad(tmp_path / "b.h5ad", counts(4, 3), names=["A", "", "B"]))
    assert "data=rna" in only(empty, "error", "1 empty feature names").tasks
    assert task(empty, "data=rna").severity == "error" and task(empty, "env=paper").severity == "error"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "1 NaN and 0 infinite values, the first in cell 'cell2', feature 'GENE1'"),
        (np.inf, "0 NaN and 1 infinite values"),
        (-4.0, "1 negative counts, the first in cell 'cell2', feature 'GENE1'"),
    ],
)
def test_bad_values(tmp_path, value, message):
    x = counts(6, 3)
    x[2, 1] = value
    only(validate(write_h5ad(tmp_path / "a.h5ad", x)), "error", message)


def test_logs_passed_as_counts(tmp_path):
    x = counts(6, 3)
    path = write_h5ad(tmp_path / "a.h5ad", x, layers={"counts": sparse.csr_matrix(np.log1p(x))})
    unchosen = validate(path)
    assert only(unchosen, "error", "called counts, but not whole numbers").tasks == ("source.layer=counts",)
    assert task(unchosen, "data=rna").severity == "ok"
    chosen = validate(path, dataclasses.replace(default_config(path), layer="counts"))
    assert "they look like logs" in only(chosen, "error", "called counts").what
    assert task(chosen, "data=rna").severity == "error"


def test_counts_passed_as_logs(tmp_path):
    path = write_h5ad(tmp_path / "a.h5ad", counts(6, 3), uns={"log1p": {"base": 2}})
    only(validate(path), "warning", "uns['log1p'] says these are logs, but all are whole numbers")


def test_logs_point_to_the_counts_layer_and_scaled_data_is_noted(tmp_path):
    x = counts(6, 3)
    path = write_h5ad(tmp_path / "a.h5ad", np.log1p(x), layers={"counts": sparse.csr_matrix(x)})
    assert only(validate(path), "ok", "logs, not counts").mend == "source.layer=counts reads counts"
    only(validate(write_h5ad(tmp_path / "s.h5ad", x - 1.5)), "warning", "neither counts nor logs")


def test_constant_features(tmp_path):
    x = counts(6, 3)
    x[:, 1] = 2
    one = validate(write_h5ad(tmp_path / "a.h5ad", x))
    only(one, "warning", "1 of 3 features have the same value in every cell: GENE1")
    only(validate(write_h5ad(tmp_path / "b.h5ad", np.ones((6, 3)))), "error", "3 of 3 features have the same value")


def test_control_label_absent(tmp_path):
    path = write_h5ad(tmp_path / "a.h5ad", counts(24, 3), obs={"gene": ["A", "wildtype"] * 12})
    findings = validate(path)
    absent = only(findings, "error", "no control cells: none of A, wildtype is a usual name")
    assert absent.tasks == ("env=counterfactual",) and "source.control_label" in absent.mend
    assert task(findings, "env=counterfactual").severity == "error" and task(findings, "env=paper").severity == "ok"
    named = validate(path, dataclasses.replace(default_config(path), control_label="wildtype"))
    assert seen(named, "error") == [] and task(named, "env=counterfactual").severity == "ok"
    wrong = validate(path, dataclasses.replace(default_config(path), control_label="WT"))
    only(wrong, "error", "source.control_label='WT' is not a value of obs['gene']")


def test_columns_that_say_little(tmp_path):
    plain = validate(write_h5ad(tmp_path / "a.h5ad", counts(6, 3)))
    assert only(plain, "warning", "no column of perturbations").mend == "name it with source.perturbation_key"
    assert "needs perturbations" in task(plain, "env=counterfactual").what
    few = {"gene": ["control"] * 20 + ["A", "A", "B", None], "dose": ["x"] * 24}
    findings = validate(write_h5ad(tmp_path / "b.h5ad", counts(24, 3), obs=few))
    only(findings, "warning", "2 perturbations have fewer than 10 cells: A, B")
    only(findings, "warning", "1 of 24 cells have no perturbation")
    only(findings, "warning", "obs['dose'] is not used as dose")


def test_modalities_whose_cells_do_not_match(tmp_path):
    x, y = counts(24, 5), counts(24, 8, 1)
    shifted = [*CELLS[4:], *[f"o{i}" for i in range(4)]]
    findings = validate(write_h5mu(tmp_path / "a.h5mu", {"rna": (x, CELLS, GENES), "atac": (y, shifted, peaks(8))}))
    assert "data=joint" in only(findings, "warning", "only 20 cells are in every modality (rna 24, atac 24)").tasks
    apart = [f"o{i}" for i in range(24)]
    none = validate(write_h5mu(tmp_path / "b.h5mu", {"rna": (x, CELLS, GENES), "atac": (y, apart, peaks(8))}))
    only(none, "error", "no cell in common (rna 24, atac 24)")
    assert task(none, "data=joint").severity == "error" and task(none, "data=rna").severity == "ok"
    twice = [*CELLS[:23], CELLS[0]]
    repeated = validate(write_h5mu(tmp_path / "c.h5mu", {"rna": (x, twice, GENES), "atac": (y, twice, peaks(8))}))
    only(repeated, "error", "cell names are repeated")


def test_left_out_parts_are_mentioned(tmp_path):
    types = ["Gene Expression"] * 2 + ["CRISPR Guide Capture"]
    path = write_10x_h5(tmp_path / "f.h5", counts(6, 3), ["A", "B", "g1"], types, CELLS[:6])
    only(validate(path), "warning", "1 features of type 'CRISPR Guide Capture' are not used")


def test_10x_folder(tmp_path):
    findings = validate(write_10x_mtx(tmp_path / "m", counts(6, 3), list("ABC"), None, CELLS[:6], gz=True))
    assert seen(findings, "error") == []
    only(findings, "ok", "10x mtx folder, cells x features: rna 6 x 3")


def test_files_that_cannot_be_opened(tmp_path):
    whole = write_h5ad(tmp_path / "a.h5ad").read_bytes()
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["weights"] = [1.0]
    with h5py.File(tmp_path / "hollow.h5ad", "w") as file:
        file.create_group("obs"), file.create_group("var")
    cases = {
        "gone.h5ad": (None, "no such file or folder"),
        "empty.h5ad": (b"", "the file is empty (0 bytes)"),
        "text.h5ad": (b"a,b\n1,2\n", "not an HDF5 file"),
        "cut.h5ad": (whole[: len(whole) // 2], "the file is truncated"),
        "other.h5": (None, "unknown layout (it holds weights)"),
        "hollow.h5ad": (None, "X is not in the file"),
    }
    for name, (content, message) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        (found,) = validate(tmp_path / name)
        assert found.severity == "error" and message in found.what and name in found.what
        assert found.tasks == everything()
        with pytest.raises(UserError):
            build(default_config(tmp_path / name))


def test_empty_matrix(tmp_path):
    findings = validate(write_h5ad(tmp_path / "a.h5ad", np.zeros((3, 0), np.float32)))
    only(findings, "error", "it is empty: 3 cells x 0 features")


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, write_h5ad(folder / "w.h5ad", counts(24, 5), obs=SCREEN).read_bytes()


@settings(max_examples=25)
@given(st.data())
def test_a_file_cut_anywhere_is_an_error_never_a_traceback(whole_file, data):
    folder, content = whole_file
    length = data.draw(st.integers(0, len(content) - 1))
    (folder / "cut.h5ad").write_bytes(content[:length])
    findings = validate(folder / "cut.h5ad")
    assert any(f.severity == "error" for f in findings)


@settings(max_examples=20)
@given(st.binary(max_size=200))
def test_any_bytes_are_reported(whole_file, content):
    folder, _ = whole_file
    (folder / "noise.h5ad").write_bytes(content)
    (found,) = validate(folder / "noise.h5ad")
    assert found.severity == "error" and "\n" not in found.what


def test_no_error_means_that_it_reads(tmp_path):
    x = counts(24, 5)
    made = [
        write_h5ad(tmp_path / "a.h5ad", x, obs=SCREEN),
        write_h5ad(tmp_path / "b.h5ad", x - 1.5, names=["A", "A", "B", "C", "D"]),
        write_h5mu(tmp_path / "c.h5mu", {"rna": (x, CELLS, GENES), "adt": (x, CELLS[::-1], GENES)}),
    ]
    for path in made:
        assert seen(validate(path), "error") == []
        assert build(default_config(path)).n_cells == 24


def test_render_shows_every_finding_as_written(tmp_path):
    findings = validate(write_h5ad(tmp_path / "a.h5ad", counts(24, 5), obs=SCREEN))
    made = Finding("error", "layers['counts']", "[bold]not markup[/bold]", "mend [it]", ("data=rna",))
    text = render([*findings, made], width=400)
    assert max(len(line) for line in text.splitlines()) <= 400
    for word in ("obs['perturbation']", made.where, made.what, made.mend, "ERROR", "env=fate"):
        assert word in text
    assert sum(line.count("│") > 0 for line in text.splitlines()) == len(findings) + 1
    assert max(len(line) for line in render(findings, width=90).splitlines()) <= 90
