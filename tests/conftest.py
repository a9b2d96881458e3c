"""What every test may rely on: one thread, no network of caches, the real data where it is present."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("PERTURBRL_PLUGINS", None)

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = Path(os.environ.get("PERTURBRL_REAL_DATA") or ROOT.parent / "shared" / "data")

# a busy machine is slow, which is no fault of a test
COMMON = {"deadline": None, "derandomize": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("fast", max_examples=25, **COMMON)
settings.register_profile("full", max_examples=100, **COMMON)

_own_cache: Path | None = None


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("fast" if "not slow" in config.getoption("markexpr") else "full")
    # Workers of xdist inherit the variable: one cache for a session, never the user's.
    global _own_cache
    if "PERTURBRL_CACHE" not in os.environ:
        _own_cache = Path(tempfile.mkdtemp(prefix="perturbrl-cache-"))
        os.environ["PERTURBRL_CACHE"] = str(_own_cache)


def pytest_unconfigure() -> None:
    if _own_cache is not None:
        shutil.rmtree(_own_cache, ignore_errors=True)
        os.environ.pop("PERTURBRL_CACHE", None)


@pytest.fixture(autouse=True)
def patient_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine short work takes seconds, and a line that says so would stand among the lines under test."""
    monkeypatch.setattr("perturbrl.status.SECONDS_UNTIL_LINE", float("inf"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums are split between threads, and rounded, by the size of the whole population."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; skips where there is none."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real data: set PERTURBRL_REAL_DATA (looked in {REAL_DATA})")
    return REAL_DATA
