"""Any two agents of a report: paired differences, what they rest on, and where they are printed."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakes.runs import make_run
from fakes.screen_runs import make_screen_run
from rich.console import Console
from scipy import stats as reference

from perturbrl.report import build_report
from perturbrl.report.collect import collect
from perturbrl.report.comparisons import Comparison, compare
from perturbrl.report.comparisons_section import FILE, VALUES
from perturbrl.report.held_out import gather
from perturbrl.report.paper import build_tables
from perturbrl.stats import crossed_mean, holm, mean_interval

BETTER, WORSE = (0.1, 0.12, 0.11, 0.13, 0.1), (0.5, 0.55, 0.52, 0.5, 0.51)


def compared(root: Path) -> list[Comparison]:
    found = collect([root])
    return [each for pairs in compare(build_tables(found), gather(found)).values() for each in pairs]


def find(pairs: list[Comparison], first: str, second: str, metric: str) -> Comparison:
    [one] = [c for c in pairs if (c.first.label, c.second.label, c.metric.name) == (first, second, metric)]
    return one


def paper_runs(root: Path, n: int = 5) -> None:
    for seed in range(n):
        make_run(root, "ppo", seed=seed, values={"mse": WORSE[seed], "return_gain": 1.0 + 0.1 * seed})
        make_run(root, "trpo", seed=seed, values={"mse": BETTER[seed], "return_gain": 1.0 - 0.1 * seed})
        make_run(root, "trpo_ppo", seed=seed, values={"mse": BETTER[::-1][seed], "return_gain": -3.0 + 0.2 * seed})


def test_all_pairs_are_compared_by_seed_under_one_correction(tmp_path: Path) -> None:
    paper_runs(tmp_path)
    pairs = compared(tmp_path)
    assert len(pairs) == 6 and {c.family for c in pairs} == {6}  # three pairs at two metrics
    raw = []
    for each in pairs:
        a, b = (row.units[each.metric.name].to_numpy() for row in (each.first, each.second))
        gaps = each.metric.sign * (a - b)
        assert each.difference == mean_interval(gaps) and each.difference.n == 5
        raw.append(reference.ttest_rel(a, b).pvalue)
    assert [c.p for c in pairs] == pytest.approx(holm(raw).tolist())
    assert find(pairs, "ppo", "trpo", "mse").better == "trpo"
    assert find(pairs, "ppo", "trpo_ppo", "return_gain").better == "ppo"
    assert find(pairs, "trpo", "trpo_ppo", "mse").better == ""


def test_seeds_are_paired_and_not_pooled(tmp_path: Path) -> None:
    for seed in range(4):
        make_run(tmp_path, "ppo", seed=seed, values={"mse": 0.1 * seed + 0.01 + 0.001 * seed})
    for seed in range(1, 6):
        make_run(tmp_path, "trpo", seed=seed, values={"mse": 0.1 * seed})
    one = find(compared(tmp_path), "ppo", "trpo", "mse")
    assert one.difference.n == 3 and one.difference.excludes(0.0)  # seeds differ far more than the agents do
    make_run(tmp_path / "apart", "ppo", seed=0)
    make_run(tmp_path / "apart", "trpo", seed=1)
    one = find(compared(tmp_path / "apart"), "ppo", "trpo", "mse")
    assert (one.difference.n, one.p, one.better) == (0, 1.0, "") and "no shared seed" in one.obstacle


def test_equal_steps_or_said_not_to_be(tmp_path: Path) -> None:
    paper_runs(tmp_path / "runs")
    pairs = compared(tmp_path / "runs")
    assert find(pairs, "ppo", "trpo", "mse").equal_steps
    assert find(pairs, "ppo", "trpo_ppo", "mse").steps == ((1_001_472,), (61_440,))
    assert not find(pairs, "ppo", "trpo_ppo", "mse").equal_steps
    build_report([tmp_path / "runs"], tmp_path / "out", figures=False)
    for file in ("tables.md", "report.html"):
        text = (tmp_path / "out" / file).read_text()
        assert text.count("equal (1,001,472)") == 1 and text.count("not equal (1,001,472; 61,440)") == 2, file


def test_an_agent_is_not_better_by_the_seeds_that_it_finished(tmp_path: Path) -> None:
    for seed in range(5):
        status = "diverged" if seed == 4 else "complete"
        make_run(tmp_path, "ppo", seed=seed, values={"mse": BETTER[seed]}, status=status)
        make_run(tmp_path, "trpo", seed=seed, values={"mse": WORSE[seed]})
    one = find(compared(tmp_path), "ppo", "trpo", "mse")
    assert one.difference.low > 0 and one.better == "" and one.obstacle == "1 of 5 runs of ppo diverged"


def test_runs_without_an_evaluation_leave_it_open(tmp_path: Path) -> None:
    paper_runs(tmp_path)
    make_run(tmp_path, "trpo", seed=7, evaluated=False)
    pairs = compared(tmp_path)
    assert find(pairs, "ppo", "trpo", "mse").obstacle == "1 of 6 runs of trpo have no evaluation"
    assert find(pairs, "ppo", "trpo", "mse").better == "" and find(pairs, "ppo", "trpo_ppo", "mse").better == "trpo_ppo"


def test_held_out_pairs_are_crossed_over_units_and_conditions(tmp_path: Path) -> None:
    for seed in range(8):
        make_screen_run(tmp_path, "ppo", seed, skill=0.9, split_seed=seed % 8)
        make_screen_run(tmp_path, "trpo", seed, skill=0.3, split_seed=seed % 8)
    [one] = compared(tmp_path)
    assert (one.unit, one.difference.n, one.conditions, one.better) == ("held-out set", 8, 96, "ppo")
    frames = {}
    for agent in ("ppo", "trpo"):
        runs = sorted(tmp_path.rglob(f"{agent}/seed*/evaluation/per_perturbation.parquet"))
        parts = [pd.read_parquet(file).assign(seed=k) for k, file in enumerate(runs)]
        frame = pd.concat(parts).query("metric == 'pds_cosine' and row == 'policy'")
        frames[agent] = frame.pivot_table(index="seed", columns="condition", values="value")
    wanted = crossed_mean(frames["ppo"] - frames["trpo"])
    assert one.p == pytest.approx(wanted.p) and one.difference.half == pytest.approx(wanted.interval().half)
    assert one.equal_steps


def test_few_units_support_no_answer_on_held_out_perturbations(tmp_path: Path) -> None:
    for seed in range(5):
        make_screen_run(tmp_path, "ppo", seed, skill=0.9)
        make_screen_run(tmp_path, "trpo", seed, skill=0.1)
    [one] = compared(tmp_path)
    assert one.better == "" and one.obstacle == "too few: 5 seeds, where it takes 6"


def test_where_they_are_printed(tmp_path: Path) -> None:
    paper_runs(tmp_path / "runs")
    report = build_report([tmp_path / "runs"], tmp_path / "out", figures=False)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / FILE).read_text())))
    assert list(rows[0]) == list(VALUES) and len(rows) == 6 and tmp_path / "out" / FILE in report.files
    first = rows[0]
    assert (first["first"], first["second"], first["better"], first["n"]) == ("ppo", "trpo", "trpo", "5")
    assert float(first["difference"]) == pytest.approx(np.mean(BETTER) - np.mean(WORSE))
    assert (first["equal_steps"], first["family"], first["conditions"]) == ("true", "6", "")
    out = io.StringIO()
    Console(file=out, width=500).print(report.console)
    assert "Holm over 6; comparisons.csv): MSE: trpo better than ppo; trpo_ppo better than ppo;" in out.getvalue()
    assert "Any two agents" in (tmp_path / "out" / "tables.md").read_text()
    tex = next((tmp_path / "out" / "tables").glob("*.tex")).read_text()
    assert "& no evidence &" in tex and r"ppo $-$ trpo\_ppo" in tex


def test_an_agent_alone_is_compared_with_none(tmp_path: Path) -> None:
    make_run(tmp_path / "runs")
    build_report([tmp_path / "runs"], tmp_path / "out", figures=False)
    assert not (tmp_path / "out" / FILE).exists()
    assert "Any two agents" not in (tmp_path / "out" / "report.html").read_text()
