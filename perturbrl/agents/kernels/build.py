"""Compiles the C sources at first use and keeps the library in the cache folder; nothing has to be installed for it."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from perturbrl import paths

SOURCES = ("kernels.h", "dense.c", "ppo.c")
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=gnu11", "-O2", "-ftree-vectorize", "-march=native", "-fno-math-errno", "-fno-trapping-math")
SECONDS = 120.0  # a compiler that hangs is one that is not there
ENTRIES = (
    *("chain_forward", "chain_jvp", "chain_vjp", "gaussian_log_prob", "gaussian_vjp"),
    *("clip_scale", "adam", "value_steps", "ppo_steps", "has_bf16"),
)


class Unavailable(Exception):
    """Why there is no native arithmetic here."""


def library() -> ctypes.CDLL:
    """Return the library for this processor, compiled where it has not been before.

    Raises
    ------
    Unavailable
        No compiler, a compiler that fails, or what it made cannot be loaded.
    """
    if platform.system() not in ("Linux", "Darwin"):
        raise Unavailable(f"not built on {platform.system()}")
    compiler = os.environ.get("CC") or next((c for c in COMPILERS if shutil.which(c)), None)
    if compiler is None:
        raise Unavailable(f"no C compiler was found (looked for $CC, {', '.join(COMPILERS)})")
    texts = [_source(name).read_text(encoding="utf-8") for name in SOURCES]
    identity = "\n".join([*texts, compiler, *FLAGS, _processor()])
    file = paths.cache_dir() / "kernels" / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    try:
        if not file.exists():
            _compile(compiler, file)
        found = ctypes.CDLL(str(file))
        for entry in ENTRIES:
            getattr(found, entry)
    except (OSError, AttributeError) as error:
        raise Unavailable(f"{file} could not be built or loaded ({error})") from None
    return found


def _compile(compiler: str, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:  # on the same disk, so that the last step is atomic
        made = Path(folder) / file.name
        units = [_source(name) for name in SOURCES if name.endswith(".c")]
        command = [compiler, *FLAGS, "-shared", "-fPIC", *map(str, units), "-o", str(made), "-lm"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{compiler} did not finish in {SECONDS:g} s") from None
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise Unavailable(f"{compiler} failed: {said[0]}")
        os.replace(made, file)


def _source(name: str) -> Path:
    return Path(__file__).with_name(name)


def _processor() -> str:
    """Return what tells processors apart: code made for one may not run on another that shares the folder."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor() + platform.machine()
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(sorted({line for line in lines if line.lower().startswith(("model name", "flags", "features"))}))
