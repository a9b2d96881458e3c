from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from perturbrl import paths, records
from perturbrl.errors import UserError
from perturbrl.evaluate.paper.protocol import PaperEvaluation
from perturbrl.metrics_info import PAPER as METRICS

from .helpers import cell_table, protocol, register_toy, shift_by, toy

register_toy()
INFO = {"steps": 61440, "agent": "ppo", "seed": 3}
COLUMNS = {*METRICS, "mean_abs_action", "return_gain"}


def run(out: Path, action: float = 0.2, **changes: object) -> dict:
    PaperEvaluation(cell_table(), toy(), protocol(**changes)).write(shift_by(action), INFO, out)
    return json.loads((out / paths.SUMMARY).read_text())


def test_the_summary_has_the_documented_form(tmp_path):
    summary = run(tmp_path / "evaluation")
    assert (summary["protocol"], summary["n_cells"], summary["steps"], summary["seed"]) == ("paper", 30, 61440, 3)
    asked = protocol()
    assert (summary["clip"], summary["discrete_step"]) == (asked.clip, asked.discrete_step)
    assert summary["settings"] == {k: v for k, v in asdict(asked).items() if k != "name"}
    assert list(summary["rows"]) == ["policy", "do_nothing", "random_uniform", "random_sign", "best_constant"]
    for row in summary["rows"].values():
        assert set(row) >= COLUMNS
        assert all(isinstance(value, float) and math.isfinite(value) for value in row.values())
    nothing, policy = summary["rows"]["do_nothing"], summary["rows"]["policy"]
    assert policy["return"] - nothing["return"] == pytest.approx(policy["return_gain"])


def test_the_table_of_features_averages_to_the_summary(tmp_path):
    summary = run(tmp_path)
    frame = pd.read_parquet(tmp_path / paths.PER_FEATURE)
    assert list(frame.columns) == ["row", "feature", "modality", *METRICS]
    assert len(frame) == 5 * 6
    means = frame.groupby("row")[list(METRICS)].mean()
    for row, numbers in summary["rows"].items():
        np.testing.assert_allclose(means.loc[row], [numbers[name] for name in METRICS], rtol=1e-12)
    assert dict(zip(frame["feature"], frame["modality"], strict=True)) == {
        **{f"f{k}": "rna" for k in range(3)},
        **{f"f{k}": "atac" for k in range(3, 6)},
    }


def test_a_diverged_policy_is_nulls_and_a_flag_not_a_hole(tmp_path):
    summary = run(tmp_path, math.nan)
    assert summary["diverged"] == ["policy"]
    text = (tmp_path / paths.SUMMARY).read_text()
    assert "NaN" not in text and json.loads(text)["rows"]["policy"]["mse"] is None
    frame = pd.read_parquet(tmp_path / paths.PER_FEATURE)
    assert frame.loc[frame["row"] == "policy", "mse"].isna().all()
    assert frame.loc[frame["row"] != "policy", "mse"].notna().all()


def test_a_second_evaluation_replaces_the_first_and_leaves_nothing_else(tmp_path):
    first, second = run(tmp_path, 0.2), run(tmp_path, 0.4)
    assert json.loads((tmp_path / paths.SUMMARY).read_text()) == second != first
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([paths.SUMMARY, paths.PER_FEATURE])


def test_a_failed_write_keeps_the_old_files(tmp_path, monkeypatch):
    before = run(tmp_path, 0.2)

    def full(path, content):
        with records.replacing(path) as temporary:
            temporary.write_text("{")
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(records, "write_json", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        run(tmp_path, 0.4)
    assert json.loads((tmp_path / paths.SUMMARY).read_text()) == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_where_the_folder_should_be_is_named(tmp_path):
    (tmp_path / "evaluation").write_text("")
    with pytest.raises(UserError, match="evaluation: the evaluation cannot be written"):
        run(tmp_path / "evaluation")


def test_info_cannot_overwrite_what_the_protocol_says(tmp_path):
    with pytest.raises(UserError, match="the key n_cells is written by the protocol"):
        PaperEvaluation(cell_table(), toy(), protocol()).write(shift_by(0.1), {"n_cells": 7}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_features_outside_every_slice_have_no_modality(tmp_path):
    table = replace(cell_table(), slices={"rna": slice(0, 2)})
    PaperEvaluation(table, toy(), protocol()).write(shift_by(0.1), INFO, tmp_path)
    frame = pd.read_parquet(tmp_path / paths.PER_FEATURE)
    assert frame.groupby("feature")["modality"].first().tolist() == ["rna", "rna", "", "", "", ""]
