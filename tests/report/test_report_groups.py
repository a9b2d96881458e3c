"""Which runs stand in one row: those of one recorded config, whatever their folders are called. Scores fabricated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.recorded_runs import command, write
from fakes.runs import make_run
from fakes.screen_runs import make_screen_run

from perturbrl.report.collect import collect
from perturbrl.report.held_out import gather
from perturbrl.report.held_out_section import header
from perturbrl.report.page import _lead
from perturbrl.report.paper import PaperTable, build_tables

GOOD, BAD = {"mse": 0.1, "return_gain": -1.6}, {"mse": 0.5, "return_gain": -5.8}


def tables(root: Path) -> list[PaperTable]:
    return build_tables(collect([root]))


def rows(root: Path) -> dict[str, list[float]]:
    """The values behind each row of the only table."""
    [table] = tables(root)
    return {row.label: row.units["mse"].tolist() for row in table.agents}


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """YAML files of a user: an agent and a task that configure the package's own."""
    for group, name, lines in (
        ("agent", "my_ppo", "defaults: [ppo]\ngamma: 0.9\n"),
        ("env", "hard", "defaults: [paper]\nmax_perturb: 20\n"),
    ):
        file = tmp_path / "configs" / group / f"{name}.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(lines)
    return tmp_path / "configs"


@pytest.mark.parametrize("layout", ["own", "number", "overrides"])
def test_values_of_a_users_own_agent_are_rows_of_their_own(tmp_path: Path, configs: Path, layout: str) -> None:
    """In the usual folders, with hydra.sweep.subdir='${hydra.job.num}', and with ${hydra.job.override_dirname}."""
    number = 0
    for lr, values in (("1e-4", GOOD), ("1e-3", BAD)):
        for seed in (0, 1):
            job = command("agent=my_ppo", f"agent.lr={lr}", f"seed={seed}", configs=configs)
            folder = {"own": None, "number": Path(f"o/{number}"), "overrides": Path(f"o/agent.lr={lr},seed={seed}")}
            write(job, tmp_path, folder[layout], values=values)
            number += 1
    assert rows(tmp_path) == {"my_ppo,lr=0.0001": [0.1, 0.1], "my_ppo,lr=0.001": [0.5, 0.5]}


def test_a_variant_of_a_task_does_not_stand_under_the_others_table(tmp_path: Path, configs: Path) -> None:
    for k, env in enumerate(("paper", "hard")):
        for seed in (0, 1):
            write(command(f"env={env}", f"seed={seed}", configs=configs), tmp_path, Path(f"o/{2 * k + seed}"))
    found = {table.title: (table.agents[0].n, table.within.cells) for table in tables(tmp_path)}
    assert found == {
        "Table II (rna): landscape · runs": (2, 10),
        "Table (rna): landscape · hard · runs": (2, 0),
    }


def test_a_variant_alone_is_no_table_of_the_paper_either(tmp_path: Path, configs: Path) -> None:
    write(command("env=hard", configs=configs), tmp_path)
    [table] = tables(tmp_path)
    assert table.title.startswith("Table (rna)") and not table.agents[0].published


def test_what_an_experiment_sets_is_seen_though_no_command_names_it(tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    for name, size in (("small", 8), ("large", 64)):
        file = configs / "experiment" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# @package _global_\npolicy:\n  hidden: [{size}]\n")
        write(command(f"experiment={name}", configs=configs), tmp_path, Path(f"o/{name}"))
    assert set(rows(tmp_path)) == {"ppo,policy.hidden=[8]", "ppo,policy.hidden=[64]"}


def test_what_all_runs_share_is_no_part_of_a_label(tmp_path: Path) -> None:
    shared = ("schedule.total=8192", "policy.hidden=[8,8]", "env.max_perturb=4", "protocol.return_episodes=8")
    for agent in ("ppo", "trpo"):
        for lr in ("1e-3", "1e-2"):
            write(command(f"agent={agent}", f"agent.lr={lr}", *shared), tmp_path)
    found = collect([tmp_path])
    assert set(found.runs["label"]) == {f"{agent},lr={lr}" for agent in ("ppo", "trpo") for lr in ("0.001", "0.01")}
    assert set(found.runs["task"]) == {"paper"}
    assert set(found.shared) == {
        *("schedule.total=8192", "policy.hidden=[8,8]", "env.max_perturb=4", "protocol.return_episodes=8"),
    }


def test_a_value_that_always_goes_with_another_is_named_once(tmp_path: Path) -> None:
    for total in (4096, 8192):
        write(command(f"schedule.total={total}"), tmp_path)
    assert set(rows(tmp_path)) == {"ppo,schedule.total=4096", "ppo,schedule.total=8192"}  # agent.total_steps too


def test_how_and_where_a_run_was_done_makes_no_row(tmp_path: Path) -> None:
    for seed, more in enumerate(([], ["kernels=torch", "threads=2", "progress=quiet", "checkpoint_seconds=1"])):
        write(command(f"seed={seed}", *more), tmp_path, Path(f"o/{seed}"))
    assert [len(values) for values in rows(tmp_path).values()] == [2]


def test_a_seed_that_follows_the_seed_of_the_run_makes_no_row(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        write(command(f"seed={seed}", "split.seed=${seed}"), tmp_path, Path(f"o/{seed}"))
    assert [len(values) for values in rows(tmp_path).values()] == [3]
    write(command("seed=3", "split.seed=8"), tmp_path, Path("o/3"))
    assert len(tables(tmp_path)) == 4  # now it is a setting like any other


def test_data_that_have_changed_are_other_data(tmp_path: Path) -> None:
    for seed in (0, 1):
        write(command(f"seed={seed}"), tmp_path, said={"data_checksum": f"{seed}" * 64})
    assert [table.agents[0].n for table in tables(tmp_path)] == [1, 1]


@pytest.mark.parametrize("hashes", ["same", "different"])
def test_the_same_seed_twice_is_never_averaged(tmp_path: Path, hashes: str) -> None:
    for k, values in enumerate((GOOD, BAD)):
        said = {"config_hash": "ab"[k] * 64} if hashes == "different" else {}
        folder = write(command("seed=0"), tmp_path, Path(f"o/{k}"), values=values, said=said)
        if hashes == "different":
            (folder / "config.yaml").unlink()  # else the config says what differs
    found = tables(tmp_path)
    assert [table.agents[0].units["mse"].tolist() for table in found] == [[0.1], [0.5]]
    assert len({table.title for table in found}) == len({table.slug for table in found}) == 2


def test_sweeps_of_one_name_and_config_go_together_while_no_seed_comes_twice(tmp_path: Path) -> None:
    for seed in range(4):
        write(command(f"seed={seed}"), tmp_path / "ab"[seed % 2])
    assert [len(values) for values in rows(tmp_path).values()] == [4]
    write(command("seed=0"), tmp_path / "b")
    found = tables(tmp_path)
    assert sorted(table.agents[0].n for table in found) == [2, 3]


def test_a_config_that_was_edited_is_not_believed(tmp_path: Path) -> None:
    run = write(command("agent.lr=1e-3"), tmp_path)
    write(command("agent.lr=1e-2"), tmp_path)
    file = run / "config.yaml"
    file.write_text(file.read_text().replace("lr: 0.001", "lr: 0.5"))
    assert [(table.agents[0].n, "0.5" in table.agents[0].label) for table in tables(tmp_path)] == [(1, False)] * 2


@pytest.mark.parametrize(
    ("key", "value"),
    [("success", 0.9), ("shown", 3), ("truth_cells", 0), ("score", {"min_cpm": 1.0}), ("baselines", {"knn": {"k": 9}})],
)
def test_runs_with_other_settings_of_the_score_stand_apart(tmp_path: Path, key: str, value: Any) -> None:
    usual = {"success": 0.5, "shown": 6, "truth_cells": 200, "score": {"min_cpm": 5.0}, "baselines": {"knn": {"k": 5}}}
    for seed in range(3):
        settings = usual | ({key: value} if seed == 2 else {})
        make_run(tmp_path, seed=seed, summary={"settings": settings, "evaluation_seed": 0})
    most, one = sorted(tables(tmp_path), key=lambda table: -table.agents[0].n)
    assert (most.agents[0].n, one.agents[0].n) == (2, 1)
    assert f"{key}" in one.title and "evaluation_seed" not in one.title and len(one.title) < 80


def test_an_evaluation_of_unknown_settings_is_not_averaged_with_one_of_known(tmp_path: Path) -> None:
    make_run(tmp_path, seed=0, summary={"settings": {"baselines": {"knn": {"k": 5}}}})
    make_run(tmp_path, seed=1)
    assert {table.title.rpartition(" · ")[2] for table in tables(tmp_path)} == {
        "baselines=recorded",
        "baselines=not recorded",
    }


def test_the_labels_do_not_depend_on_the_folders(tmp_path: Path) -> None:
    for k, lr in enumerate(("1e-3", "1e-2")):
        run = write(command(f"agent.lr={lr}"), tmp_path)
        run.rename(tmp_path / f"moved{k}")
        assert json.loads((tmp_path / f"moved{k}" / "run.json").read_text())["labels"]["agent"][0] == "ppo"
    assert set(rows(tmp_path)) == {"ppo,lr=0.001", "ppo,lr=0.01"}


def test_tables_of_two_schedules_have_two_titles(tmp_path: Path) -> None:
    for schedule in ("released", "equal"):
        write(command(f"schedule={schedule}"), tmp_path)
    assert {table.title.rpartition(" · ")[2] for table in tables(tmp_path)} == {"schedule=released", "schedule=equal"}
    assert all(table.agents[0].label == "ppo" for table in tables(tmp_path))


def test_each_row_says_how_many_seeds_it_has(tmp_path: Path) -> None:
    for agent, n in (("ppo", 4), ("trpo", 2)):
        for seed in range(n):
            make_run(tmp_path, agent, seed=seed)
    footer = " ".join(tables(tmp_path)[0].footer)
    assert "Seeds: ppo 4 (0\N{EN DASH}3); trpo 2 (0\N{EN DASH}1);" in footer
    assert "2 to 4 seeds a row" in _lead(collect([tmp_path]))
    for agent, n in (("ppo", 3), ("trpo", 2)):
        for seed in range(n):
            make_screen_run(tmp_path / "screens", agent, seed)
    assert "Seeds of each agent: ppo 3; trpo 2." in header(gather(collect([tmp_path / "screens"]))[0])


@pytest.mark.parametrize("lost", [("evaluation/summary.json",), ("evaluation/summary.json", "run.json")])
def test_a_run_without_an_evaluation_is_missed_in_the_row_of_its_config_only(
    tmp_path: Path, configs: Path, lost: tuple[str, ...]
) -> None:
    """The folders are numbers (hydra.sweep.subdir='${hydra.job.num}'): all runs lie side by side."""
    number = 0
    for lr in ("1e-4", "1e-3"):
        for seed in range(3):
            job = command("agent=my_ppo", f"agent.lr={lr}", f"seed={seed}", configs=configs)
            run = write(job, tmp_path, Path(f"o/{number}"), values=GOOD)
            number += 1
    for file in lost:
        (run / file).unlink()
    [table] = tables(tmp_path)
    assert {row.label: (row.n, row.missing) for row in table.agents} == {
        "my_ppo,lr=0.0001": (3, 0),
        "my_ppo,lr=0.001": (2, 1),
    }


def test_a_run_is_missed_by_its_config_wherever_it_lies(tmp_path: Path) -> None:
    for seed in range(3):
        run = write(command("agent.lr=1e-3", f"seed={seed}"), tmp_path, Path(f"o/{seed}/{seed}"), values=GOOD)
    (run / "evaluation" / "summary.json").unlink()
    [row] = tables(tmp_path)[0].agents
    assert (row.n, row.missing) == (2, 1)


def test_of_a_sweep_made_twice_the_run_is_missed_where_it_lies(tmp_path: Path) -> None:
    for half in ("x", "y"):
        for seed in range(3):
            run = write(command(f"seed={seed}"), tmp_path, Path(f"{half}/{seed}"), values=GOOD)
    (run / "evaluation" / "summary.json").unlink()
    assert {table.title[-6:]: table.agents[0].missing for table in tables(tmp_path)} == {"x/runs": 0, "y/runs": 1}
