"""What runs that failed, and conditions without a value, count as."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakes.screen_runs import make_screen_run
from test_report_counterfactual import DECLARED, one, seeds

from perturbrl.report.claims import statements
from perturbrl.report.held_out_section import section
from perturbrl.report.render import csv_text, latex, markdown


def test_a_diverged_run_counts_as_no_change(tmp_path: Path) -> None:
    seeds(tmp_path, {"ppo": 0.3}, 2)
    make_screen_run(tmp_path, "ppo", 2, status="diverged")
    table = one(tmp_path)
    [ppo] = table.agents
    assert (len(ppo.units), ppo.mark) == (3, "diverged (1 of 3 runs)")
    rows = [json.loads((Path(run) / "evaluation/summary.json").read_text())["rows"] for run in table.summaries]
    for metric in ("pds_cosine", "calibrated/mse_norm", "return"):
        values = [r["no_change"][metric] if r["policy"][metric] is None else r["policy"][metric] for r in rows]
        assert ppo.cell(metric).mean == pytest.approx(np.mean(values)), metric
    assert ppo.cell("wall_seconds").n == 2 and ppo.cell("steps").mean == 50_000
    lines = table.of(ppo)
    assert set(lines["unit"]) == {"0", "1", "2"} and set(lines.loc[lines["unit"] == "2", "row"]) == {"no_change"}
    text = markdown(section(table))
    assert "diverged (1 of 3 runs)" in text and "nan" not in text + latex(section(table)) + csv_text(section(table))


def test_seeds_that_went_well_make_no_claim_for_those_that_diverged(tmp_path: Path) -> None:
    seeds(tmp_path, {"ppo": 0.9}, 8)
    for seed in range(8, 16):
        make_screen_run(tmp_path, "ppo", seed, status="diverged")
    [statement] = statements(one(tmp_path))
    assert statement.claim is not None and statement.claim.word == "no evidence"
    assert "Runs that diverged count as no change: 8 of 16." in statement.text


def test_an_oracle_is_left_out_where_there_is_none(tmp_path: Path) -> None:
    run = make_screen_run(tmp_path)
    file = run / "evaluation/per_perturbation.parquet"
    frame = pd.read_parquet(file)
    oracle = (frame["row"] == "technical_duplicate") & (frame["metric"] == "pds_cosine")
    frame.loc[oracle & (frame["condition"] == "T0_0"), "value"] = np.nan
    frame.to_parquet(file)
    table = one(tmp_path)
    [row] = [r for r in table.rows if r.name == "technical_duplicate"]
    assert sorted(table.of(row)["condition"]) == sorted(set(frame["condition"]) - {"T0_0"})


def test_a_second_run_of_one_agent_does_not_stand_in_for_one_that_is_missing(tmp_path: Path) -> None:
    table = seeds(tmp_path, {"ppo": 0.9, "ppo,lr=1": 0.9}, 8, summary=DECLARED, said={"agent": "ppo"})
    assert [row.label for row in table.agents] == ["ppo", "ppo,lr=1"]  # trpo was declared too
    assert all("after Holm over 3" in s.text for s in statements(table))
