"""Run directories: what a run leaves behind, written so that a kill at any moment loses nothing that was finished.

Every file is written beside its place and renamed. ``run.json`` with status ``complete`` or ``diverged`` comes
last and is what makes a run finished. Reading needs no torch.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import importlib.metadata
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perturbrl import paths
from perturbrl.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

FINISHED = ("complete", "diverged")
PACKAGES = ("perturbrl", "torch", "numpy", "anndata", "scanpy", "hydra-core", "torch-geometric")
SPARE_BYTES = 64 * 2**20


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; rename it to ``path`` once its content is on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all; numbers that are not finite are an error."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    UserError
        The file is missing or is not JSON.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds {type(content).__name__}, an object was expected")
    return content


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Write a table whole or not at all."""
    with replacing(path) as temporary:
        frame.to_parquet(temporary, index=False)


def read_parquet(path: Path) -> pd.DataFrame:
    """Read what ``write_parquet`` wrote.

    Raises
    ------
    UserError
        The file is missing or damaged.
    """
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: is not a readable table ({reason}); delete its folder to train again") from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors as safetensors, with the JSON of ``about`` in the file's metadata."""
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        kept = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
        save_file(kept, temporary, metadata={"about": json.dumps(about)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``write_tensors`` wrote; nothing in the file is executed.

    Raises
    ------
    UserError
        The file is missing, cut short or not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path}: is not a readable checkpoint ({error}); delete it to train again") from None


class RunDir:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def run(self) -> dict[str, Any]:
        """Content of ``run.json``; empty if there is none yet."""
        file = self.path / paths.RUN
        return read_json(file) if file.exists() else {}

    def finished(self, config_hash: str) -> bool:
        """Whether this run is done with this very config.

        Raises
        ------
        UserError
            The folder holds a run with another config.
        """
        run = self.run
        if run and run.get("config_hash") != config_hash:
            raise UserError(
                f"{self.path}: holds a run with another config; choose another name=, or force=true to replace it"
            )
        return run.get("status") in FINISHED

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process.

        Raises
        ------
        UserError
            Another process trains here, or the folder cannot be written, or the disk is full.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / paths.LOCK).open("w")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}); choose another folder") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{self.path}: another process is training in this folder; wait for it to end"
                ) from None
            for left in self.path.glob(".*.tmp"):  # by a process that was killed while it wrote
                left.unlink(missing_ok=True)
            check_space(self.path)
            yield

    def clear(self) -> None:
        """Remove an earlier run's results."""
        for name in (paths.RUN, paths.CHECKPOINT, paths.PROGRESS):
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / paths.EVALUATION, ignore_errors=True)


def check_space(folder: Path, needed: int = SPARE_BYTES) -> None:
    """Refuse to start where the disk is all but full."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(f"{folder}: the disk has {free // 2**20} MB left, a run needs {needed // 2**20} MB; free some")


@functools.cache
def versions() -> dict[str, str]:
    """Return the installed versions of the packages that shape a result."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@functools.cache
def git_commit() -> str | None:
    """Return the commit of the checkout that this package is imported from, with ``-dirty`` if it has been changed."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        asked = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
