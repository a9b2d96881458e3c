"""Hydra's own habits: a job returns a number, callbacks fire, sweeps over nothing are refused, records are kept."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback

from perturbrl import paths
from perturbrl.errors import one_of
from perturbrl.runner.objective import objective

from ..tiny import job, progress, small, train

SHORT = ("schedule.total=512", "schedule.trpo=256", "schedule.ppo=256", "checkpoint_seconds=99")
POPULATION = ("hydra/launcher=population", "hydra.launcher.workers=1")
AGENTS = one_of(file.stem for file in (paths.conf_dir() / "agent").glob("*.yaml"))
LAUNCHERS = [pytest.param((), id="basic"), pytest.param(POPULATION, id="population")]

SWEEPER = """
import json
from pathlib import Path

from hydra.plugins.sweeper import Sweeper


class Best(Sweeper):
    '''Starts one job for each learning rate and writes what the jobs return.'''

    def setup(self, *, hydra_context, task_function, config):
        from hydra.core.plugins import Plugins

        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        jobs = [[*arguments, f"agent.lr={lr}"] for lr in (1e-3, 3e-2)]
        returned = []
        for done in self.launcher.launch(jobs, initial_job_idx=0):
            try:
                returned.append(float(done.return_value))
            except Exception as error:
                returned.append(type(error).__name__)
        Path("returned.json").write_text(json.dumps(returned))
        if not any(isinstance(value, float) for value in returned):
            raise ValueError("No trials are completed yet.")
"""


def sweep_of_another(folder: Path, *words: str) -> tuple[int, str, list[Any]]:
    """Run the real command with a sweeper from outside, found as Hydra finds plugins."""
    plugins = folder / "site" / "hydra_plugins"
    plugins.mkdir(parents=True)
    (plugins / "best_sweeper.py").write_text(SWEEPER)
    (folder / "conf" / "hydra" / "sweeper").mkdir(parents=True)
    (folder / "conf" / "hydra" / "sweeper" / "best.yaml").write_text("_target_: hydra_plugins.best_sweeper.Best\n")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder / "site"), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "perturbrl", "train", "-m", "--config-dir", "conf", "hydra/sweeper=best"]
    line = [*command, *small("ppo", *SHORT), *words]
    done = subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, timeout=240)
    return done.returncode, done.stderr, json.loads((folder / "returned.json").read_text())


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sweeper_gets_the_last_return_of_each_run(launcher: tuple[str, ...], tmp_path: Path) -> None:
    code, err, returned = sweep_of_another(tmp_path, *launcher)
    assert (code, err) == (0, "")
    logs = [progress(next(tmp_path.glob(f"outputs/*/*/*/*lr={lr}*/seed0"))) for lr in ("0.001", "0.03")]
    expected = [float(log["eval/return"].dropna().iloc[-1]) for log in logs]
    assert returned == expected and expected[0] != expected[1]


def test_what_is_wrong_with_the_jobs_of_a_sweeper_is_printed(tmp_path: Path) -> None:
    code, err, returned = sweep_of_another(tmp_path, "agent.gamma=7")
    assert code == 1 and returned == ["UserError", "UserError"]
    lines = err.splitlines()
    assert lines[0] == "error: 2 jobs of the sweep failed:" and len(lines) == 3
    assert all("agent.gamma" in line for line in lines[1:])


def test_the_number_of_a_run(tmp_path: Path) -> None:
    with_curve, without = job(tmp_path, "ppo", *SHORT), job(tmp_path, "ppo", *SHORT, "curve_points=0")
    train(with_curve)
    train(without)
    assert objective(with_curve.path) == progress(with_curve.path)["eval/return"].iloc[-1]
    assert objective(without.path) == progress(without.path)["return_mean"].iloc[-1]
    text = (without.path / paths.RUN).read_text()
    (without.path / paths.RUN).write_text(text.replace('"complete"', '"diverged"'))
    assert math.isnan(objective(without.path))
    (with_curve.path / paths.PROGRESS).write_bytes(b"no table")
    assert math.isnan(objective(with_curve.path)) and math.isnan(objective(tmp_path))


class Spy(Callback):
    """Notes what Hydra calls."""

    calls: ClassVar[list[tuple[Any, ...]]] = []

    def on_job_start(self, config: Any, **kwargs: Any) -> None:
        self.calls.append(
            ("start", config.seed, HydraConfig.get().runtime.output_dir, callable(kwargs["task_function"]))
        )

    def on_job_end(self, config: Any, job_return: Any, **kwargs: Any) -> None:
        value = job_return._return_value
        self.calls.append(("end", config.seed, HydraConfig.get().runtime.output_dir, job_return.status.name, value))


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_callbacks_of_jobs_are_called(launcher: tuple[str, ...], run, tmp_path: Path) -> None:
    Spy.calls.clear()
    spy = f"+hydra.callbacks.spy._target_={Spy.__module__}.Spy"
    code, _, _ = run("train", "-m", *small("ppo", *SHORT), "seed=0,1,-1", spy, *launcher)
    assert code == 1  # there is no seed -1
    starts, ends = ({c[1]: c for c in Spy.calls if c[0] == kind} for kind in ("start", "end"))
    assert len(Spy.calls) == 6 and starts.keys() == ends.keys() == {0, 1, -1}
    for seed in (0, 1):
        folder = Path(ends[seed][2])
        assert starts[seed][2:] == (str(folder), True) and folder.is_relative_to(tmp_path)
        assert ends[seed][3:] == ("COMPLETED", objective(folder)) and folder.name == f"seed{seed}"
    assert ends[-1][3] == "FAILED" and "seed" in str(ends[-1][4])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["-m", "agent.lr=glob(*)"],
            "agent.lr: glob(*) has no value to sweep over; glob is for groups of choices, such",
        ),
        (["-m", "agent=glob(x*)"], f"agent: glob(x*) has no value to sweep over; the choices are {AGENTS}"),
        (["-m", "seed=range(0)"], "seed: range(0) has no value to sweep over; give at least one: seed='range(5)'"),
        (["--config-dir", "conf", "experiment=empty"], "agent.lr: glob(*) has no value to sweep over; glob is for"),
        (["-m"], "train --multirun: nothing to sweep over; add values separated by commas, such as agent=ppo,trpo or"),
        (["--multirun", "hydra/launcher=population", "device=cpu"], "train --multirun: nothing to sweep over; add"),
        (["hydra.mode=MULTIRUN"], "train --multirun: nothing to sweep over; add values separated by commas"),
    ],
)
def test_a_sweep_over_nothing_is_refused(words: list[str], message: str, run, tmp_path: Path) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    params = "hydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      agent.lr: glob(*)\n"
    (tmp_path / "conf" / "experiment" / "empty.yaml").write_text(f"# @package _global_\nname: empty\n{params}")
    code, _, err = run("train", *words)
    assert code == 2
    assert err.startswith(f"error: {message}") and err.count("\n") == 1
    assert not list(tmp_path.rglob(paths.CONFIG))


@pytest.mark.parametrize("words", [("-m", "--help"), ("hydra.mode=MULTIRUN", "--cfg", "job")])
def test_what_is_printed_of_a_sweep_needs_no_values(words: tuple[str, ...], run) -> None:
    code, out, err = run("train", *words)
    assert (code, err) == (0, "") and "agent" in out


def test_one_run_may_be_a_sweep_if_it_is_asked_for(run, tmp_path: Path) -> None:
    assert run("train", "-m", *small("ppo", *SHORT))[0] == 0
    assert len(list(tmp_path.rglob(paths.RUN))) == 1


def test_the_record_of_a_sweep_is_kept(run, tmp_path: Path) -> None:
    def sweep(*words: str) -> None:
        assert run("train", "-m", *small("ppo", *SHORT), *words)[0] == 0

    def records() -> list[str]:
        return sorted(file.name for file in (tmp_path / "outputs").glob("multirun*.yaml"))

    sweep("seed=0,1", "name=first")
    first = (tmp_path / "outputs" / "multirun.yaml").read_text()
    assert "name=first" in first
    sweep("seed=0,1", "name=first")  # the same again says the same
    assert records() == ["multirun.yaml"]
    sweep("seed=0", "name=second", *POPULATION)
    sweep("seed=1", "name=third")
    contents = [(tmp_path / "outputs" / name).read_text() for name in records()]
    assert len(contents) == 3 and first in contents
    assert "name=third" in (tmp_path / "outputs" / "multirun.yaml").read_text()
    assert sum("name=second" in text for text in contents) == 1
