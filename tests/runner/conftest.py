from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from perturbrl.report import build

from .tiny import cli_run

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def on_one_thread(one_thread: None) -> None:
    """Every test of this folder."""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``perturbrl`` in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return cli_run(capsys)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all the rest; what is drawn is tested with the report."""
    monkeypatch.setattr(build, "_draw", lambda *tables_and_folder: {})
