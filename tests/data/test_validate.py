from __future__ import annotations

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from cell_files import counts, peaks, write_10x_h5, write_10x_mtx, write_h5ad, write_h5mu
from fakes.configs import file_config
from fakes.screens import made_raw
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from perturbrl.data.examine import everything, examine
from perturbrl.data.findings import Finding, render
from perturbrl.data.readers import open_file
from perturbrl.data.sources.file import build
from perturbrl.errors import UserError
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.hydra.compose import compose_job
from perturbrl.runner.validate import refusal, usable, validate

CELLS = [f"cell{i}" for i in range(24)]
GENES = [f"G{j}" for j in range(5)]
SCREEN = {"perturbation": ["control", "KLF1"] * 12}


def seen(findings: list[Finding], severity: str) -> list[str]:
    return [f"{f.location}: {f.what}" for f in findings if f.severity == severity]


def described(path, **keys) -> list[Finding]:
    """What the file holds and lacks, without trying any task on it."""
    config = file_config(path, **keys)
    return examine(open_file(path, config.layer, config.modality), config)


def check_only(findings: list[Finding], severity: str, part: str) -> Finding:
    """The one finding of this severity that says ``part``."""
    found = [f for f in findings if f.severity == severity and part in f"{f.location}: {f.what}"]
    assert len(found) == 1, (part, seen(findings, "ok"), seen(findings, "warning"), seen(findings, "error"))
    return found[0]


def task(findings: list[Finding], name: str) -> Finding:
    return next(f for f in findings if f.location == "task" and f.tasks == (name,))


def test_a_good_file_is_ready(tmp_path):
    labels = {"perturbation": ["control"] * 40 + [f"GENE{i}" for i in range(4) for _ in range(20)]}
    findings = validate(write_h5ad(tmp_path / "a.h5ad", counts(120, 5), obs=labels))
    assert seen(findings, "error") == [] and usable(findings)
    assert "rna 120 x 5" in check_only(findings, "ok", "cells x features").what
    check_only(findings, "ok", "rna: counts, from 0 to")
    check_only(findings, "ok", "perturbation: 5 values: GENE0, GENE1")
    check_only(findings, "ok", "is_control: 40 of 120 cells")
    for name in ("data=rna", "env=paper", "env=paper_discrete", "env=counterfactual"):
        assert task(findings, name).severity == "ok"
    assert [f.tasks for f in findings if f.location == "task"] == [(name,) for name in everything()]


@pytest.mark.parametrize("data", ["joint", "cite", "atac"])
def test_a_modality_that_is_absent_is_refused_in_the_words_of_training(tmp_path, data):
    path = write_h5ad(tmp_path / "a.h5ad", counts(24, 5))
    findings = validate(path)
    asked = task(findings, f"data={data}")
    with pytest.raises(UserError) as refused:
        load_cells(compose_job(["source=file", f"path={path}", f"data={data}"], tmp_path, "t"))
    assert asked.severity == "warning" and asked.what == str(refused.value) and "has no" in asked.what
    alone = validate(path, [f"data={data}"])
    assert usable(findings) and not usable(alone) and refusal(alone) == asked.what


def test_no_task_is_listed_that_does_not_exist(root):
    for name in everything():
        group, _, choice = name.partition("=")
        assert (root / "conf" / group / f"{choice}.yaml").is_file(), name


@pytest.mark.parametrize("n", [5, 18])
def test_too_few_cells_are_found_by_trying(tmp_path, n):
    findings = validate(write_h5ad(tmp_path / "a.h5ad", counts(n, 5)), ["data=rna", "env=paper"])
    assert not usable(findings)
    assert f"15 neighbours need more than 15 training cells; there are {n - -(-n // 5)}" in refusal(findings)


def test_a_fault_of_one_modality_refuses_them_all_and_names_the_way_round(tmp_path):
    x, y = counts(24, 5), counts(24, 8, 1)
    y[3, 3] = np.nan
    path = write_h5mu(tmp_path / "a.h5mu", {"rna": (x, CELLS, GENES), "atac": (y, CELLS, peaks(8))})
    findings = validate(path)
    assert {f.severity for f in findings if f.location == "task"} == {"error"}
    assert "mod/atac/X: 1 NaN" in refusal(findings) and "source.modality=rna reads without it" in refusal(findings)
    assert usable(validate(path, ["source.modality=rna", "env=paper", "data=rna"]))


def test_values_beyond_single_precision_are_refused(tmp_path):
    path = write_h5ad(tmp_path / "a.h5ad", counts(24, 5) * 1e30)
    with pytest.raises(UserError, match=r"X: values from 0 to \S+e\+30 are too large, the first in cell 'cell0?1'"):
        build(file_config(path))
    check_only(described(path), "error", "are too large")


def test_of_many_cells_some_are_tried_and_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("perturbrl.runner.validate.MOST_CELLS", 40)
    findings = validate(write_h5ad(tmp_path / "a.h5ad", counts(60, 5)), ["data=rna", "env=paper"])
    assert task(findings, "data=rna").what == "ready (needs rna; tried on 40 of 60 cells)"
    drawn = np.random.default_rng(0).choice(60, 40, replace=False)
    rare = np.ones((60, 5))
    rare[np.setdiff1d(np.arange(60), drawn)] = counts(20, 5)  # nothing varies in the draw
    assert usable(validate(write_h5ad(tmp_path / "b.h5ad", rare), ["data=rna", "env=paper"]))
    assert not usable(validate(write_h5ad(tmp_path / "c.h5ad", np.ones((60, 5))), ["data=rna", "env=paper"]))


def test_multimodal_file_is_ready_for_joint(tmp_path):
    mods = {"rna": (counts(24, 5), CELLS, GENES), "atac": (counts(24, 8, 1), CELLS, peaks(8))}
    findings = validate(write_h5mu(tmp_path / "a.h5mu", mods))
    assert task(findings, "data=joint").severity == task(findings, "data=atac").severity == "ok"
    check_only(findings, "ok", "all 24 cells are in every modality")


def test_names(tmp_path):
    path = write_h5ad(tmp_path / "a.h5ad", counts(4, 3), names=["A", "A", "B"], cells=["c", "c", "d", "e"])
    findings = described(path)
    assert "A-1" in check_only(findings, "warning", "1 feature names occur more than once: A").remedy
    check_only(findings, "warning", "1 cell names occur more than once: c")
    empty = described(write_h5ad(tmp_path / "b.h5ad", counts(4, 3), names=["A", "", "B"]))
    assert check_only(empty, "error", "1 empty feature names").tasks == everything()


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
    check_only(described(write_h5ad(tmp_path / "a.h5ad", x)), "error", message)


def test_logs_passed_as_counts(tmp_path):
    x = counts(6, 3)
    path = write_h5ad(tmp_path / "a.h5ad", x, layers={"counts": sparse.csr_matrix(np.log1p(x))})
    unchosen = described(path)
    assert check_only(unchosen, "warning", "called counts, but not whole numbers").tasks == ("source.layer=counts",)
    chosen = described(path, layer="counts")
    assert "they look like logs" in check_only(chosen, "error", "called counts").what


def test_counts_passed_as_logs(tmp_path):
    path = write_h5ad(tmp_path / "a.h5ad", counts(6, 3), uns={"log1p": {"base": 2}})
    check_only(described(path), "warning", "uns['log1p'] says these are logs, but all are whole numbers")


def test_logs_point_to_the_counts_layer_and_scaled_data_is_noted(tmp_path):
    x = counts(6, 3)
    path = write_h5ad(tmp_path / "a.h5ad", np.log1p(x), layers={"counts": sparse.csr_matrix(x)})
    assert check_only(described(path), "ok", "logs, not counts").remedy == "source.layer=counts reads counts"
    check_only(described(write_h5ad(tmp_path / "s.h5ad", x - 1.5)), "warning", "neither counts nor logs")


def test_constant_features(tmp_path):
    x = counts(6, 3)
    x[:, 1] = 2
    one = described(write_h5ad(tmp_path / "a.h5ad", x))
    check_only(one, "warning", "1 of 3 features have the same value in every cell: GENE1")
    check_only(
        described(write_h5ad(tmp_path / "b.h5ad", np.ones((6, 3)))), "warning", "3 of 3 features have the same value"
    )


def test_control_label_absent(tmp_path):
    path = write_h5ad(tmp_path / "a.h5ad", counts(24, 3), obs={"gene": ["A", "wildtype"] * 12})
    findings = described(path)
    absent = check_only(findings, "warning", "no control cells: none of A, wildtype is a usual name")
    assert absent.tasks == ("env=counterfactual",) and "source.control_label" in absent.remedy
    named = described(path, control_label="wildtype")
    assert not [f for f in named if "no control cells" in f.what]
    check_only(named, "ok", "is_control: 12 of 24 cells")
    wrong = described(path, control_label="WT")
    check_only(wrong, "error", "source.control_label='WT' is not a value of obs['gene']")


def test_columns_that_say_little(tmp_path):
    plain = described(write_h5ad(tmp_path / "a.h5ad", counts(6, 3)))
    assert check_only(plain, "warning", "no column of perturbations").remedy == "name it with source.perturbation_key"
    few = {"gene": ["control"] * 20 + ["A", "A", "B", None], "dose": ["x"] * 24}
    findings = described(write_h5ad(tmp_path / "b.h5ad", counts(24, 3), obs=few))
    check_only(findings, "warning", "2 perturbations have fewer than 10 cells: A, B")
    check_only(findings, "warning", "1 of 24 cells have no perturbation")
    check_only(findings, "warning", "obs['dose'] is not used as dose")


def test_modalities_whose_cells_do_not_match(tmp_path):
    x, y = counts(24, 5), counts(24, 8, 1)
    shifted = [*CELLS[4:], *[f"o{i}" for i in range(4)]]
    findings = described(write_h5mu(tmp_path / "a.h5mu", {"rna": (x, CELLS, GENES), "atac": (y, shifted, peaks(8))}))
    assert "data=rna" in check_only(findings, "warning", "only 20 cells are in every modality (rna 24, atac 24)").tasks
    apart = [f"o{i}" for i in range(24)]
    none = described(write_h5mu(tmp_path / "b.h5mu", {"rna": (x, CELLS, GENES), "atac": (y, apart, peaks(8))}))
    assert "source.modality=rna" in check_only(none, "error", "no cell in common (rna 24, atac 24)").remedy
    twice = [*CELLS[:23], CELLS[0]]
    repeated = described(write_h5mu(tmp_path / "c.h5mu", {"rna": (x, twice, GENES), "atac": (y, twice, peaks(8))}))
    check_only(repeated, "error", "cell names are repeated")


def test_left_out_parts_are_mentioned(tmp_path):
    types = ["Gene Expression"] * 2 + ["CRISPR Guide Capture"]
    path = write_10x_h5(tmp_path / "f.h5", counts(6, 3), ["A", "B", "g1"], types, CELLS[:6])
    check_only(described(path), "warning", "1 features of type 'CRISPR Guide Capture' are not used")


def test_10x_folder(tmp_path):
    findings = described(write_10x_mtx(tmp_path / "m", counts(6, 3), list("ABC"), None, CELLS[:6], gz=True))
    assert seen(findings, "error") == []
    check_only(findings, "ok", "10x mtx folder, cells x features: rna 6 x 3")


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
        findings = validate(tmp_path / name)
        assert [f.tasks for f in findings] == [(name,) for name in everything()] and not usable(findings)
        with pytest.raises(UserError) as refused:
            build(file_config(tmp_path / name))
        assert {f.what for f in findings} == {str(refused.value)}
        assert message in refusal(findings) and name in refusal(findings)


def test_empty_matrix(tmp_path):
    findings = described(write_h5ad(tmp_path / "a.h5ad", np.zeros((3, 0), np.float32)))
    check_only(findings, "error", "it is empty: 3 cells x 0 features")


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
    assert not usable(validate(folder / "cut.h5ad", ["env=paper", "data=rna"]))


@settings(max_examples=20)
@given(st.binary(max_size=200))
def test_any_bytes_are_reported(whole_file, content):
    folder, _ = whole_file
    (folder / "noise.h5ad").write_bytes(content)
    findings = validate(folder / "noise.h5ad")
    assert not usable(findings) and "\n" not in refusal(findings)


def test_no_error_means_that_it_reads(tmp_path):
    x = counts(24, 5)
    made = [
        write_h5ad(tmp_path / "a.h5ad", x, obs=SCREEN),
        write_h5ad(tmp_path / "b.h5ad", x - 1.5, names=["A", "A", "B", "C", "D"]),
        write_h5mu(tmp_path / "c.h5mu", {"rna": (x, CELLS, GENES), "adt": (x, CELLS[::-1], GENES)}),
    ]
    for path in made:
        assert seen(described(path), "error") == []
        assert build(file_config(path)).n_cells == 24


def test_render_shows_every_finding_as_written(tmp_path):
    findings = described(write_h5ad(tmp_path / "a.h5ad", counts(24, 5), obs=SCREEN))
    made = Finding("error", "layers['counts']", "[bold]not markup[/bold]", "mend [it]", ("data=rna",))
    text = render([*findings, made], width=400)
    assert max(len(line) for line in text.splitlines()) <= 400
    for word in ("obs['perturbation']", made.location, made.what, made.remedy, "ERROR"):
        assert word in text
    assert sum(line.count("│") > 0 for line in text.splitlines()) == len(findings) + 1
    assert max(len(line) for line in render(findings, width=90).splitlines()) <= 90


def test_keys_of_screens_are_tried_where_they_are_read(tmp_path):
    """What an error offers (split=unseen_context conditions.context=...) can be given to validate as it is."""
    raw = made_raw(labels=("stim",), contexts=("B cells", "CD14 Mono"))
    obs = raw.obs.rename(columns={"perturbation": "arm"}).drop(columns="amount")
    path = tmp_path / "arms.h5ad"
    var = pd.DataFrame(index=raw.modalities["rna"].features)
    anndata.AnnData(raw.modalities["rna"].x, obs=obs, var=var).write_h5ad(path)
    words = ["data=rna", "encoder=none", "source.perturbation_key=arm"]
    alone = task(validate(path, words), "env=counterfactual")
    assert alone.severity == "error" and "split=unseen_context conditions.context=line" in alone.what
    findings = validate(path, [*words, "split=unseen_context", "conditions.context=line"])
    assert task(findings, "env=counterfactual").severity == task(findings, "env=paper").severity == "ok"
    assert not any("conditions.perturbation" in f.what for f in findings)
    older = validate(
        path, [*words[:2], "conditions.perturbation=arm", "split=unseen_context", "conditions.context=line"]
    )
    assert task(older, "env=counterfactual").severity == "ok"
    [notice] = [f for f in older if f.location == "override"]
    assert notice.what == "conditions.perturbation=arm: the key is called source.perturbation_key now"
