"""``available`` agrees with what agents really use, and ``doctor`` shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from perturbrl.agents import kernels
from perturbrl.agents.executors import available
from perturbrl.agents.kernels import build, native
from perturbrl.cli import doctor

from .helpers import make_learner


def used() -> dict[str, str]:
    """Build both agents with the default networks and kernels, and look."""
    with kernels.using("auto", "float32"):
        ppo, trpo = (make_learner(name, [0]) for name in ("ppo", "trpo"))
    return {"PPO's steps": ppo.stages[0].executor, "TRPO's critic": trpo.stages[0].executor}


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> native.Native:
        raise build.Unavailable("no C compiler was found")

    monkeypatch.setattr(native, "load", fail)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the helpers build agents on the CPU")
def test_available_is_what_agents_use() -> None:
    shown = available()
    assert shown.pop("TRPO's step") == "torch"
    assert shown == used()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU replays graphs instead")
@pytest.mark.usefixtures("no_compiler")
def test_without_native_kernels_everything_is_torch() -> None:
    assert set(available().values()) == {"torch"}
    assert set(used().values()) == {"torch"}


def test_asking_changes_no_arithmetic() -> None:
    with kernels.using("torch", "bf16") as before:
        available()
        assert kernels.current() is before


def test_doctor_shows_executors_after_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NEEDED", {})
    shown = list(doctor.findings(tmp_path))
    names = [name for name, _, _ in shown]
    assert names.index("executors") == names.index("kernels") + 1
    (line,) = (value for name, value, good in shown if name == "executors" and good)
    assert line == ", ".join(f"{what}: {name}" for what, name in available().items())


def test_doctor_reports_a_device_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, str]:
        raise RuntimeError("CUDA error:\n device is lost")

    monkeypatch.setattr("perturbrl.agents.executors.available", broken)
    assert doctor._executors() == ("executors", "RuntimeError: CUDA error: device is lost", False)
