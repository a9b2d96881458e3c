"""Compiles the C sources at first use and keeps the library in the cache folder; nothing has to be installed for it."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from perturbrl import paths, status
from perturbrl.files import sha256

SOURCES = ("kernels.h", "product.c", "dense.c", "ppo.c")
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=gnu11", "-O2", "-ftree-vectorize", "-fno-math-errno", "-fno-trapping-math")
MARCH = "PERTURBRL_MARCH"  # environment: a lesser processor to build for, to test and measure its code on this one
DIGITS = 32  # of the sha256 in a library's name
SECONDS = 120.0  # a compiler that hangs is one that is not there
ENTRIES = (
    *("chain_forward", "chain_jvp", "chain_vjp", "fisher_product", "gaussian_log_prob", "gaussian_vjp"),
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
    identity = "\n".join([*texts, compiler, *_flags(), _processor()])
    folder, key = paths.cache_dir() / "kernels", hashlib.sha256(identity.encode()).hexdigest()[:16]
    file = folder
    try:
        file = _cached(folder, key) or _compile(compiler, folder, key)
        shared_object = ctypes.CDLL(str(file))
        for entry in ENTRIES:
            getattr(shared_object, entry)
    except (OSError, AttributeError) as error:
        raise Unavailable(f"{file} could not be built or loaded ({error})") from None
    return shared_object


def _cached(folder: Path, key: str) -> Path | None:
    """Return the library if it is there and whole: to load one that was cut short kills the process.

    Its name ends with the start of its own sha256; what does not fit its name is removed.
    """
    for file in sorted(folder.glob(f"{key}-*.so")):
        with contextlib.suppress(FileNotFoundError):  # another process has removed it just now
            if file.stem == f"{key}-{_digest(file)}":
                return file
            file.unlink()
    return None


def _digest(file: Path) -> str:
    return sha256(file)[:DIGITS]


def _compile(compiler: str, folder: Path, key: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as inside:  # on the same disk, so that the last step is atomic
        output = Path(inside) / f"{key}.so"
        units = [_source(name) for name in SOURCES if name.endswith(".c")]
        command = [compiler, *_flags(), "-shared", "-fPIC", *map(str, units), "-o", str(output), "-lm"]
        try:
            with status.step("compiling kernels"):
                done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{compiler} did not finish in {SECONDS:g} s") from None
        if done.returncode:
            messages = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise Unavailable(f"{compiler} failed: {messages[0]}")
        file = folder / f"{key}-{_digest(output)}.so"
        with output.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(output, file)
    return file


def _flags() -> list[str]:
    return [*FLAGS, f"-march={os.environ.get(MARCH) or 'native'}"]


def _source(name: str) -> Path:
    return Path(__file__).with_name(name)


def _processor() -> str:
    """Return what tells processors apart: code made for one may not run on another that shares the folder."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor() + platform.machine()
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(sorted({line for line in lines if line.lower().startswith(("model name", "flags", "features"))}))
