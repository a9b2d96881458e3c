"""Every choice in conf/ composes, binds and runs; no key of any YAML is dead."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from perturbrl import paths
from perturbrl.errors import UserError
from perturbrl.run_dirs import NOT_IN_HASH
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.evaluate import Evaluator
from perturbrl.runner.hydra.compose import compose_config
from perturbrl.runner.job import make_job
from perturbrl.runner.outcome import Outcome
from perturbrl.runner.progress import Progress
from perturbrl.runner.schema import bind_run
from perturbrl.runner.train import train_jobs

from . import conf_keys
from .conf_keys import Change
from .conf_probes import changed_job, planned
from .tiny import BUILT_IN, QUIET, SMALL, cli_run, small

CONF = paths.conf_dir()
NOT_BOUND = (
    "experiment",
    "hydra/launcher",
    "baseline",
    "study",
    "fate",
    "verifier",
)  # overlays of other keys; tested apart


def choices() -> list[tuple[str, str]]:
    files = sorted(CONF.rglob("*.yaml"))
    return [(str(f.parent.relative_to(CONF)).removeprefix("."), f.stem) for f in files]


BOUND = [(group, choice) for group, choice in choices() if group not in NOT_BOUND]
GROUPS = sorted({group for group, _ in BOUND if group})


def leaves(node: DictConfig, above: str = "") -> Iterator[str]:
    for key in node:
        name = f"{above}{key}"
        value = node._get_node(key)
        if isinstance(value, DictConfig) and len(value):
            yield from leaves(value, f"{name}.")
        elif name != "defaults":
            yield name


def keys(group: str, choice: str) -> list[str]:
    node = OmegaConf.load(CONF / group / f"{choice}.yaml")
    found = list(leaves(node))
    return found if group else [k for k in found if not k.startswith("hydra.")]


CASES = [(g, c, key) for g, c in BOUND for key in keys(g, c)]


@functools.cache
def table() -> dict[tuple[str, str], dict[str, Change]]:
    return conf_keys.table()


@functools.cache
def observed(given: tuple[str, ...], probe: Any, bases: Path) -> tuple[str, str]:
    job = changed_job(given)
    return probe(job, Path(tempfile.mkdtemp(dir=bases))), job.hash


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bases")


def test_the_table_has_no_key_that_is_gone() -> None:
    known: dict[tuple[str, str], set[str]] = {}
    for group, choice, key in CASES:
        known.setdefault((group, choice), set()).add(key)
    assert table().keys() == known.keys()
    for file, changes in table().items():
        if file[0] != "data":  # three of its files only amend the fourth
            assert changes.keys() == known[file], file


@pytest.mark.parametrize(("group", "choice", "key"), CASES, ids=[f"{g}/{c}:{k}".lstrip("/") for g, c, k in CASES])
def test_no_key_is_dead(group: str, choice: str, key: str, tmp_path: Path, bases: Path) -> None:
    change = table()[group, choice].get(key)
    assert change is not None, f"conf/{group}/{choice}.yaml: {key} needs an entry in tests/runner/conf_keys.py"
    given = conf_keys.merged(change.base or conf_keys.base(group, choice), change.given)
    full = f"{group}.{key}".lstrip(".").replace("/", ".")
    if change.refused:
        with pytest.raises(UserError, match=change.refused):
            (change.probe or conf_keys.p.read)(changed_job(given, full, change.value), tmp_path)
        return
    assert change.probe is not None
    before, old_hash = observed(given, change.probe, bases)
    job = changed_job(given, full, change.value)
    after = change.probe(job, tmp_path)  # a refusal is no effect, or a key that cannot be changed would pass for alive
    assert before != after, f"{full}: {change.value!r} changes nothing"
    assert (job.hash != old_hash) == (full not in NOT_IN_HASH or group != "" or key == "path")


def test_probes_give_the_same_twice(tmp_path: Path) -> None:
    """Or a difference would mean nothing."""
    probes = {c.probe for changes in table().values() for c in changes.values() if c.probe} - {conf_keys.p.raw}
    probes -= {conf_keys.p.fetched, conf_keys.p.placed}
    groups = dict.fromkeys((conf_keys.p.told, conf_keys.p.predicted, conf_keys.p.curve), ("env", "counterfactual"))
    groups |= {conf_keys.p.fates: ("env", "fate"), conf_keys.p.tried: ("agent", "random_search")}
    for probe in sorted(probes, key=lambda f: f.__name__):
        given = conf_keys.base(*groups.get(probe, ("", "config")))
        (tmp_path / f"{probe.__name__}1").mkdir()
        (tmp_path / f"{probe.__name__}2").mkdir()
        one = probe(changed_job(given), tmp_path / f"{probe.__name__}1")
        assert one == probe(changed_job(given), tmp_path / f"{probe.__name__}2"), probe.__name__


# --- choices


@pytest.mark.parametrize(("group", "choice"), BOUND)
def test_every_choice_composes_and_binds(group: str, choice: str) -> None:
    task = ["env=counterfactual"] if conf_keys.of_screens(group, choice) else []
    task = ["env=fate"] if (group, choice) == ("protocol", "fate") else task
    config = compose_config([*task, *([f"{group}={choice}"] if group else [])])
    bound = bind_run(_without_hydra(config))
    assert choice in (config.hydra.runtime.choices.get(group), "config")
    if group in ("source", "encoder", "env", "agent", "schedule", "protocol", "data", "conditions", "description"):
        assert getattr(bound, group).name == choice


def _without_hydra(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])


@pytest.mark.parametrize("experiment", [choice for group, choice in choices() if group == "experiment"])
def test_every_experiment_composes(experiment: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = cli_run(capsys)("train", f"experiment={experiment}", "--cfg", "job")
    assert code == 0, err
    bind_run(OmegaConf.create(out))
    config = compose_config([f"experiment={experiment}"])
    for key in config.hydra.sweeper.params:
        assert OmegaConf.select(config, key) is not None


RUNS = {
    **{f"{a}-{e}": (f"agent={a}", f"env={e}") for a in BUILT_IN for e in ("paper", "paper_discrete")},
    **{f"encoder-{e}": (f"encoder={e}",) for g, e in BOUND if g == "encoder"},
    **{f"data-{d}": (f"data={d}",) for g, d in BOUND if g == "data"},
    **{f"branches-{d}": (f"data={d}", "policy.net=branches") for d in ("rna", "joint", "cite")},
    "sac": ("agent=sac", "agent.minibatch=16"),
    "released": ("data.preset=released", "encoder=random_gat"),
    "pbmc68k": ("source=pbmc68k_reduced",),
}


@pytest.mark.parametrize("case", RUNS)
def test_every_choice_trains_and_is_evaluated(case: str, tmp_path: Path) -> None:
    chosen = dict(o.split("=") for o in RUNS[case])
    asked = small(chosen.pop("agent", "ppo"), *conf_keys.QUICK, *(f"{k}={v}" for k, v in chosen.items()))
    asked = [o for o in asked if not (case == "pbmc68k" and o.startswith("source."))]
    if chosen.get("encoder", "pca") != "pca":
        asked = [o for o in asked if not o.startswith("encoder.")]
        asked += ["encoder.epochs=2", "encoder.components=3"] if chosen["encoder"] == "gat" else []
    config = _without_hydra(compose_config(asked))
    job = make_job(config, tmp_path / "name" / "cells" / "env" / "agent" / "seed0")
    assert [o.status for o in train_jobs([job], QUIET)] == ["complete"]
    Evaluator().evaluate(job.path)
    rows = OmegaConf.load(job.path / "evaluation" / "summary.json").rows
    assert rows.do_nothing.accuracy == 1.0 and 0 <= rows.policy.accuracy <= 1
    assert bool(load_cells(job).leaks) == ("data.preset" in chosen)


@pytest.mark.parametrize("schedule", [choice for group, choice in BOUND if group == "schedule"])
@pytest.mark.parametrize("agent", ["trpo_ppo", *(pytest.param(a, marks=pytest.mark.slow) for a in ("ppo", "trpo"))])
def test_every_schedule_runs(schedule: str, agent: str, tmp_path: Path) -> None:
    asked = [o for o in small(agent, *SMALL, f"schedule={schedule}") if not o.startswith("schedule.")]
    whole = make_job(_without_hydra(compose_config(asked)), tmp_path)
    stages = OmegaConf.create(planned(whole, tmp_path))
    spent = whole.raw["schedule"]
    if agent != "trpo_ppo":
        assert len(stages) == -(-spent["total"] // 256)
    elif spent["mode"] == "stages":
        first = -(-spent["trpo"] // 256)
        assert list(stages) == ["trpo"] * first + ["ppo"] * -(-spent["ppo"] // 256)
    else:
        assert list(stages) == ["trpo_ppo"] * -(-spent["total"] // 256)
    little = [*asked, "schedule.total=512", "schedule.trpo=512", "schedule.ppo=512"]
    job = make_job(_without_hydra(compose_config(little)), tmp_path / "run")
    assert [o.status for o in train_jobs([job], QUIET)] == ["complete"]


# --- the launcher, whose keys Hydra hands to a constructor

LAUNCHER = {
    "_target_": "",
    "workers": "hydra.launcher.workers=3",
    "runs_together": "hydra.launcher.runs_together=1",
    "via": "hydra.launcher.via=joblib",
    "options": "+hydra.launcher.options.n_jobs=7",
}


@pytest.mark.parametrize("key", keys("hydra/launcher", "population"))
def test_no_key_of_the_launcher_is_dead(key: str, capsys, tmp_path: Path, monkeypatch) -> None:
    assert key in LAUNCHER, f"conf/hydra/launcher/population.yaml: {key} has no entry in LAUNCHER"
    if key == "_target_":
        return
    import joblib

    calls: list[str] = []

    def note(name: str, answer: Any) -> Any:
        def called(*args: Any, **kwargs: Any) -> Any:
            plain = [arg for arg in args if not isinstance(arg, Progress)]  # one of each command
            calls.append(f"{name} {plain} {sorted(kwargs.items())}")
            return answer

        return called

    def pretend(groups: Any, mode: str = "") -> list[Any]:
        groups = [g if isinstance(g, list) else g[1][0] for g in groups]  # joblib hands over (function, arguments, ...)
        calls.append(f"groups {[len(g) for g in groups]}")
        return [[Outcome(job.path, "complete") for job in group] for group in groups]

    monkeypatch.setattr("perturbrl.runner.sweep.default_workers", lambda device: 1)
    monkeypatch.setattr("perturbrl.runner.sweep.in_processes", note("processes", pretend))
    monkeypatch.setattr(joblib, "Parallel", note("joblib", pretend))
    monkeypatch.chdir(tmp_path)
    sweep = ("train", "-m", *small(), "seed=0,1", "hydra/launcher=population")
    given = ("hydra.launcher.via=joblib",) if key == "options" else ()
    assert cli_run(capsys)(*sweep, *given)[0] == 0
    before = calls[:]
    calls.clear()
    assert cli_run(capsys)(*sweep, *given, LAUNCHER[key])[0] == 0
    assert calls != before
