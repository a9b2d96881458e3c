"""The safety net itself: each kind of change is seen, rounding and clocks are not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from . import store
from .describe import describe
from .test_old_runs import FIXTURE

Change = Callable[[Path], None]


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Two runs with their evaluations."""
    for env in ("paper", "counterfactual"):
        summary = sorted(f for f in FIXTURE.rglob("summary.json") if f"/{env}," in str(f))[0]
        shutil.copytree(summary.parents[1], tmp_path / env / "seed0")
    return tmp_path


def json_file(name: str, change: Callable[[dict], object]) -> Change:
    def edit(run: Path) -> None:
        content = json.loads((run / name).read_text())
        (run / name).write_text(json.dumps(change(content) or content))

    return edit


def parquet_file(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Change:
    return lambda run: change(pd.read_parquet(run / name)).to_parquet(run / name, index=False)


def tensors(change: Callable[[dict[str, np.ndarray]], object]) -> Change:
    def edit(run: Path) -> None:
        file = run / "checkpoint.safetensors"
        with safe_open(file, framework="np") as opened:
            about, arrays = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        change(arrays)
        save_file(arrays, file, metadata=about)

    return edit


def last_bit(arrays: dict[str, np.ndarray]) -> None:
    arrays["theta"][0, 7] = np.nextafter(arrays["theta"][0, 7], np.float32(9))


def scaled(column: str, factor: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda frame: frame.assign(**{column: frame[column] * factor})


SUMMARY, PROGRESS = "evaluation/summary.json", "progress.parquet"
RUN = {  # which may grow, so that its bits are not kept
    "config_hash": json_file("run.json", lambda c: c.update(config_hash="0")),
    "a key of run.json is gone": json_file("run.json", lambda c: c.pop("data_checksum")[:0]),
}
VALUES = {
    **RUN,
    "weights": tensors(lambda a: a.update(theta=a["theta"] * np.float32(1.003))),
    "type of a tensor": tensors(lambda a: a.update(theta=a["theta"].astype(np.float64))),
    "name of a tensor": tensors(lambda a: a.update(weights=a.pop("theta"))),
    "a column of the log": parquet_file(PROGRESS, scaled("return_mean", 1.01)),
    "name of a column": parquet_file(PROGRESS, lambda f: f.rename(columns={"return_mean": "mean_return"})),
    "order of columns": parquet_file(PROGRESS, lambda f: f[list(f)[::-1]]),
    "a number of the policy": json_file(SUMMARY, lambda c: c["rows"]["policy"].update(mse=9.0)),
    "a row of the summary": json_file(SUMMARY, lambda c: c["rows"].pop("best_constant") and None),
    "a new key of the summary": json_file(SUMMARY, lambda c: c.update(more=1)),
    "order of rows": json_file(SUMMARY, lambda c: {**c, "rows": dict(reversed(c["rows"].items()))}),
}
BITS = {
    "last bit of a weight": tensors(last_bit),
    "last bits of the log": parquet_file(PROGRESS, scaled("return_mean", 1 + 2**-50)),
    "last digits of the summary": json_file(
        SUMMARY, lambda c: c["rows"]["policy"].update(mse=c["rows"]["policy"]["mse"] * (1 + 2**-50))
    ),
}
NEITHER = {
    "time": json_file("run.json", lambda c: c.update(wall_seconds=99.0, git_commit="other")),
    "time of the log": parquet_file(PROGRESS, scaled("seconds", 3.0)),
}


@pytest.mark.parametrize("env", ["paper", "counterfactual"])
@pytest.mark.parametrize("what", [*VALUES, *BITS, *NEITHER])
def test_what_is_seen(what: str, env: str, outputs: Path) -> None:
    before, bits = describe(outputs)
    {**VALUES, **BITS, **NEITHER}[what](outputs / env / "seed0")
    after, other_bits = describe(outputs)
    moved = store.differences(before, after)
    assert bool(moved) == (what in VALUES), moved
    assert all(line.startswith(f"{env}/seed0: ") for line in moved)
    changed = [name.removeprefix(f"{env}/seed0/") for name in store.changed(bits, other_bits)]
    assert len(changed) == (what not in (*NEITHER, *RUN)), changed


def test_run_json_may_say_more_and_nothing_else_may(outputs: Path) -> None:
    before, _ = describe(outputs)
    json_file("run.json", lambda c: c.update(label="ppo"))(outputs / "paper" / "seed0")
    assert not store.differences(before, describe(outputs)[0])
    shutil.rmtree(outputs / "paper")
    assert store.differences(before, describe(outputs)[0]) == ["paper/seed0: is missing"]


def test_the_fingerprint_names_processor_compiler_and_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    name = store.fingerprint()
    assert name == store.fingerprint() and len(name) == 12
    assert {"processor", "vectors", "compiler", "torch", "numpy"} <= store.machine().keys()
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert store.fingerprint() != name
