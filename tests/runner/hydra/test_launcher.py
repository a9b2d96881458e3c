"""Sweeps from the command line, with Hydra's own launcher and with that of populations."""

from __future__ import annotations

import json
from contextlib import chdir
from pathlib import Path

import pytest

from perturbrl import cli, paths

from ..tiny import assert_same_run, small, status

POPULATION = ("hydra/launcher=population", "hydra.launcher.workers=1")
LAUNCHERS = [pytest.param((), id="basic", marks=pytest.mark.slow), pytest.param(POPULATION, id="population")]
SHORT = ("schedule.total=512", "schedule.trpo=256", "schedule.ppo=256", "curve_points=0", "checkpoint_seconds=99")


def runs(out: str) -> dict[Path, Path]:
    return {f.parent.relative_to(out): f.parent for f in sorted(Path(out).rglob(paths.RUN))}


def sweep(out: str, *more: str, agent: str = "ppo") -> list[str]:
    return ["train", "-m", *small(agent, *SHORT, *more), "name=s", f"hydra.sweep.dir={out}"]


@pytest.fixture(scope="module")
def basic(tmp_path_factory):
    """Four jobs one by one, by Hydra's own launcher."""
    axes = ("agent.lr=1e-3,1e-4", "policy.hidden=[16,16],[8]")
    out = tmp_path_factory.mktemp("basic")
    with chdir(out), pytest.raises(SystemExit) as stop:
        cli.app(sweep("basic", *axes), prog_name="perturbrl")
    assert not stop.value.code
    return axes, runs(str(out / "basic"))


def check_same(out: str, expected: dict[Path, Path]) -> None:
    found = runs(out)
    assert found.keys() == expected.keys()
    for name, run in found.items():
        assert status(run) == "complete"
        assert_same_run(run, expected[name])
    kept = {f.name for f in Path(out).rglob("*") if f.is_file()}
    assert kept - {"multirun.yaml"} == {paths.CONFIG, paths.RUN, paths.PROGRESS, paths.CHECKPOINT, paths.LOCK}


def test_populations_give_what_single_runs_give(run, basic) -> None:
    axes, expected = basic
    assert len(expected) == 4
    code, _, err = run(*sweep("together", *axes, "progress=plain"), *POPULATION)
    assert code == 0
    assert "4 runs in 2 populations, 1 at a time" in err and err.count(": done") == 4
    assert [json.loads(file.read_text())["population"] for file in Path("together").rglob(paths.RUN)] == [2] * 4
    check_same("together", expected)
    # either launcher finds the other's work done
    code, _, err = run(*sweep("together", *axes, "progress=plain"))
    assert code == 0 and err.count("skipped: already complete") == 4


def test_size_and_workers(run) -> None:
    together = (*POPULATION, "hydra.launcher.runs_together=2")
    code, _, err = run(*sweep("out", "seed=0,1,2", "progress=plain"), *together)
    assert code == 0 and "3 runs in 2 populations" in err
    assert len(runs("out")) == 3


def test_two_processes(run, basic) -> None:
    axes, expected = basic
    assert run(*sweep("out", *axes), POPULATION[0], "hydra.launcher.workers=2")[0] == 0
    check_same("out", expected)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sweep_goes_on_after_failing_jobs(launcher, run) -> None:
    code, _, err = run(*sweep("out", "agent.gamma=7.0,0.9", "seed=0,-1"), *launcher)
    assert code == 1
    assert len(runs("out")) == 1 and all(status(r) == "complete" for r in runs("out").values())
    lines = err.splitlines()
    assert lines[0] == "error: 3 jobs of the sweep failed:"
    said = "\n".join(lines[1:])
    assert len(lines) == 4
    for gamma, seed in (("7.0", 0), ("7.0", -1), ("0.9", -1)):
        (line,) = [each for each in lines if f"agent.gamma={gamma} seed={seed}" in each]
        assert ("agent.gamma" in line.partition(": ")[2]) or "seed: must be at least 0" in line, said
    # mended, the same sweep does only what is missing
    code, _, err = run(*sweep("out", "agent.gamma=0.9", "seed=0,1", "progress=plain"), *launcher)
    assert code == 0 and err.count("skipped") == 1 and err.count(": done") == 1


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_data_that_do_not_fit_one_job_of_a_sweep(launcher, run) -> None:
    code, _, err = run(*sweep("out", "encoder.components=8,99999"), *launcher)
    assert code == 1
    assert len(runs("out")) == 1
    assert "error: 1 job of the sweep failed:" in err and "encoder.components" in err and "99999" in err


@pytest.mark.slow
def test_a_bad_member_of_a_population_leaves_the_others(run) -> None:
    assert run(*sweep("out", "seed=1"))[0] == 0
    (spoilt,) = runs("out").values()
    (spoilt / paths.CHECKPOINT).write_bytes(b"no tensors")
    (spoilt / paths.RUN).write_text((spoilt / paths.RUN).read_text().replace('"complete"', '"running"'))
    code, _, err = run(*sweep("out", "seed=0,1,2"), *POPULATION)
    assert code == 1
    assert "error: 1 job of the sweep failed:" in err and str(spoilt / paths.CHECKPOINT) in err
    assert sorted(status(r) for r in runs("out").values()) == ["complete", "complete", "running"]


def test_an_unknown_way_to_start_is_named(run) -> None:
    code, _, err = run(*sweep("out"), *POPULATION, "hydra.launcher.via=carrier_pigeon")
    assert code == 2
    assert err.startswith("error: hydra.launcher.via: 'carrier_pigeon'") and err.count("\n") == 1
    assert "joblib" in err and "submitit_slurm" in err


def test_a_key_that_nobody_knows(run) -> None:
    code, _, err = run(*sweep("out"), *POPULATION, "agent.learning_rate=1")
    assert code == 2 and err.count("\n") == 1 and "agent.learning_rate" in err


def test_joblib(run, basic) -> None:
    axes, expected = basic
    assert run(*sweep("out", *axes), *POPULATION, "hydra.launcher.via=joblib")[0] == 0
    check_same("out", expected)


@pytest.mark.slow
def test_joblib_in_two_processes(run, basic) -> None:
    axes, expected = basic
    joblib = ("hydra.launcher.via=joblib", "hydra.launcher.workers=2", "+hydra.launcher.options.verbose=0")
    assert run(*sweep("out", *axes), POPULATION[0], *joblib)[0] == 0
    check_same("out", expected)


@pytest.mark.slow
@pytest.mark.parametrize(("via", "package"), [("submitit_local", "submitit"), ("ray", "ray")])
def test_other_ways_to_start(via: str, package: str, run, basic) -> None:
    pytest.importorskip(package)
    axes, expected = basic
    assert run(*sweep("out", *axes), *POPULATION, f"hydra.launcher.via={via}")[0] == 0
    found = runs("out")
    assert found.keys() == expected.keys()
    for name, each in found.items():
        assert_same_run(each, expected[name])


@pytest.mark.parametrize(("via", "package"), [("submitit_local", "submitit"), ("ray", "ray")])
def test_what_is_not_installed_is_named(via: str, package: str, run, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    code, _, err = run(*sweep("out"), *POPULATION, f"hydra.launcher.via={via}")
    assert code == 2
    assert err.startswith(f"error: hydra.launcher.via: {package} is not installed") and err.count("\n") == 1
