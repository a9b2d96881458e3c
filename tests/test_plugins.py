"""A new agent, source, encoder, task and metric from outside the package: the very files that docs/extend.md shows."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from runner.tiny import small

from perturbrl import cli, paths, status

KINDS = ("agent", "source", "encoder", "env", "metric")
CHOICES = {"agent": "actor_critic", "source": "blobs", "encoder": "random_projection", "env": "costly"}


@pytest.fixture(scope="module")
def examples(root: Path) -> Path:
    return root / "examples" / "plugins"


def overrides(*kinds: str, **changed: str) -> list[str]:
    chosen = {kind: CHOICES[kind] for kind in kinds if kind in CHOICES}
    asked = small("ppo", *(f"{k}={v}" for k, v in chosen.items()), *(f"{k}={v}" for k, v in changed.items()))
    if "source" in chosen:
        asked = [o for o in asked if not o.startswith("source.")]
    if "encoder" in chosen:
        asked = [o for o in asked if not o.startswith("encoder.")]
    return asked


def _commands(pipe: Any, commands: list[list[str]], folder: Path, prepare: Callable[[], None]) -> None:
    os.chdir(folder)
    prepare()
    status.SECONDS_UNTIL_LINE = float("inf")  # a busy machine is no matter of plugins
    done = []
    for command in commands:
        for logger in (logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))):
            logger.handlers.clear()  # of earlier tests and commands: their streams are closed by now
        with (folder / "err.txt").open("w") as err:
            sys.stderr = err
            try:
                cli.app(command, prog_name="perturbrl")
            except SystemExit as stop:
                code = stop.code
        done.append((int(code or 0), (folder / "err.txt").read_text()))
    pipe.send(done)


def in_child(*commands: list[str], folder: Path, prepare: Callable[[], None]) -> list[tuple[int, str]]:
    """Run commands in a child, so that what plugins register does not reach other tests."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_commands, args=(there, list(commands), folder, prepare))
    child.start()
    assert here.poll(120)
    child.join()
    return here.recv()


def named(*folders: Path) -> Callable[[], None]:
    def prepare() -> None:
        os.environ["PERTURBRL_PLUGINS"] = os.pathsep.join(str(f) for f in folders)

    return prepare


def results(folder: Path) -> tuple[dict[str, Any], dict[str, Any], Path]:
    (run,) = (f.parent for f in folder.rglob(paths.RUN))
    summary = json.loads((run / paths.EVALUATION / paths.SUMMARY).read_text())
    return json.loads((run / paths.RUN).read_text()), summary, run


@pytest.mark.parametrize("kind", KINDS)
def test_one_plugin_is_trained_and_evaluated(kind: str, examples: Path, tmp_path: Path) -> None:
    train = ["train", *overrides(kind)]
    done = in_child(train, ["evaluate"], folder=tmp_path, prepare=named(examples / kind))
    assert done == [(0, ""), (0, f"{results(tmp_path)[2].relative_to(tmp_path)}: evaluated\n")]
    run, summary, folder = results(tmp_path)
    assert run["status"] == "complete"
    if kind in CHOICES:
        assert run[kind] == CHOICES[kind]
        assert CHOICES[kind] in str(folder.relative_to(tmp_path))
    columns = set(summary["rows"]["policy"])
    assert ("spearman" in columns) == (kind == "metric")
    if kind == "metric":
        assert summary["rows"]["do_nothing"]["spearman"] == pytest.approx(1.0)
        assert summary["rows"]["random_sign"]["spearman"] < 1.0
        assert "spearman" in pd.read_parquet(folder / paths.EVALUATION / paths.PER_FEATURE).columns
    if kind == "env":
        assert summary["rows"]["random_sign"]["return"] < -0.02 * 20  # the cost alone, over an episode of 20 steps
    if kind == "encoder":
        assert run["n_features"] == 16
    if kind == "source":
        assert run["n_cells"] == 400


def test_keys_of_a_plugin_are_checked_and_have_an_effect(examples: Path, tmp_path: Path) -> None:
    places = named(*(examples / kind for kind in KINDS))
    train = ["train", *overrides("agent", "env", "encoder")]
    wrong, *rest = in_child(
        [*train, "agent.learning_rate=1"],
        [*train, "agent.lr=soon"],
        [*train, "env=costlier"],
        train,
        [*train, "agent.lr=0.1"],
        [*train, "env.cost=1.0"],
        folder=tmp_path,
        prepare=places,
    )
    assert wrong[0] == 2 and "agent.learning_rate: unknown key" in wrong[1] and "lr" in wrong[1]
    assert rest[0][0] == 2 and "agent.lr: 'soon' is not a valid float" in rest[0][1]
    assert rest[1][0] == 2 and "costlier" in rest[1][1] and "costly" in rest[1][1]
    assert [code for code, _ in rest[2:]] == [0, 0, 0]
    logs = [pd.read_parquet(f).drop(columns="seconds") for f in tmp_path.rglob(paths.PROGRESS)]
    assert len(logs) == 3
    assert not any(a.equals(b) for i, a in enumerate(logs) for b in logs[:i])


def test_all_at_once_by_the_real_command(examples: Path, tmp_path: Path) -> None:
    env = os.environ | {"PERTURBRL_PLUGINS": os.pathsep.join(str(examples / kind) for kind in KINDS)}

    def perturbrl(*words: str) -> None:
        command = [sys.executable, "-m", "perturbrl", *words]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    perturbrl("train", *overrides(*KINDS))
    evaluated = in_child(["evaluate"], folder=tmp_path, prepare=named(*(examples / kind for kind in KINDS)))
    assert [code for code, _ in evaluated] == [0]
    run, summary, _ = results(tmp_path)
    assert {kind: run[kind] for kind in CHOICES} == CHOICES
    assert "spearman" in summary["rows"]["policy"]


def test_an_installed_plugin_is_found_by_its_entry_point(examples: Path, tmp_path: Path) -> None:
    """As after ``pip install``: a package, and beside it what pip writes."""
    site, work = tmp_path / "site", tmp_path / "work"
    package, about = site / "my_lab", site / "my_lab-1.0.dist-info"
    for folder in (package, about, work):
        folder.mkdir(parents=True)
    shutil.copy(examples / "source" / "blobs.py", package / "__init__.py")
    shutil.copytree(examples / "source" / "conf", package / "conf")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-lab\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[perturbrl.plugins]\nmy_lab = my_lab\n")

    def installed() -> None:
        sys.path.insert(0, str(site))

    train = ["train", *overrides("source")]
    assert [code for code, _ in in_child(train, ["evaluate"], folder=work, prepare=installed)] == [0, 0]
    assert results(work)[0]["source"] == "blobs"


def test_a_population_of_plugin_runs(examples: Path, tmp_path: Path) -> None:
    sweep = ["train", "-m", *overrides("agent", "env"), "seed=0,1", "env.cost=0.0,0.1", "hydra/launcher=population"]
    plugins = named(examples / "agent", examples / "env")
    plain = [*sweep[:-1], "name=alone"]
    (together, alone) = in_child([*sweep, "hydra.launcher.workers=1"], plain, folder=tmp_path, prepare=plugins)
    assert together == alone == (0, "")
    for log in (tmp_path / "outputs" / "runs").rglob(paths.PROGRESS):
        other = tmp_path / "outputs" / "alone" / log.relative_to(tmp_path / "outputs" / "runs")
        one, two = (pd.read_parquet(f).drop(columns="seconds") for f in (log, other))
        pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert len(list((tmp_path / "outputs").rglob(paths.RUN))) == 8


SCREEN = (
    *("env=counterfactual", "agent=ppo", "agent.rollout_steps=256", "agent.n_envs=8", "policy.hidden=[16,16]"),
    *("source.n_cells=1200", "source.n_target_genes=40", "source.n_peaks=4", "source.n_proteins=4"),
    *("conditions=landscape", "conditions.min_cells=5", "schedule.total=512", "curve_points=2"),
    *("protocol.n_cells=8", "protocol.curve_cells=4", "protocol.episodes=16", "protocol.score.n_duplicates=1"),
    *("protocol.truth_cells=0", "device=cpu", "progress=quiet"),
)


def test_a_split_and_a_baseline_are_plugins(examples: Path, tmp_path: Path) -> None:
    plugins = named(examples / "split", examples / "baseline")
    train = ["train", *SCREEN, "split=last_names", "env.residual=shrunken_mean"]
    wrong, unknown, *done = in_child(
        [*train, "split.test_fraction=2"],
        [*train[:-1], "env.residual=shrunk"],
        train,
        ["evaluate"],
        ["report", "outputs"],
        folder=tmp_path,
        prepare=plugins,
    )
    assert wrong == (2, "error: split.test_fraction: must be above 0 and below 1, got 2.0\n")
    assert unknown[0] == 2 and "env.residual: 'shrunk' is not known (did you mean 'shrunken_mean'?)" in unknown[1]
    assert [code for code, _ in done] == [0, 0, 0], done
    _, summary, _ = results(tmp_path)
    assert summary["split"]["kind"] == "last_names"
    assert list(summary["rows"]).index("shrunken_mean") == list(summary["rows"]).index("permuted") + 1
    # half the mean change has the direction of the whole one
    rows = summary["rows"]
    assert rows["shrunken_mean"]["pearson_delta_ctrl"] == pytest.approx(rows["train_mean"]["pearson_delta_ctrl"])
    assert rows["shrunken_mean"]["mse"] != pytest.approx(rows["train_mean"]["mse"])


def test_a_study_is_a_yaml_file_alone(examples: Path, tmp_path: Path) -> None:
    tiny = [override for override in small("ppo") if not override.startswith(("agent=", "env.horizon="))]
    (done,) = in_child(
        ["train", "experiment=short_horizons", *tiny], folder=tmp_path, prepare=named(examples / "study")
    )
    assert done[0] == 0, done
    found = {tuple(run.relative_to(tmp_path / "outputs").parts[:1]) for run in tmp_path.rglob(paths.RUN)}
    assert found == {("short_horizons",)} and len(list(tmp_path.rglob(paths.RUN))) == 4
