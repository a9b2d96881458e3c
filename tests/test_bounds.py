"""What fields declare is checked for every key of conf/, in one line, before anything is computed."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from omegaconf import OmegaConf
from runner.tiny import cli_run, job, variant

from perturbrl import memory, paths, registry
from perturbrl.agents.model.actor_critic import PolicyConfig
from perturbrl.bounds import (
    Number,
    NumberOrAll,
    OneOf,
    PerRun,
    PositiveFloat,
    PositiveInt,
    per_run_keys,
    require_shared,
)
from perturbrl.config import bind
from perturbrl.data.preprocess import DataConfig
from perturbrl.errors import UserError
from perturbrl.runner.hydra.via import LauncherConfig
from perturbrl.runner.job import Job
from perturbrl.runner.schema import RunConfig, ScheduleConfig
from perturbrl.screens.conditions import ConditionsConfig
from perturbrl.screens.describe import DescriptionConfig


@dataclass(frozen=True)
class Settings:
    rate: PerRun[PositiveFloat]
    limit: Annotated[float, Number(above=0, finite=False)]
    target: PositiveFloat | None
    widths: list[PositiveInt]
    counts: dict[str, PositiveInt | None]
    cells: Annotated[int | str | None, NumberOrAll(2)]
    kind: Annotated[str, OneOf("a", "b")]

    def check(self, where: str) -> None:
        if self.rate == self.limit:
            raise UserError(f"{where}.limit: must differ from {where}.rate")


GOOD: dict[str, Any] = {
    **{"rate": 0.1, "limit": 1.0, "target": None, "widths": [3, 4], "counts": {"x": None}, "cells": "all", "kind": "a"}
}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("rate", 0, "s.rate: must be above 0, got 0.0"),
        ("rate", "nan", "s.rate: must be a number, got nan"),
        ("rate", "inf", "s.rate: must be a finite number, got inf"),
        ("rate", 1e39, "s.rate: must be a finite number, got 1e+39"),  # infinite in single precision
        ("limit", "nan", "s.limit: must be a number, got nan"),
        ("limit", -1, "s.limit: must be above 0, got -1.0"),
        ("limit", 0.1, "s.limit: must differ from s.rate"),
        ("target", -1, "s.target: must be above 0, got -1.0"),
        ("target", "-inf", "s.target: must be a finite number, got -inf"),
        ("widths", [3, 0], "s.widths[1]: must be at least 1, got 0"),
        ("widths", [10**22], f"s.widths[0]: must be at most {2**63 - 1}, got {10**22}"),
        ("counts", {"x": 0}, "s.counts.x: must be at least 1, got 0"),
        ("cells", 1, "s.cells: must be all, or a number from 2 up, got 1"),
        ("cells", "some", "s.cells: must be all, or a number from 2 up, got 'some'"),
        ("kind", "c", "s.kind: 'c' is not known; choose a or b"),
    ],
)
def test_a_bound_names_key_value_and_what_would_be_right(key: str, value: Any, said: str) -> None:
    with pytest.raises(UserError) as error:
        bind(Settings, GOOD | {key: value}, "s")
    assert str(error.value) == said


@pytest.mark.parametrize(
    ("key", "value"), [("limit", float("inf")), ("target", 2.0), ("cells", None), ("cells", 2), ("counts", {"x": 1})]
)
def test_what_lies_within_is_bound(key: str, value: Any) -> None:
    assert getattr(bind(Settings, GOOD | {key: value}, "s"), key) == value


def test_only_what_is_declared_may_differ() -> None:
    assert per_run_keys(Settings) == ["rate"]
    one = bind(Settings, GOOD, "s")
    require_shared([one, dataclasses.replace(one, rate=0.2)], "s")
    with pytest.raises(UserError, match=r"^s\.kind: runs trained together need one value, got a, b$"):
        require_shared([one, dataclasses.replace(one, kind="b")], "s")


# --- every schema


def schemas() -> Iterator[tuple[str, type[Any]]]:
    kinds = (registry.sources, registry.encoders, registry.envs, registry.agents, registry.protocols, registry.splits)
    kinds += (registry.baselines,)
    for kind in kinds:
        for name in kind:
            if kind[name].schema.__module__.startswith("perturbrl."):  # not what other tests have registered
                yield f"{kind.kind}={name}", kind[name].schema
    others = (RunConfig, PolicyConfig, ScheduleConfig, DataConfig, ConditionsConfig, DescriptionConfig, LauncherConfig)
    yield from ((schema.__name__, schema) for schema in others)


def numbers(schema: type[Any]) -> Iterator[tuple[str, type[int] | type[float]]]:
    """Fields that hold a number, and its type; the number may be null."""
    for field, hint in typing.get_type_hints(schema).items():
        for kind in (int, float):
            if kind in (hint, *typing.get_args(hint)) and typing.get_origin(hint) not in (list, dict):
                yield field, kind


NUMBERS = sorted({(schema, key, kind) for _, schema in schemas() for key, kind in numbers(schema)}, key=str)
HOSTILE = {int: [-(10**6), 10**22], float: ["nan", "-inf"]}


@pytest.mark.parametrize(
    ("schema", "key", "value"),
    [(schema, key, value) for schema, key, kind in NUMBERS for value in HOSTILE[kind]],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_no_number_takes_a_value_that_means_nothing(schema: type[Any], key: str, value: Any) -> None:
    """Bound alone, so that no other key can be the one that is refused."""
    hints = typing.get_type_hints(schema, include_extras=True)
    alone = dataclasses.make_dataclass("Alone", [(key, hints[key])], frozen=True)
    alone.__annotations__ = {key: hints[key]}
    with pytest.raises(UserError, match=rf"^group\.{key}: .*got {value}"):
        bind(alone, {key: value}, "group")


def test_there_are_numbers_to_try() -> None:
    assert len({schema for schema, _, _ in NUMBERS}) > 15 and len(NUMBERS) > 100


# --- sizes


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("agent.rollout_steps=1000000000000", r"^agent\.rollout_steps=1000000000000: needs about [\d.]+ TB of memory"),
        ("policy.hidden=[1000000,1000000]", r"^policy\.hidden=\[1000000, 1000000\]: needs about [\d.]+ TB of memory"),
        ("agent.epochs=1000000000000", r"^agent\.epochs=1000000000000: needs about [\d.]+ PB of memory"),
        ("agent.total_steps=1000000000000000000", r"^agent\.total_steps=1000000000000000000: needs about [\d.]+ EB"),
        ("curve_points=1000000000", r"^curve_points: must be at least 0 and at most 1000000, got 1000000000$"),
        ("threads=100000", r"^threads: must be at least 1 and at most 1024, got 100000$"),
        ("precision=tf32", r"^precision: tf32 needs a GPU"),
    ],
)
def test_what_this_machine_cannot_do_is_refused_before_cells_are_read(
    override: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runner.tiny import QUIET

    from perturbrl.runner import train as training

    def read(job: Job) -> None:
        raise AssertionError("cells were read")

    monkeypatch.setattr(training, "load_cells", read)
    with pytest.raises(UserError, match=said):
        training.train_jobs([variant(job(tmp_path), tmp_path / "run", override)], QUIET)
    assert not (tmp_path / "run").exists()


def test_the_estimate_counts_every_run_of_a_population(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from perturbrl.runner.machine import Shape, require_training_memory

    one = job(tmp_path)
    shape = Shape(runs=1, observed=100, actions=100)
    monkeypatch.setattr(memory, "machine_bytes", lambda: 4_000_000)
    require_training_memory(one, shape, torch.device("cpu"))
    with pytest.raises(
        UserError, match=r"in 100 runs together: needs about [\d.]+ MB of memory, and this machine has 4 MB"
    ):
        require_training_memory(one, dataclasses.replace(shape, runs=100), torch.device("cpu"))


def test_the_estimate_is_near_what_torch_allocates(tmp_path: Path) -> None:
    """Parameters: exactly; copies of them are counted as the optimiser and the loop make them."""
    import torch

    from perturbrl.runner.build import build_learner
    from perturbrl.runner.dataset import load_cells
    from perturbrl.runner.machine import Shape, n_parameters

    made = job(tmp_path)
    learner = build_learner([made], load_cells(made), torch.device("cpu"))
    shape = Shape(1, learner.collector.env.obs_dim, learner.collector.env.action_space.size)
    assert learner.model.theta.numel() == pytest.approx(n_parameters(made.config.policy, shape), rel=0.2)


@pytest.mark.parametrize(
    ("n_bytes", "said"), [(12, "12 bytes"), (2.5e9, "2.5 GB"), (7e20, "700 EB"), (7e24, "7.0e+06 EB")]
)
def test_bytes_are_readable(n_bytes: float, said: str) -> None:
    assert memory.readable(n_bytes) == said


def test_simulated_cells_that_cannot_be_held_are_refused(tmp_path: Path) -> None:
    many = variant(job(tmp_path), tmp_path, "source.n_cells=1000000000000")
    with pytest.raises(UserError, match=r"^source\.n_cells=1000000000000 with .* features each: needs about"):
        registry.sources["landscape"].build(many.config.source)


# --- the command line: one line, exit 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train data=[]", "error: data: must name one choice, such as data=rna"),
        (
            "train agent.lr=${nope}",
            "error: agent.lr: '${nope}' cannot be resolved (Interpolation key 'nope' not found)",
        ),
        ("train -m seed=range(0)", "error: seed: range(0) has no value to sweep over"),
        ("train -m seed=range(1,5,0)", "error: seed: range(1,5,0) has no value to sweep over"),
        ("train -m agent=glob(zz*)", "error: agent: glob(zz*) has no value to sweep over"),
        ("train -m seed=range(1000000000)", "error: seed=range(1000000000): a sweep of 1e+09 jobs"),
        (
            "train seed=12345678901234567890123",
            "error: seed: must be at most 9223372036854775807, got 123",
        ),
        ("train agent.lr=inf", "error: agent.lr: must be a finite number, got inf"),
        ("train protocol.seed=-1", "error: protocol.seed: must be at least 0"),
        (
            "train -m seed=0,1 hydra/launcher=population hydra.launcher.workers=-2",
            "error: hydra.launcher.workers: must be",
        ),
        ("reproduce agent=foo", "error: agent: reproduce sets it itself; every table has ppo, trpo, trpo_ppo"),
        ("evaluate afile", "error: afile: a file, not a folder of runs"),
        ("report afile", "error: afile: a file, not a folder of runs"),
    ],
)
def test_a_mistake_is_one_line(words: str, said: str, capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("afile").write_text("not a run")
    code, _, err = cli_run(capsys)(*words.split())
    assert code == 2 and err.startswith(said) and err.count("\n") == 1, err
    assert [p.name for p in tmp_path.iterdir() if p.name != "outputs"] == ["afile"]


@pytest.mark.parametrize("name", ["../outside", "a/b", "", ".."])
def test_a_download_stays_in_the_cache(name: str) -> None:
    node = OmegaConf.load(paths.conf_dir() / "source" / "kang18.yaml")
    values = {**OmegaConf.to_container(node, resolve=False), "path": None, "file_name": name}
    with pytest.raises(UserError, match=r"^source\.file_name: must be the name of a file, without folders"):
        registry.sources.bind(values)


def test_a_bad_override_of_evaluate_is_told_once(capsys, tmp_path: Path) -> None:
    """Runs need not be finished for that: the override is wrong whatever they are."""
    for k in range(2):
        one = variant(job(tmp_path), tmp_path / f"run{k}", f"seed={k}")
        one.path.mkdir()
        (one.path / paths.CONFIG).write_text(OmegaConf.to_yaml(OmegaConf.create(one.raw)))
    for override, said in (
        (
            "protocol.return_episodes=0",
            "error: protocol.return_episodes: must be at least 1 and at most 1000000, got 0",
        ),
        ("protocol.return_epsodes=3", "error: protocol.return_epsodes: unknown key (did you mean 'return_episodes'?)"),
        ("protocol.seed=[", "error: protocol.seed=[: a value cannot be read"),
    ):
        code, _, err = cli_run(capsys)("evaluate", str(tmp_path), override)
        assert code == 2 and err.startswith(said) and err.count("\n") == 1, err


@pytest.mark.parametrize(("native", "said"), [(True, False), (False, True)])
def test_emulated_bfloat16_is_told(native: bool, said: bool, tmp_path: Path, capsys, monkeypatch) -> None:
    from perturbrl.agents import kernels
    from perturbrl.runner import train as training
    from perturbrl.runner.progress import Progress

    monkeypatch.setattr(kernels, "emulates_bf16", lambda: not native)
    training.train_jobs([variant(job(tmp_path), tmp_path / "run", "precision=bf16")], Progress("plain"))
    assert ("precision=bf16: emulated, slower than float32" in capsys.readouterr().err) == said


def test_bfloat16_is_emulated_without_native_kernels() -> None:
    from perturbrl.agents import kernels

    kernels.configure("torch", "bf16")
    assert kernels.emulates_bf16()
    kernels.configure("torch", "float32")
    assert not kernels.emulates_bf16()
