"""Every test starts from torch's kernels; a test that asks for ``twin`` runs on both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perturbrl.agents import kernels


@pytest.fixture(autouse=True)
def torch_kernels() -> Iterator[None]:
    kernels.configure("torch", "float32")
    yield
    kernels.configure("torch", "float32")


@pytest.fixture(params=["torch", "native"])
def twin(request: pytest.FixtureRequest, torch_kernels: None) -> str:
    kernels.configure(request.param, "float32")
    return str(request.param)
