"""Counting cores on systems that do not say which of them a process may use."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from perturbrl.cli import doctor
from perturbrl.cores import cores
from perturbrl.runner.grouping import default_workers


def test_the_cores_of_this_process() -> None:
    assert len(cores()) >= 1 and list(cores()) == sorted(cores())
    if hasattr(os, "sched_getaffinity"):
        assert set(cores()) == os.sched_getaffinity(0)


def test_without_affinity_as_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores() == (0, 1, 2, 3, 4, 5) and default_workers("cpu") == 6
    (threads,) = (value for name, value, _ in doctor._device() if name == "threads")
    assert threads.endswith("6 cores available")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert default_workers("cpu") == 1


def test_nobody_else_asks_for_affinity(root: Path) -> None:
    files = [f for folder in ("perturbrl", "benchmarks", "hydra_plugins") for f in (root / folder).rglob("*.py")]
    found = {
        file.name
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "sched_getaffinity"
    }
    assert found == {"cores.py"}
