"""Behaviour, file formats and numbers stay: a small sweep against what was recorded. See ``store.py`` for how."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from . import store
from .describe import describe
from .sweep import CASES, KERNELS, compiler, run

SHOWN = 12


def shown(lines: list[str]) -> str:
    lines = [re.sub(r",[^/:]*(?=/)", ",*", line) for line in lines]  # the overrides in the names of folders
    return "\n  ".join([*lines[:SHOWN], *([f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else [])])


# torch's kernels take seconds longer on each case: one of them stands for the rest in the fast tests
SLOW = {(case, "torch") for case in CASES} - {("paper_discrete", "torch")}
SWEEPS = [
    pytest.param(case, kernels, marks=[pytest.mark.slow] if (case, kernels) in SLOW else [])
    for case in CASES
    for kernels in KERNELS
]


@pytest.mark.parametrize(("case", "kernels"), SWEEPS)
def test_a_small_sweep_gives_what_it_gave(case: str, kernels: str, tmp_path: Path, record_property: Any) -> None:
    if kernels == "native" and compiler() is None:
        pytest.skip("no C compiler: native kernels cannot be built here")
    torch.set_num_threads(1)
    values, bits = describe(run(case, kernels, tmp_path))
    moved = store.differences(store.comparable(store.read_values(case), kernels), store.comparable(values, kernels))
    machine = store.fingerprint()
    recorded = store.read_digests().get(machine, {}).get("digests", {}).get(f"{case}-{kernels}")
    record_property("fingerprint", machine)
    if recorded is None:
        said = f"{case}, {kernels}: no bits were recorded on this machine ({machine}); rounded values were compared"
        warnings.warn(said, stacklevel=1)
        recorded = bits
    else:
        print(f"bits compared with those of {machine}")
    changed = store.changed(recorded, bits)
    assert not moved, f"{len(moved)} values are not as recorded, in {len(changed)} files:\n  {shown(moved)}"
    assert not changed, (
        f"values hold to rounding, bits do not ({machine}):\n  {shown(changed)}\n"
        "if that is allowed, say so in CHANGELOG.md, then: python -m tests.golden.make"
    )
