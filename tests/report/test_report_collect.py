from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path

import pytest
from fakes.runs import make_run

from perturbrl.errors import UserError
from perturbrl.report.collect import FRAME_COLUMNS, collect
from perturbrl.report.paper import build_tables
from perturbrl.run_dirs import Label, Labels, find_runs


def test_frame_holds_every_number_of_the_summaries(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, agent, "joint", seed) for agent in ("ppo", "trpo") for seed in (0, 1)]
    frame = collect([tmp_path]).frame
    assert list(frame.columns) == list(FRAME_COLUMNS)
    cells = 0
    for run in runs:
        rows = json.loads((run / "evaluation/summary.json").read_text())["rows"]
        for row, metrics in rows.items():
            for metric, value in metrics.items():
                found = frame[(frame["run"] == str(run)) & (frame["row"] == row) & (frame["metric"] == metric)]
                assert found["value"].tolist() == [value]
                assert found["agent"].tolist() == [json.loads((run / "run.json").read_text())["agent"]]
                cells += 1
    assert len(frame) == cells


def test_one_run_a_folder_and_a_glob_find_the_same(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    make_run(tmp_path, seed=1)
    assert find_runs([run]) == [run] == find_runs([run / "run.json"]) == find_runs([run / "evaluation" / ".."])
    assert len(find_runs([tmp_path])) == 2
    assert find_runs([f"{tmp_path}/*/*/*/ppo/seed*"]) == find_runs([tmp_path, run])  # each once


def test_hydra_folders_are_not_runs(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    hidden = tmp_path / "fabricated" / ".hydra"
    hidden.mkdir()
    (hidden / "config.yaml").write_text("a: 1")
    assert find_runs([tmp_path]) == [run]


def test_incomplete_runs_are_listed_with_the_reason(tmp_path: Path) -> None:
    make_run(tmp_path, seed=0)
    killed = make_run(tmp_path, seed=1)
    (killed / "run.json").unlink()
    reasons = {
        killed: "interrupted",
        make_run(tmp_path, seed=2, status="failed", said={"message": "disk full"}): "disk full",
        make_run(tmp_path, seed=3, evaluated=False): "perturbrl evaluate",
    }
    torn = make_run(tmp_path, seed=4)
    (torn / "run.json").write_text('{"status": "comp')
    reasons[torn] = "run.json cannot be read"
    wrong = make_run(tmp_path, seed=5, values={"mse": "low"})  # type: ignore[dict-item]
    reasons[wrong] = "rows.policy.mse is not a number: 'low'"
    reasons[make_run(tmp_path, seed=6, said={"steps": None})] = "steps is missing"
    found = collect([tmp_path])
    assert found.runs["seed"].tolist() == [0]
    told = {item.run: item.reason for item in found.incomplete}
    assert set(told) == set(reasons)
    for run, reason in reasons.items():
        assert reason in told[run]


def test_a_diverged_run_is_a_row(tmp_path: Path) -> None:
    make_run(tmp_path, seed=0)
    make_run(tmp_path, seed=1, status="diverged")
    found = collect([tmp_path])
    diverged = found.frame[found.frame["seed"] == 1]
    assert set(diverged["status"]) == {"diverged"}
    assert set(diverged["row"]) == {"policy"} and diverged["value"].isna().all() and len(diverged) == 12


def test_names_of_runs_without_labels_come_from_the_folders_or_from_the_run_itself(tmp_path: Path) -> None:
    make_run(tmp_path, "trpo", name="sweep")
    run = make_run(tmp_path, "trpo", env="paper,max_perturb=4", override=",kl=summed", name="sweep")
    row = collect([tmp_path]).runs.iloc[1]
    assert (row["name"], row["task"], row["label"], row["agent"], row["env"]) == (
        "sweep",
        "paper,max_perturb=4",
        "trpo,kl=summed",
        "trpo",
        "paper",
    )
    moved = tmp_path / "elsewhere" / "copy"
    moved.parent.mkdir()
    run.rename(moved)
    row = collect([moved]).runs.iloc[0]
    assert (row["name"], row["task"], row["label"]) == ("elsewhere", "paper", "trpo")


def test_labels_of_run_json_go_with_a_run_that_is_moved(tmp_path: Path) -> None:
    usual = Labels("sweep", Label("landscape-rna"), Label("paper"), Label("trpo"))
    recorded = Labels("sweep", Label("landscape-rna"), Label("paper", ("protocol.seed=1",)), Label("trpo", ("kl=sum",)))
    for k, one in enumerate((usual, recorded)):
        make_run(tmp_path, "trpo", said={"labels": one.to_json()}).rename(tmp_path / f"elsewhere{k}")
    found = collect([tmp_path])
    row = found.runs.iloc[1]
    assert (row["name"], row["cells"], row["task"], row["label"]) == (
        "sweep",
        "landscape-rna",
        "paper,protocol.seed=1",
        "trpo,kl=sum",
    )
    assert [table.within.cells for table in build_tables(found)] == [10, 10]  # the seed does not change the task


def test_sweeps_of_one_name_in_two_folders_are_kept_apart(tmp_path: Path) -> None:
    make_run(tmp_path / "a", seed=0)
    make_run(tmp_path / "b", seed=0)
    assert sorted(collect([tmp_path]).runs["name"]) == ["a/fabricated", "b/fabricated"]


def test_nothing_found_names_the_path_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no runs found.*perturbrl train") as empty:
        collect([tmp_path])
    assert str(tmp_path) in str(empty.value)
    with pytest.raises(UserError, match=r"absent: no such file.*perturbrl train"):
        collect([tmp_path / "absent"])
    make_run(tmp_path, status="running")
    with pytest.raises(UserError, match=r"none of the 1 runs can be reported.*status running"):
        collect([tmp_path])


@pytest.mark.slow
def test_a_thousand_runs_in_ten_seconds_and_500_mb(tmp_path: Path) -> None:
    for seed in range(1000):
        make_run(tmp_path, seed=seed, points=0)
    tracemalloc.start()
    start = time.perf_counter()
    found = collect([tmp_path])
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.runs) == 1000
    assert seconds < 10 and peak < 500e6
