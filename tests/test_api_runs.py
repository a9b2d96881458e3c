"""What ``perturbrl.train`` and ``perturbrl.load`` return: policies, tables, reports; and the names of the package."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fakes.screen_runs import make_screen_run
from test_api import METRICS, TINY, annotated
from test_api import train as train_at

import perturbrl
from perturbrl import paths, records
from perturbrl.errors import UserError
from perturbrl.report import build
from perturbrl.report.collect import collect
from perturbrl.runner.hydra.compose import compose_job
from perturbrl.runner.job import save_config
from perturbrl.runner.runs_table import score_table
from perturbrl.stats import mean_interval

SIMPLE = ["do_nothing", "random_uniform", "random_sign", "best_constant"]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def two_agents(tmp_path_factory) -> perturbrl.Runs:
    """PPO and TRPO with two seeds each, evaluated."""
    torch.set_num_threads(1)
    runs = train_at(annotated(), ["ppo", "trpo"], seeds=2, out=tmp_path_factory.mktemp("two"))
    runs.table()
    return runs


def said(path: Path) -> dict:
    return records.read_json(path / paths.EVALUATION / paths.SUMMARY)["rows"]


def test_a_list_of_agents(two_agents: perturbrl.Runs) -> None:
    assert [(job.config.agent.name, job.config.seed) for job in two_agents.jobs] == [
        *(("ppo", 0), ("ppo", 1), ("trpo", 0), ("trpo", 1))
    ]
    table = two_agents.table()
    assert list(table.index) == ["ppo", "trpo", *SIMPLE]
    for agent, folders in (("ppo", two_agents.paths[:2]), ("trpo", two_agents.paths[2:])):
        for metric in METRICS:
            expected = mean_interval([said(folder)["policy"][metric] for folder in folders])
            row = table.loc[agent]
            assert (row[metric], row[f"{metric}_low"], row[f"{metric}_high"]) == pytest.approx(
                (expected.mean, expected.low, expected.high)
            )
    assert (table["n"] == 2).all() and (table["diverged"] == 0).all()  # a simple row has each seed once
    assert table.loc["trpo", "mse_low"] < table.loc["trpo", "mse"] < table.loc["trpo", "mse_high"]
    wider = two_agents.table(level=0.99)
    assert wider.loc["trpo", "mse_high"] > table.loc["trpo", "mse_high"]


def test_one_seed_has_no_interval_and_a_diverged_one_is_counted(two_agents: perturbrl.Runs, tmp_path: Path) -> None:
    one = perturbrl.load(two_agents.paths[0]).table()
    assert list(one.index) == ["policy", *SIMPLE]
    assert one.loc["policy", "n"] == 1 and np.isnan(one.loc["policy", "mse_low"])
    copies = [Path(shutil.copytree(path, tmp_path / path.parent.name / path.name)) for path in two_agents.paths[:2]]
    file = copies[1] / paths.EVALUATION / paths.SUMMARY
    summary = records.read_json(file)
    summary["rows"]["policy"] = dict.fromkeys(summary["rows"]["policy"])  # as evaluate writes of a diverged run
    records.write_json(file, summary)
    row = perturbrl.load(tmp_path).table().loc["policy"]
    assert (row["n"], row["diverged"], row["mse"]) == (1, 1, said(copies[0])["policy"]["mse"])


def test_runs_as_text(two_agents: perturbrl.Runs) -> None:
    lines = repr(two_agents).splitlines()
    assert lines[0].startswith("4 runs in ") and lines[0].endswith("notebook")
    assert [line.split()[:4] for line in lines[1:]] == [
        ["agent", "seed", "status", "steps"],
        *([agent, seed, "complete", "512"] for agent in ("ppo", "trpo") for seed in ("0", "1")),
    ]
    assert max(map(len, lines[1:])) < 60
    assert float(lines[2].split()[4]) == pytest.approx(two_agents.progress()["eval/return"].iloc[-1], rel=1e-2)


def test_runs_are_loaded_back(two_agents: perturbrl.Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = two_agents.paths[0].parents[3]
    runs = perturbrl.load(folder)
    assert runs.paths == two_agents.paths and len(runs) == 4
    pd.testing.assert_frame_equal(runs.table(), two_agents.table())
    x = torch.from_numpy(runs.cells.x[:7])
    for k in range(4):
        assert torch.equal(runs.policy(k)(x), two_agents.policy(k)(x))
    monkeypatch.setattr(build, "_draw", lambda *_: {})
    page = runs.report()
    assert page == folder / "report" / "report.html" and "trpo" in page.read_text()
    assert perturbrl.load(folder / "*" / "*" / "ppo*").report(folder / "mine").parent == folder / "mine"


def test_an_evaluation_is_not_replaced(two_agents: perturbrl.Runs, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(two_agents.paths[0], tmp_path / "run"))
    stamp = (copy / paths.EVALUATION / paths.SUMMARY).stat().st_mtime_ns
    perturbrl.load(copy).table()
    assert (copy / paths.EVALUATION / paths.SUMMARY).stat().st_mtime_ns == stamp
    shutil.rmtree(copy / paths.EVALUATION)
    perturbrl.load(copy).table()
    assert said(copy)["policy"] == said(two_agents.paths[0])["policy"]


def test_runs_that_cannot_be_loaded(two_agents: perturbrl.Runs, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        perturbrl.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no run found; make some with: perturbrl train"):
        perturbrl.load(tmp_path)
    whole, half = (Path(shutil.copytree(path, tmp_path / path.name)) for path in two_agents.paths[:2])
    text = (half / paths.RUN).read_text()
    (half / paths.RUN).write_text(text.replace('"complete"', '"running"'))
    with pytest.raises(UserError, match=r"no finished run \(.*seed1: the run is not finished\)"):
        perturbrl.load(half)
    with pytest.warns(UserWarning, match=r"left out: .*seed1: the run is not finished"):
        assert perturbrl.load(tmp_path).paths == [whole]


def test_the_same_seed_twice_is_refused(two_agents: perturbrl.Runs, tmp_path: Path) -> None:
    for name in "ab":
        shutil.copytree(two_agents.paths[0], tmp_path / name / "seed0")
    with pytest.raises(UserError, match=r"a/seed0 and .*b/seed0 differ in nothing, not even the seed"):
        perturbrl.load(tmp_path).table()


def test_rows_are_those_of_the_report(two_agents: perturbrl.Runs) -> None:
    """A value that no command of the first runs names stands in their rows where other runs differ in it."""
    cells, folder = Path(two_agents.jobs[0].raw["path"]), two_agents.paths[0].parents[4]
    more = [
        train_at(cells, "ppo", out=folder, name=name, overrides=overrides)
        for name, overrides in (("task", {"env.max_perturb": 4}), ("rate", {"agent.lr": 0.01}))
    ]
    jobs = (*two_agents.jobs[:2], *more[0].jobs)
    table = perturbrl.Runs(jobs).table()
    names = ["notebook paper,max_perturb=5", "task paper,max_perturb=4"]
    assert list(table.index) == [f"{name} {row}" for row in ("policy",) for name in names] + [
        f"{name} {row}" for name in names for row in SIMPLE
    ]
    assert table.loc[f"{names[0]} policy", "mse"] == pytest.approx(two_agents.table().loc["ppo", "mse"])
    assert list(table["n"])[:2] == [2, 1]
    runs = perturbrl.Runs((*two_agents.jobs, *more[1].jobs))
    rows = list(runs.table().index[:3])
    found = collect(runs.paths).runs
    labels = {f"{name} {label}" for name, label in zip(found["name"], found["label"], strict=True)}
    assert set(rows) == labels == {"notebook ppo,lr=0.0001", "notebook trpo", "rate ppo,lr=0.01"}


def test_splits_drawn_anew_are_runs_of_one_row(tmp_path: Path) -> None:
    runs = [
        make_screen_run(tmp_path, split_seed=seed, cells=f"papalexi21-rna,split.seed={seed}", said={"policy": "trunk"})
        for seed in range(3)
    ]
    base = compose_job(["env=counterfactual", "source=landscape"], Path(), "screens")
    jobs = []
    for seed, path in enumerate(runs):
        jobs.append(dataclasses.replace(base, path=path, raw=base.raw | {"split": base.raw["split"] | {"seed": seed}}))
        save_config(jobs[-1])
    table = score_table(jobs, 0.95)
    assert table.loc["policy", "n"] == 3 and table.loc["train_mean", "n"] == 3


def test_a_policy_takes_arrays_and_tensors(two_agents: perturbrl.Runs) -> None:
    policy, x = two_agents.policy(), two_agents.cells.x[:5]
    action = policy(torch.from_numpy(x))
    assert isinstance(action, torch.Tensor) and not action.requires_grad
    for cells in (x, x.astype(np.float64), np.asfortranarray(x), x[::-1][::-1]):
        given = policy(cells)
        assert isinstance(given, np.ndarray) and given.dtype == np.float32
        np.testing.assert_array_equal(given, action.numpy())
    assert policy(x[0]).shape == (6,) and policy(torch.from_numpy(x[0])).shape == (6,)
    np.testing.assert_allclose(policy(x[0]), action[0].numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (np.zeros((4, 5)), r"observations must have the shape \[cells, 6\], got \[4, 5\]"),
        (torch.zeros(4, 7), r"observations must have the shape \[cells, 6\], got \[4, 7\]"),
        (np.zeros((2, 4, 6)), r"observations must have the shape \[cells, 6\], got \[2, 4, 6\]"),
        ("cells", r"observations must be an array of numbers, got str"),
    ],
)
def test_a_policy_refuses_what_it_cannot_see(cells, message: str, two_agents: perturbrl.Runs) -> None:
    with pytest.raises(UserError, match=f"^policy: {message}$"):
        two_agents.policy()(cells)


def test_discrete_actions_are_whole_numbers(tmp_path: Path) -> None:
    runs = train_at(annotated(), out=tmp_path, overrides={"env": "paper_discrete"})
    action = runs.policy()(runs.cells.x[:5])
    assert action.dtype == np.int64 and action.shape == (5,)


@pytest.mark.parametrize(
    ("agents", "message"),
    [
        ([], "agent: an empty list; give at least one"),
        (["ppo", "ppo"], "agent: ppo, ppo: one of them is there twice"),
        (["ppo", "ppp"], r"agent: 'ppp' is not known \(did you mean 'ppo'\?\)"),
    ],
)
def test_a_list_that_cannot_be_trained(agents: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        perturbrl.train(annotated(), agents, steps=512, out=tmp_path, overrides=TINY)
    assert not list(tmp_path.rglob(paths.RUN))


LIGHT = """
import sys, perturbrl
assert dir(perturbrl) == sorted(perturbrl.__all__), dir(perturbrl)
assert {"train", "load", "envs", "plugins", "Runs"} <= set(dir(perturbrl))
heavy = {"torch", "numpy", "pandas", "hydra", "perturbrl.api"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
perturbrl.envs.make
assert "perturbrl.api" not in sys.modules
try:
    perturbrl.trane
except AttributeError as error:
    assert "train" in str(error)
assert callable(perturbrl.load) and perturbrl.load is perturbrl.api.load
from perturbrl import *
assert train is perturbrl.train
"""


def test_names_of_the_package() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


MAKE = """
import os, sys
import numpy as np, perturbrl
from perturbrl.runner.hydra.compose import compose_job
from perturbrl.runner.dataset import load_cells
from pathlib import Path
small = ["source.n_cells=300", "encoder=pca", "encoder.components=8", "source.n_target_genes=60"]
cells = load_cells(compose_job(small, Path(), "x"))
os.environ["PERTURBRL_PLUGINS"] = sys.argv[1]
free, costly = (perturbrl.envs.make(name, cells, **cost) for name, cost in (("paper", {}), ("costly", {"cost": 0.5})))
rewards = []
for env in (free, costly):
    env.reset(seed=0)
    rewards.append(env.step(np.full(8, 1.0, dtype=np.float32))[1])
assert abs(rewards[0] - rewards[1] - 0.5) < 1e-5, rewards
try:
    perturbrl.envs.make("costlier", cells)
except perturbrl.UserError as error:
    assert "did you mean 'costly'?" in str(error), error
else:
    sys.exit("no such task was made")
"""


def test_tasks_of_plugins_are_made(root: Path) -> None:
    """``conf/env/costly.yaml`` takes the settings of ``paper``, as it does on the command line."""
    command = [sys.executable, "-c", MAKE, str(root / "examples" / "plugins" / "env")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_cells_of_different_splits_are_not_one_table(two_agents: perturbrl.Runs) -> None:
    one, two = two_agents.jobs[:2]
    other = dataclasses.replace(two, raw=two.raw | {"split": two.raw["split"] | {"seed": 7}})
    with pytest.raises(
        UserError, match=r"^cells: these runs were trained on different cells or splits; take those of one"
    ):
        _ = perturbrl.Runs((one, other)).cells
