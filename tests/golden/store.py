"""The recorded numbers, what they are compared by, and which machine the digests belong to.

``<case>.json`` has the values of a case, ``digests.json`` the bits of each machine that recorded them. To remake them:

    python -m tests.golden.make          # the same numbers to rounding: record the bits of this machine
    python -m tests.golden.make --new    # other numbers, on purpose: record the values too
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import torch

from .describe import Leaves
from .sweep import REPORT, compiler

FOLDER = Path(__file__).parent
DIGESTS = FOLDER / "digests.json"
# Of an array's root mean square. Measured on these sweeps: native and torch kernels, and torch, NumPy and BLAS held to
# AVX2 on a processor with AVX-512, differ by 5e-4 at most.
TOLERANCE = 1e-3
SMALLEST = 1e-12  # root mean square below which an array counts as zeros
PACKAGES = ("torch", "numpy", "scipy", "pandas", "scikit-learn", "anndata", "scanpy", "numba", "torch-geometric")
Values = dict[str, Leaves]
Bits = dict[str, dict[str, str]]
CPU_FIELDS = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features")


def machine() -> dict[str, str]:
    """What bits depend on: processor, compiler, libraries and threads."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else platform.processor()
    fields = dict(re.findall(r"^([^\t:]+?)\s*:[ \t]*(.*)$", text.split("\n\n")[0], re.M))
    fields = {name: fields[name] for name in CPU_FIELDS if name in fields} or {"processor": text}
    asked = [compiler() or "true", "--version"]
    version = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()[:1]
    return {
        "processor": fields.get("model name", platform.machine()),
        "processor_sha": _short(json.dumps(fields)),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {' '.join(platform.libc_ver())}",
        "compiler": (version or ["none"])[0],
        "python": platform.python_version(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def fingerprint() -> str:
    """One word for ``machine()``."""
    return _short(json.dumps(machine(), sort_keys=True))


def read_values(case: str) -> Values:
    values: Values = json.loads((FOLDER / f"{case}.json").read_text(encoding="utf-8"))
    return values


def write_values(case: str, values: Values) -> None:
    of_files = "run.json: digests"  # bits, which stand in digests.json
    _write(
        FOLDER / f"{case}.json", {f: {k: v for k, v in leaves.items() if k != of_files} for f, leaves in values.items()}
    )


def read_digests() -> dict[str, Any]:
    """Return fingerprint -> ``{"machine": ..., "digests": {case-kernels: {folder: {file: digest}}}}``."""
    content: dict[str, Any] = json.loads(DIGESTS.read_text(encoding="utf-8")) if DIGESTS.exists() else {}
    return content


def write_digests(content: dict[str, Any]) -> None:
    _write(DIGESTS, content)


def comparable(values: Values, kernels: str) -> Values:
    """Leave out what differs between kernels by name: one record serves both."""
    kept = {folder: leaves for folder, leaves in values.items() if folder != REPORT or kernels == "native"}
    named = ("run.json: kernels", "run.json: executors")
    return {f: {k: v for k, v in leaves.items() if k not in named} for f, leaves in kept.items()}


def differences(recorded: Values, found: Values) -> list[str]:
    """Return one line for each thing that is not as recorded; run.json may have new keys."""
    lines = [f"{folder}: is missing" for folder in recorded if folder not in found]
    lines += [f"{folder}: was not recorded" for folder in found if folder not in recorded]
    for folder in (f for f in recorded if f in found):
        before, now = recorded[folder], found[folder]
        lines += [f"{folder}: {leaf}: was not recorded" for leaf in now if leaf not in before and not _is_run(leaf)]
        for leaf, value in before.items():
            if leaf not in now:
                lines.append(f"{folder}: {leaf}: is missing")
            elif not _same(value, now[leaf]):
                lines.append(f"{folder}: {leaf}: {_spelled(value)} was recorded, now {_spelled(now[leaf])}")
        order = [leaf for leaf in before if leaf in now]
        if order != [leaf for leaf in now if leaf in before]:
            lines.append(f"{folder}: the order of what it holds has changed")
    return lines


def changed(recorded: Bits, found: Bits) -> list[str]:
    """Return the files whose bits are not as recorded."""
    before, now = (
        {(f, part): d for f, parts in bits.items() for part, d in parts.items()} for bits in (recorded, found)
    )
    return [
        f"{folder}/{part}"
        for folder, part in sorted(before.keys() | now.keys())
        if before.get((folder, part)) != now.get((folder, part))
    ]


def _is_run(leaf: str) -> bool:
    return leaf.startswith("run.json: ")


def _same(value: Any, other: Any) -> bool:
    if not all(isinstance(each, dict) and "stats" in each for each in (value, other)):
        return bool(value == other)
    one, two = value["stats"], other["stats"]
    if value["is"] != other["is"] or len(one) != len(two) or one[:-5] != two[:-5]:  # counts are exact
        return False
    one, two = one[-5:], two[-5:]
    scale = max((abs(v) for v in (one[1:2] or one) if v is not None), default=0.0)
    return all(_near(a, b, scale) for a, b in zip(one, two, strict=True))


def _near(one: float | None, two: float | None, scale: float) -> bool:
    if one is None or two is None:
        return one is two
    return abs(one - two) <= TOLERANCE * max(scale, abs(one), SMALLEST)


def _spelled(value: Any) -> str:
    return f"{value['is']} {value['stats']}" if isinstance(value, dict) else repr(value)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _write(file: Path, content: Any) -> None:
    text = json.dumps(content, indent=1)
    # the numbers of an array on one line
    for pattern in (re.compile(r"\[[^\[\]{}]*\]"), re.compile(r"\{\s*\"is\"[^{}]*\}")):
        text = pattern.sub(lambda found: re.sub(r"\s*\n\s*", " ", found[0]), text)
    file.write_text(text + "\n", encoding="utf-8")
