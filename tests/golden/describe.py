"""What a folder of runs and its report hold, twice: as numbers that hold on any machine, and as digests of every bit.

Read with the libraries of the file formats, not with the package: the files are what must stay.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import safe_open

from .sweep import REPORT

DIGITS = 5
CLOCK = ("wall_seconds", "seconds")  # what the machine took
MACHINE = ("versions", "git_commit", *CLOCK)  # of run.json
ADDED = ("loss", "surrogate", "sha256")  # since the numbers were recorded: losses of eq. 7 and 8, a digest of the file
Leaves = dict[str, Any]


def describe(outputs: Path) -> tuple[dict[str, Leaves], dict[str, dict[str, str]]]:
    """Return the values and the digests of everything under ``outputs``.

    Values: folder -> what is in it -> text and integers as they are, and of an array ``{"is": "float32 2x5", "stats":
    [entries, missing ones, mean, root mean square, first, middle and last entry]}``, to 5 digits. Digests: folder ->
    file -> start of the sha256 of what ``values`` rounds.
    """
    values: dict[str, Leaves] = {}
    digests: dict[str, dict[str, str]] = {}
    folders = sorted(file.parent for file in outputs.rglob("run.json"))
    parts_of = {folder: _run(folder) for folder in folders}
    if (outputs / REPORT).exists():
        parts_of[outputs / REPORT] = _report(outputs / REPORT)
    for folder, parts in parts_of.items():
        name = str(folder.relative_to(outputs))
        values[name], digests[name] = {}, {}
        for part, leaves, digest in parts:
            values[name] |= {f"{part}: {leaf}": value for leaf, value in leaves.items()}
            if digest is not None:
                digests[name][part] = digest[:20]
    return values, digests


Part = tuple[str, Leaves, str | None]


def _run(folder: Path) -> Iterator[Part]:
    run = {k: v for k, v in json.loads((folder / "run.json").read_text()).items() if k not in MACHINE}
    yield "run.json", run, None  # later versions may say more of a run
    yield _checkpoint(folder / "checkpoint.safetensors")
    for file in (folder / "progress.parquet", *sorted((folder / "evaluation").glob("*.parquet"))):
        yield _table(str(file.relative_to(folder)), pd.read_parquet(file))
    if (folder / "evaluation").exists():
        yield _summary(folder / "evaluation" / "summary.json")


def _report(folder: Path) -> Iterator[Part]:
    files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    yield "files", {"names": files}, _sha("\n".join(files))
    for file in [folder / "values.csv", *sorted((folder / "tables").glob("*.csv"))]:
        frame = pd.read_csv(file, float_precision="round_trip")
        frame = frame[~frame["metric"].isin(CLOCK)].drop(columns="run", errors="ignore")  # run: a path of this machine
        yield _table(str(file.relative_to(folder)), frame)


def _checkpoint(file: Path) -> Part:
    with safe_open(file, framework="np") as tensors:
        about = json.loads(tensors.metadata()["about"])
        arrays = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    leaves: Leaves = {f"about.{key}": value for key, value in about.items() if key not in (*CLOCK, *ADDED)}
    leaves |= {name: _array(array) for name, array in arrays.items()}
    bits = [f"{name} {array.dtype} {array.shape} {_sha(array.tobytes())}" for name, array in arrays.items()]
    return file.name, leaves, _sha("\n".join(bits))


def _table(name: str, frame: pd.DataFrame) -> Part:
    added = ADDED if name == "progress.parquet" else ()
    frame = frame.drop(columns=[c for c in (*CLOCK, *added) if c in frame])
    leaves: Leaves = {"columns": list(frame)}
    bits = []
    for column in frame:
        if frame[column].dtype.kind in "biuf":
            array = frame[column].to_numpy()
            leaves[column] = _array(array)
            bits.append(f"{column} {array.dtype} {_sha(array.tobytes())}")
        else:
            text = _sha(json.dumps(frame[column].astype(str).tolist()))
            leaves[column] = f"{len(frame)} texts {text[:16]}"
            bits.append(f"{column} {text}")
    return name, leaves, _sha("\n".join(bits))


def _summary(file: Path) -> Part:
    content = json.loads(file.read_text(encoding="utf-8"))
    rows = {row: {k: v for k, v in cells.items() if k not in CLOCK} for row, cells in content.pop("rows").items()}
    content.pop("settings", None)  # said since the numbers were recorded
    leaves: Leaves = {"rows": list(rows), **dict(_flat(content))}
    for row, cells in rows.items():
        leaves[f"{row}.metrics"] = f"{len(cells)} texts {_sha(json.dumps(list(cells)))[:16]}"
        if row == "policy":
            leaves |= {f"{row}.{metric}": _number(value) for metric, value in cells.items()}
        else:
            leaves[row] = _array(np.array([np.nan if v is None else v for v in cells.values()], dtype=float))
    return f"{file.parent.name}/{file.name}", leaves, _sha(json.dumps([content, rows]))


def _flat(content: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", _number(value) if isinstance(value, float) else value


def _number(value: float | None) -> Any:
    return {"is": "number", "stats": [_rounded(value)]} if value is not None else None


def _array(array: np.ndarray) -> Leaves:
    flat = array.ravel().astype(float)
    fine = flat[np.isfinite(flat)]
    stats = [fine.mean(), math.sqrt(np.square(fine).mean())] if len(fine) else [None, None]
    entries = [flat[i] for i in (0, len(flat) // 2, -1)] if len(flat) else []
    counts = [len(flat), len(flat) - len(fine)]
    shape = "x".join(map(str, array.shape)) or "scalar"
    return {"is": f"{array.dtype} {shape}", "stats": [*counts, *map(_rounded, [*stats, *entries])]}


def _rounded(value: float | None) -> float | None:
    return float(f"{value:.{DIGITS}g}") if value is not None and math.isfinite(value) else None


def _sha(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
