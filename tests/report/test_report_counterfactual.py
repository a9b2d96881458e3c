from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakes.runs import make_run
from fakes.screen_runs import make_screen_run
from rich.console import Console

from perturbrl.effects.baselines import baseline_names
from perturbrl.metrics_info import BEST_ACTIONS, DUPLICATES, HEADLINE, HELD_OUT, ROWS, SIMPLE, SIMULATOR, TRUE_MEAN
from perturbrl.report import build_report
from perturbrl.report.across import across
from perturbrl.report.claims import best_simple, statements
from perturbrl.report.collect import collect
from perturbrl.report.console import console
from perturbrl.report.held_out import HeldOutTable as Table
from perturbrl.report.held_out import gather
from perturbrl.report.held_out_figures import draw
from perturbrl.report.held_out_section import grids, header, section
from perturbrl.report.paper import build_tables
from perturbrl.report.render import csv_text, latex, markdown
from perturbrl.stats import crossed_mean, holm, iqm, mean_interval

DECLARED = {"claims": {"metric": "pds_cosine", "agents": ["ppo", "trpo"], "alpha": 0.05}}


def one(root: Path) -> Table:
    [table] = gather(collect([root]))
    return table


def seeds(root: Path, skills: dict[str, float], n: int, **more: object) -> Table:
    for agent, skill in skills.items():
        for seed in range(n):
            make_screen_run(root, agent, seed, skill=skill, **more)  # type: ignore[arg-type]
    return one(root)


def test_every_row_of_an_evaluation_is_known() -> None:
    assert {*baseline_names(), TRUE_MEAN, *DUPLICATES, BEST_ACTIONS, SIMULATOR} == set(ROWS)
    assert set(SIMPLE) <= set(baseline_names())


def test_screens_are_no_part_of_tables_i_to_iii(tmp_path: Path) -> None:
    make_run(tmp_path)
    make_screen_run(tmp_path)
    found = collect([tmp_path])
    assert len(build_tables(found)) == len(gather(found)) == 1
    assert set(found.paper["env"]) == {"paper"} and set(found.counterfactual["env"]) == {"counterfactual"}


def test_cells_are_means_over_seeds(tmp_path: Path) -> None:
    table = seeds(tmp_path, {"ppo": 0.3}, 3)
    [row] = table.agents
    runs = [
        json.loads((Path(run) / "evaluation/summary.json").read_text())["rows"]["policy"] for run in table.summaries
    ]
    for metric in ("pds_cosine", "calibrated/mse_norm", "median/f1", "resistant/wr2_delta", "return", "wall_seconds"):
        assert row.cell(metric) == mean_interval([run[metric] for run in runs]), metric


def test_order_and_kinds_of_rows(tmp_path: Path) -> None:
    table = seeds(tmp_path, {"trpo": 0.3, "ppo": 0.3}, 1)
    assert [row.label for row in table.rows] == [*(row for row in ROWS if row != SIMULATOR), "ppo", "trpo"]
    assert [row.label for row in table.rows if row.kind == "simple"] == list(SIMPLE)
    assert [row.label for row in table.rows if row.kind == "oracle"] == [TRUE_MEAN, *DUPLICATES, BEST_ACTIONS]


def test_data_split_rule_and_settings_make_a_table_and_split_seeds_do_not(tmp_path: Path) -> None:
    make_screen_run(tmp_path)
    make_screen_run(tmp_path, seed=1, split_seed=1, cells="papalexi21-rna,split.seed=1")
    make_screen_run(tmp_path, cells="norman19-rna")
    make_screen_run(tmp_path, cells="norman19-rna,split=additive", kind="additive")
    make_screen_run(tmp_path, env="counterfactual,horizon=4")
    make_screen_run(tmp_path, seed=2, summary={"n_control_cells": 500}, name="screens")
    tables = gather(collect([tmp_path]))
    assert len({t.slug for t in tables}) == len(tables) == 5
    [pooled] = [t for t in tables if t.splits == 2]
    assert len(pooled.runs) == 2 and len(pooled.agents[0].units) == 2


def test_with_several_splits_the_unit_is_the_split(tmp_path: Path) -> None:
    for split in range(3):
        for seed in range(4):
            make_screen_run(tmp_path, seed=10 * split + seed, split_seed=split, skill=0.8)
    table = one(tmp_path)
    [row] = table.agents
    assert row.cell("pds_cosine").n == 3
    [statement] = statements(table)
    assert "3 held-out sets, 36 distinct test conditions, 12 runs" in statement.text
    assert "No claim is made: too few: 3 held-out sets, where it takes 6" in statement.text
    assert statement.claim is not None and statement.claim.word == "no evidence"


def test_the_claim_is_what_a_loop_finds(tmp_path: Path) -> None:
    table = seeds(tmp_path, {"ppo": 0.9, "trpo": 0.43, "trpo_ppo": 0.0}, 8)
    best = best_simple(table, HELD_OUT["pds_cosine"])
    assert best is not None and best.name == "bilinear_tuned"  # the fabricated skills say so
    found = statements(table)
    assert [s.claim.word for s in found if s.claim] == ["better", "no evidence", "worse"]
    p = []
    for agent in ("ppo", "trpo", "trpo_ppo"):
        gaps = np.zeros((8, 12))
        for run in table.summaries:
            if Path(run).parts[-2] == agent:
                frame = pd.read_parquet(Path(run) / "evaluation/per_perturbation.parquet").query(
                    "metric == 'pds_cosine'"
                )
                ours, theirs = (frame[frame["row"] == row]["value"].to_numpy() for row in ("policy", "bilinear_tuned"))
                gaps[int(Path(run).name.removeprefix("seed"))] = ours - theirs
        mean = crossed_mean(gaps)
        # worse than the best of eight is worse than any of eight
        p.append(mean.p if mean.mean > 0 else min(1.0, len(SIMPLE) * mean.p))
    assert [s.claim.p for s in found if s.claim] == pytest.approx(holm(p).tolist())
    assert "bilinear, tuned, the best simple baseline" in found[0].text and "after Holm over 3" in found[0].text
    assert all("not declared before training" in s.text for s in found)
    assert [s.word for s in found] == ["better (exploratory)", "no evidence", "worse (exploratory)"]


def test_the_mlp_and_the_oracles_are_no_simple_baselines(tmp_path: Path) -> None:
    table = seeds(tmp_path, {"ppo": 0.3}, 1)
    best = best_simple(table, HELD_OUT["pds_cosine"])
    assert best is not None and max(r.cell("pds_cosine").mean for r in table.rows) > best.cell("pds_cosine").mean


def test_lower_is_better_where_it_is(tmp_path: Path) -> None:
    declared = {"claims": {"metric": "mse_norm", "agents": ["ppo"], "alpha": 0.05}}
    table = seeds(tmp_path, {"ppo": 0.9}, 6, summary=declared)
    best = best_simple(table, HELD_OUT["mse_norm"])
    assert best is not None and best.name == "bilinear_tuned"
    [statement] = statements(table)
    assert statement.claim is not None and statement.claim.word == "better" and statement.claim.difference.mean > 0


def test_a_declared_family_stays_as_large_as_it_was_declared(tmp_path: Path) -> None:
    table = seeds(tmp_path, {"ppo": 0.9}, 8, summary=DECLARED)  # trpo was declared and never run
    [statement] = statements(table)
    assert "after Holm over 2" in statement.text and "not declared" not in statement.text
    assert statement.claim is not None and statement.word == "better"
    [alone] = statements(seeds(tmp_path / "alone", {"ppo": 0.9}, 8))
    assert alone.claim is not None and statement.claim.p == pytest.approx(2 * alone.claim.p)


def test_an_agent_outside_the_declared_family_is_not_claimed(tmp_path: Path) -> None:
    table = seeds(tmp_path, {"ppo": 0.9, "a2c": 0.9}, 8, summary=DECLARED)
    assert [s.agent.label for s in statements(table)] == ["ppo"]


def test_five_seeds_say_that_they_are_too_few(tmp_path: Path) -> None:
    [statement] = statements(seeds(tmp_path, {"ppo": 0.9}, 5))
    assert statement.claim is not None and statement.claim.word == "no evidence"
    assert "No claim is made: too few: 5 seeds, where it takes 6" in statement.text


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    [statement] = statements(seeds(tmp_path, {"ppo": 0.9}, 1))
    assert "no interval" in statement.text and "1 held-out set with 1 seed," in statement.text


def test_the_interval_counts_perturbations(tmp_path: Path) -> None:
    [few] = statements(seeds(tmp_path / "few", {"ppo": 0.5}, 6, conditions=4))
    [many] = statements(seeds(tmp_path / "many", {"ppo": 0.5}, 6, conditions=200))
    assert few.claim is not None and many.claim is not None
    widths = [s.claim.difference.high - s.claim.difference.low for s in (few, many) if s.claim]
    assert widths[0] > 2 * widths[1]


def test_strata_are_shown_apart(tmp_path: Path) -> None:
    table = seeds(tmp_path, {"ppo": 0.3}, 2, strata=("seen0", "seen1"))
    [grid] = [g for g in grids(table) if g.title.endswith("by stratum")]
    assert grid.columns == ("seen0", "seen1")
    line = next(line for line in grid.lines if line.label == "training mean")
    frame = table.conditions[table.conditions["row"] == "train_mean"]
    wanted = [f"{frame.loc[frame['stratum'] == s, 'value'].mean():.3f}" for s in grid.columns]
    assert [cell.value for cell in line.cells] == wanted
    assert not any(g.title.endswith("by stratum") for g in grids(seeds(tmp_path / "x", {"ppo": 0.3}, 1)))


def test_undefined_values_count_as_the_column_says(tmp_path: Path) -> None:
    run = make_screen_run(tmp_path)
    file = run / "evaluation/per_perturbation.parquet"
    frame = pd.read_parquet(file)
    frame.loc[(frame["row"] == "policy") & (frame["metric"] == "pds_cosine"), "value"] = np.nan
    frame.to_parquet(file)
    table = one(tmp_path)
    assert set(table.of(table.agents[0])["value"]) == {HEADLINE["pds_cosine"].undefined}


def test_without_the_tables_of_conditions_the_rest_stands(tmp_path: Path) -> None:
    table = seeds(tmp_path / "runs", {"ppo": 0.9}, 8)
    for run in table.summaries:
        for file in ("per_perturbation.parquet", "changes.parquet"):
            (Path(run) / "evaluation" / file).unlink()
    report = build_report([tmp_path / "runs"], tmp_path / "out")
    [shown] = report.held_out
    [statement] = shown.claims
    assert statement.word == "no evidence" and "the scores by condition (PDS-cos) are missing" in statement.text
    assert sorted(f.stem.split("-")[-1] for f in report.files if f.suffix == ".png") == ["calibrated", "validation"]


def test_header_says_what_was_tested(tmp_path: Path) -> None:
    text = header(seeds(tmp_path, {"ppo": 0.3}, 2))
    for said in (
        "unseen_single",
        "Test conditions: 12",
        "median 150 cells",
        "systematic variation 0.41",
        "(AUPRC-DE of chance): 0.06",
        "100.",
    ):
        assert said in text


def test_csv_has_full_precision(tmp_path: Path) -> None:
    table = seeds(tmp_path, {"ppo": 0.3}, 2)
    rows = list(csv.DictReader(io.StringIO(csv_text(section(table)))))
    assert {r["statistic"] for r in rows} == {"raw", "calibrated", "median", "resistant"}
    [line] = [r for r in rows if (r["row"], r["statistic"], r["metric"]) == ("ppo", "calibrated", "f1")]
    cell = table.agents[0].cell("calibrated/f1")
    assert [float(line[k]) for k in ("mean", "low", "high")] == [cell.mean, cell.low, cell.high]


def test_markdown_is_rectangular_and_latex_balanced(tmp_path: Path) -> None:
    shown = section(seeds(tmp_path, {"ppo": 0.3, "odd_agent": 0.2}, 2, name="50%_&_more"))
    blocks = re.findall(r"(?:^\|.*\n)+", markdown(shown), flags=re.MULTILINE)
    assert len(blocks) == len(shown.grids)
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    text = latex(shown)
    assert text.isascii() and text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert text.count(r"\begin{") == text.count(r"\end{") == 2 * len(shown.grids)


def test_learning_curves_show_the_share_of_the_best_allowed_return_where_runs_have_it(tmp_path: Path) -> None:
    run = make_screen_run(tmp_path)

    def drawn() -> str:
        [picture] = [p for p in draw(one(tmp_path), tmp_path / "figures") if p.title == "Learning curves on validation"]
        return picture.inline

    assert "return of the deterministic policy" in drawn() and "best allowed" not in drawn()
    progress = pd.read_parquet(run / "progress.parquet")
    progress.assign(**{"eval/return_share": progress["eval/return"] / 2}).to_parquet(run / "progress.parquet")
    assert "that of the best allowed actions" in drawn() and "deterministic" not in drawn()


def test_figures_and_page(tmp_path: Path) -> None:
    table = seeds(tmp_path / "runs", {"ppo": 0.3, "trpo": 0.6}, 3)
    report = build_report([tmp_path / "runs"], tmp_path / "out")
    pictures = sorted(f.stem for f in report.files if f.suffix == ".png")
    assert pictures == sorted(f"{table.slug}-{k}" for k in ("calibrated", "changes", "effect", "validation"))
    text = report.page.read_text()
    assert "no evidence" in text and "Did trpo_ppo win" not in text  # no Tables I-III here
    assert text.count("<figure>") == 4 and "best simple baseline" in text
    out = io.StringIO()
    Console(file=out, width=90).print(report.console)
    assert "best simple baseline" in out.getvalue() and "PDS-cos" in out.getvalue()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_console_cuts_no_number(tmp_path: Path, width: int) -> None:
    table = seeds(tmp_path, {"ppo": 0.3}, 2)
    out = io.StringIO()
    Console(file=out, width=width).print(console([section(table)]))
    shown = out.getvalue()
    assert "…" not in shown and max(len(line.rstrip()) for line in shown.splitlines()) <= width
    for cell in grids(table)[0].lines[-1].cells:
        assert cell.value in shown and f"±{cell.half}" in shown


def test_sums_over_tables(tmp_path: Path) -> None:
    for cells in ("papalexi21-rna", "norman19-rna"):
        for seed in range(3):
            make_screen_run(tmp_path, "ppo", seed, skill=0.6 if cells.startswith("p") else 0.2, cells=cells)
    make_screen_run(tmp_path, "trpo", 0)  # not on both
    tables = gather(collect([tmp_path]))
    assert across(tables[:1]) is None
    grid = across(tables)
    assert grid is not None
    [line] = grid.lines
    scores = np.stack([t.agents[0].units["calibrated/pds_cosine"].to_numpy() for t in tables], axis=1)
    assert line.label == "ppo" and line.cells[0].value.startswith(f"{iqm(scores):.3f} [")
    assert line.cells[2].value == "0.500"  # always above the best simple baseline in one, never in the other
    report = build_report([tmp_path], tmp_path / "out", figures=False)
    assert "Over all tables" in report.page.read_text()


def test_the_scatter_shows_the_middle_seed(tmp_path: Path) -> None:
    for seed, skill in enumerate((0.1, 0.9, 0.5)):
        make_screen_run(tmp_path, seed=seed, skill=skill)
    (tmp_path / "figures").mkdir()
    pictures = draw(one(tmp_path), tmp_path / "figures")
    [changes] = [p for p in pictures if p.png.stem.endswith("changes")]
    assert "seed 2: the median" in changes.caption


def test_regret_is_shown_where_a_simulator_knows_the_truth(tmp_path: Path) -> None:
    def control() -> tuple[tuple[str, ...], dict[str, str]]:
        [grid] = [g for g in grids(one(tmp_path)) if g.title == "Control"]
        return grid.columns, {line.label: line.cells[-4].value for line in grid.lines}

    file = make_screen_run(tmp_path) / "evaluation" / "summary.json"
    heads, lines = control()
    best = ROWS[BEST_ACTIONS].title
    assert not any("regret" in head for head in heads) and set(lines) == {"no change (floor)", best, "ppo"}
    content = json.loads(file.read_text())
    content["rows"]["simulator"] = dict(content["rows"]["technical_duplicate"])
    regrets = {"policy": 0.4, "no_change": 1.0, "bilinear": 0.6, BEST_ACTIONS: 0.1, "simulator": 0.0}
    for row, regret in regrets.items():
        content["rows"][row]["regret"] = regret
    file.write_text(json.dumps(content))
    heads, lines = control()
    assert heads[-4].startswith("regret")
    simulator = ROWS[SIMULATOR].title
    oracles = {best: "0.100", simulator: "0.000"}
    assert lines == {"no change (floor)": "1.000", "bilinear": "0.600", "ppo": "0.400"} | oracles
    assert {"share of best allowed ↑", "normalised return, training ↑"} <= {
        head.replace("\u00a0", " ") for head in heads
    }
    [row] = [row for row in one(tmp_path).rows if row.label == SIMULATOR]
    assert row.kind == "oracle"
