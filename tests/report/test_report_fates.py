"""Runs that steer cells to fates have a table of their own, with the optimum and rules beside the agents, by stage."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from perturbrl.report import swept
from perturbrl.report.build import build_report
from perturbrl.report.collect import collect
from perturbrl.report.fates import REFERENCES, build_tables, section
from perturbrl.runner.evaluate import Evaluator
from perturbrl.runner.hydra.compose import compose_job
from perturbrl.runner.progress import Progress
from perturbrl.runner.train import train_jobs

TASK = (
    *("env=fate", "env.start=progenitor", "env.target=erythrocyte", "env.stages=[megakaryocyte-erythroid progenitor]"),
    *("env.between=updates", "env.n_updates=15", "env.n_decisions=5", "protocol.episodes=16", "protocol.simulations=1"),
    *("agent=ppo", "agent.rollout_steps=64", "agent.n_envs=8", "agent.minibatch=16", "schedule.total=64"),
    *("policy.hidden=[4]", "curve_points=1", "device=cpu"),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fates")
    jobs = [compose_job([*TASK, f"seed={seed}"], root, "fates") for seed in (0, 1)]
    train_jobs(jobs, Progress("quiet"))
    evaluator = Evaluator()
    for job in jobs:
        evaluator.evaluate(job.path)
    return root


def test_the_table_has_the_optimum_the_rules_and_the_agent(runs: Path) -> None:
    collection = collect([runs])
    assert collection.paper.empty and len(collection.fates) == 2
    (table,) = build_tables(collection)
    assert [row.name for row in table.rows] == [*REFERENCES, "policy"]
    optimum, policy = table.rows[0], table.rows[-1]
    assert optimum.cell("regret").mean == 0.0 and policy.n == 2
    assert optimum.cell("success_rate").mean > table.rows[-2].cell("success_rate").mean
    assert table.goals == ("megakaryocyte-erythroid progenitor", "target")


def test_the_shares_by_stage_end_at_the_share_that_reached_the_target(runs: Path) -> None:
    (table,) = build_tables(collect([runs]))
    last = section(table).grids[-1]
    assert last.title == "Share of cells that passed: target" and len(last.lines) == len(table.rows)
    for row, line in zip(table.rows, last.lines, strict=True):
        assert float(line.cells[-1].value) == pytest.approx(row.cell("success_rate").mean, abs=6e-4)


def test_a_report_shows_table_and_figure(runs: Path, tmp_path: Path) -> None:
    report = build_report([runs], tmp_path)
    assert [file.suffix for file in report.files if "stages" in file.name] == [".png", ".svg"]
    page = report.page.read_text()
    assert "Goals passed along pseudotime" in page and "optimum (exact)" in page
    values = pd.read_csv(tmp_path / "values.csv")
    assert {"regret", "control_length", "success_rate"} <= set(values["metric"])


def test_a_sweep_over_max_perturb_has_a_figure_of_regret_and_success_against_it(tmp_path: Path) -> None:
    jobs = [compose_job([*TASK, f"env.max_perturb={n}"], tmp_path / "runs", "fates") for n in (1, 2)]
    train_jobs(jobs, Progress("quiet"))
    for job in jobs:
        Evaluator().evaluate(job.path)
    collection = collect([tmp_path / "runs"])
    tables = build_tables(collection)
    (line,) = swept.series(tables, "env.max_perturb", collection.differing)
    assert sorted(line.points) == [1.0, 2.0]
    drawn = swept._draw([line], "env.max_perturb", swept.FATE_PANELS)
    assert drawn is not None and len(drawn.figure.axes) == 2
    (bars, *_) = drawn.figure.axes[0].containers
    assert list(bars[0].get_ydata()) == pytest.approx([line.points[n].cell("regret").mean for n in (1.0, 2.0)])
    report = build_report([tmp_path / "runs"], tmp_path / "report")
    assert "swept-fates-env.max_perturb" in {file.stem for file in report.files}
