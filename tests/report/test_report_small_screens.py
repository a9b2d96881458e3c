"""Reports on screens that cannot rank by every column: one perturbation, conditions that are alone in their context."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fakes.screen_runs import make_screen_run
from rich.console import Console

from perturbrl.metrics_info import HEADLINE, HELD_OUT, columns_of
from perturbrl.report import build_report, layout
from perturbrl.report.claims import best_simple, statements
from perturbrl.report.collect import collect
from perturbrl.report.held_out import HeldOutTable, full_title, gather
from perturbrl.report.held_out_figures import draw
from perturbrl.report.held_out_section import grids, header, section

ONE = {"n_perturbations": 1, "most_together": 1, "n_training": 6}
SAME = ("train_mean", "matching_mean", "additive", "bilinear", "bilinear_tuned", "kernel_ridge", "knn", "transfer_mean")
CLAIMS = {"metric": "pds_cosine", "agents": ["ppo"], "alpha": 0.05}


def one_perturbation(root: Path, seed: int = 0, **split: Any) -> Path:
    """A run as a screen of ctrl and stim gives it: no PDS, and simple baselines that are all the training mean."""
    run = make_screen_run(root, "ppo", seed, conditions=1, kind="unseen_context")
    file = run / "evaluation" / "summary.json"
    summary = json.loads(file.read_text())
    summary["header"] |= ONE
    summary["claims"] = CLAIMS
    summary["split"] |= split
    summary["rows"] |= dict.fromkeys(SAME, summary["rows"]["train_mean"])
    for row in summary["rows"].values():
        row |= {f"{prefix}pds_cosine": None for prefix in ("", "median/", "resistant/", "calibrated/")}
    file.write_text(json.dumps(summary))
    table = run / "evaluation" / "per_perturbation.parquet"
    frame = pd.read_parquet(table)
    frame[frame["metric"] != "pds_cosine"].to_parquet(table, index=False)
    progress = pd.read_parquet(run / "progress.parquet").drop(columns="eval/pds_cosine")
    progress.rename(columns={"eval/pearson_delta_pert": "eval/pearson_delta_ctrl"}).to_parquet(run / "progress.parquet")
    return run


def table_of(root: Path) -> HeldOutTable:
    [table] = gather(collect([root]))
    return table


def test_the_columns_follow_from_the_design_alone() -> None:
    usual = columns_of(26, 7, 20)
    assert dict(usual.ranking) == dict(HEADLINE) and not usual.left_out
    assert usual.primary("wmse_ratio").name == "wmse_ratio" and usual.primary("mse") is HELD_OUT["mse"]
    assert columns_of(None, None, None) == usual
    alone = columns_of(26, 1, 20)
    assert set(HEADLINE) - set(alone.ranking) == {"pds_cosine"} == set(alone.left_out)
    assert alone.primary("pds_cosine").name == "pearson_delta_pert"
    one = columns_of(1, 1, 20)
    assert next(iter(one.ranking)) == "pearson_delta_ctrl" == one.primary("pds_cosine").name
    assert set(one.left_out) == {"pds_cosine", "pearson_delta_pert", "wr2_delta"} and "energy_ratio" in one.ranking
    assert one.primary("mse_norm").name == "mse_norm"
    smallest = columns_of(1, 1, 1)  # two cell types: every prediction is a multiple of one change
    assert smallest.primary("pds_cosine").name == "mse_norm" and set(smallest.ranking) == set(one.ranking)
    assert "pds_cosine" in columns_of(1, 3, 20).ranking  # doses of one drug: which of them is it


def test_one_perturbation_is_compared_by_what_can_rank(tmp_path: Path) -> None:
    one_perturbation(tmp_path)
    table = table_of(tmp_path)
    text = header(table)
    assert "; 1 run on 1 distinct held-out set (" in text and ", 1 distinct test condition in all." in text
    assert table.primary.name == "pearson_delta_ctrl"
    [statement] = statements(table)
    assert "no simple baseline" not in statement.text and "Pearson Δ(ctrl)" in statement.text
    printed = grids(table)[0]
    assert printed.columns[0].startswith("Pearson Δ(ctrl)") and not any(c.startswith("PDS") for c in printed.columns)
    text = header(table)
    assert "Left out: PDS-cos: every test condition is alone in its context" in text
    assert "Claims are about Pearson Δ(ctrl), not PDS-cos" in text
    titles = {grid.title: grid for grid in grids(table)}
    assert not any("Δ(ctrl)" in column for column in titles["Comparability"].columns)


def test_rows_that_are_the_same_are_one_row_that_names_them_all(tmp_path: Path) -> None:
    one_perturbation(tmp_path)
    table = table_of(tmp_path)
    [best] = [row for row in table.rows if row.kind == "simple"]
    assert best is best_simple(table, table.primary) and best.name == "train_mean"
    assert {row.name for row in best.alike} == set(SAME[1:])
    assert full_title(best) == "training mean (and 7 like it)"
    assert "training mean = matching mean = additive = bilinear = bilinear, tuned" in header(table)
    values = list(section(table).values)  # machines get them all
    assert {line[0] for line in values} >= set(SAME)


def test_different_rows_stay_apart_and_few_names_stand_in_the_row(tmp_path: Path) -> None:
    run = make_screen_run(tmp_path)
    assert all(not row.alike for row in table_of(tmp_path).rows)
    file = run / "evaluation" / "summary.json"
    summary = json.loads(file.read_text())
    summary["rows"]["best_constant"] = summary["rows"]["train_mean"]  # a floor and a simple baseline
    summary["rows"]["technical_duplicate"] = summary["rows"]["train_mean"]  # an oracle is no prediction
    file.write_text(json.dumps(summary))
    [merged] = [row for row in table_of(tmp_path).rows if row.alike]
    assert full_title(merged) == "training mean = best constant action" and merged.kind == "simple"


def test_panels_without_values_are_left_out_and_the_scatter_stays(tmp_path: Path) -> None:
    one_perturbation(tmp_path)
    pictures = {picture.title: picture for picture in draw(table_of(tmp_path), tmp_path / "figures")}
    assert set(pictures) == {
        "Calibrated scores by method",
        "Predicted against observed change",
        "Learning curves on validation",
    }  # no trend through one condition
    assert "Δ(ctrl)" in pictures["Learning curves on validation"].inline
    assert "PDS-cos" not in "".join(picture.inline for picture in pictures.values())


def test_a_long_name_is_not_cut_by_a_narrow_figure() -> None:
    handle = layout.key("ppo," + "x" * 60)
    for columns in (1, 3):
        figure, _ = layout.panels(1, columns, (3.4, 3.0), [handle], left=0.75)
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width


def test_a_value_that_no_row_has_is_no_column(tmp_path: Path) -> None:
    run = make_screen_run(tmp_path)
    file = run / "evaluation" / "summary.json"
    summary = json.loads(file.read_text())
    for row in summary["rows"].values():
        row["energy_ratio"] = None  # fewer than two cells
    file.write_text(json.dumps(summary))
    assert "Left out: E-ratio: it is undefined for every row" in header(table_of(tmp_path))


def test_what_is_held_out_is_named_in_the_terminal_and_on_the_page(tmp_path: Path) -> None:
    one_perturbation(tmp_path, held_out_names="cell_type CD14 Mono")
    built = build_report([tmp_path], tmp_path / "report", figures=False)
    console = Console(width=200, file=(tmp_path / "shown").open("w"))
    console.print(built.console)
    console.file.close()
    for text in ((tmp_path / "shown").read_text(), built.page.read_text(), (tmp_path / "report/tables.md").read_text()):
        assert "Held out: cell_type CD14 Mono." in " ".join(text.split())


@pytest.mark.parametrize("n", [2, 7])
def test_each_split_is_named_once_up_to_five(tmp_path: Path, n: int) -> None:
    for seed in range(n):
        one_perturbation(tmp_path, seed, held_out_names=f"patient P{seed}", sha256=f"{seed}")
    text = header(table_of(tmp_path))
    assert "Held out: patient P0 | patient P1" in text and (" and 2 other splits." in text) == (n == 7)
    assert math.isfinite(table_of(tmp_path).agents[0].cell("mse").mean)
