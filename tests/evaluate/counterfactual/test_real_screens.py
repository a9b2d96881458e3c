"""Every baseline and every metric on measured screens: what must hold whatever the numbers are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes.configs import SCORE as CONFIG
from screens.test_real import table

from perturbrl.effects.baselines import BaselineContext, baseline_names, make_baseline
from perturbrl.evaluate.counterfactual import observe_effects, predict, score
from perturbrl.evaluate.counterfactual.cellwise import CALLED
from perturbrl.metrics_info import HELD_OUT as COLUMNS

pytestmark = pytest.mark.real_data


@pytest.mark.parametrize(
    "name, split, data",
    [
        ("papalexi", "unseen_single", "rna"),
        ("papalexi", "unseen_batch", "rna"),
        ("norman_mcfaline", "additive", "rna"),
        ("norman_mcfaline", "unseen_context", "rna"),
        ("a549", "unseen_dose", "rna"),
    ],
)
def test_every_row_on_measured_cells(real_data: Path, name: str, split: str, data: str) -> None:
    truth = observe_effects(table(real_data, name, split, data), CONFIG)
    setting = BaselineContext(seed=0, action_rms=0.1)
    scores = score(truth, {row: predict(make_baseline(row, setting), truth) for row in baseline_names()})
    for row, found in scores.rows.items():
        # PDS needs two conditions of a context, ratios an effect above the noise; the rest is always there
        assert all(np.isfinite(found[m]) for m in ("mse", "l2_top", "pearson_delta_ctrl", "pearson_delta_pert")), row
    nothing, mean = scores.rows["no_change"], scores.rows["train_mean"]
    for metric, column in COLUMNS.items():
        if column.no_change is not None and np.isfinite(nothing[metric]):
            # a test at a false discovery rate of 5 % makes a false call now and then
            room = 0.02 if metric in CALLED else 1e-9
            assert nothing[metric] == pytest.approx(column.no_change, abs=room), metric
    assert mean["wmse_ratio"] == pytest.approx(1.0) and mean["pearson_delta_pert"] == 0
    if np.isfinite(mean["pds_cosine"]) and len(set(truth.contexts)) == 1:
        assert mean["pds_cosine"] == pytest.approx(0.5, abs=1e-9)
    if split == "additive":
        assert scores.coverage["additive"] == 1
    if split == "unseen_context":
        assert scores.coverage["transfer_mean"] > 0
