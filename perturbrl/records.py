"""Run directories: what a run leaves behind, written so that a kill at any moment loses nothing that was finished.

Every file is written beside its place and renamed. ``run.json`` with status ``complete`` or ``diverged`` comes
last and is what makes a run finished. Reading needs no torch.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from perturbrl import files, paths
from perturbrl.errors import UserError
from perturbrl.files import read_json as read_json
from perturbrl.files import replacing as replacing
from perturbrl.files import write_json as write_json
from perturbrl.files import write_text as write_text

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

FINISHED = ("complete", "diverged")
PACKAGES = ("perturbrl", "torch", "numpy", "anndata", "scanpy", "hydra-core", "torch-geometric")
SPARE_BYTES = 64 * 2**20
DIGEST = "sha256"  # in the metadata of a checkpoint
TRAIN_AGAIN = "add force=true to the training command, or delete this folder, to train again"
GO_ON = "delete it and give the training command again, it goes on from the checkpoint"


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
    except FileNotFoundError:
        raise UserError(f"{path}: is missing; {TRAIN_AGAIN}") from None
    except Exception as error:  # pyarrow raises its own errors, but a damaged file can make it raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: is not a readable table ({reason}); {TRAIN_AGAIN}") from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors as safetensors; the file's metadata hold the JSON of ``about`` and a sha256 over all that."""
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        cpu_tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
        signed = {**about, DIGEST: _digest(cpu_tensors, about)}
        save_file(cpu_tensors, temporary, metadata={"about": json.dumps(signed)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``write_tensors`` wrote; nothing in the file is executed.

    A checkpoint without a digest (of version 0.1.0) is read as it is.

    Raises
    ------
    UserError
        The file is missing, cut short, damaged or not safetensors.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        digest = about.pop(DIGEST, None)
        if digest not in (None, _digest(tensors, about)):
            raise ValueError("the tensors do not have the sha256 that was written with them")
    except FileNotFoundError:
        raise UserError(f"{path}: is missing; {TRAIN_AGAIN}") from None
    except Exception as error:  # a damaged header can make safetensors and torch raise anything
        raise UserError(f"{path}: is not a readable checkpoint ({error}); {TRAIN_AGAIN}") from None
    return tensors, about


def _digest(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """Return a sha256 of names, types, shapes and bytes of tensors on the CPU, and of the JSON of ``about``."""
    import torch

    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class RunDir:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def run(self) -> dict[str, Any]:
        """Content of ``run.json``; empty if there is none yet."""
        file = self.path / paths.RUN
        if not file.exists():
            return {}
        try:
            return read_json(file)
        except UserError as error:
            raise UserError(f"{error}; {GO_ON}") from None

    def finished(self, config_hash: str) -> bool:
        """Whether this run is done with this very config.

        Raises
        ------
        UserError
            The folder holds a run with another config, or a finished one of which a file is missing or damaged.
        """
        run = self.run
        if run and run.get("config_hash") != config_hash:
            raise UserError(
                f"{self.path}: holds a run with another config; choose another name=, or force=true to replace it"
            )
        if run.get("status") not in FINISHED:
            return False
        self.check()
        return True

    def check(self) -> None:
        """Look whether checkpoint and log can be relied on.

        Raises
        ------
        UserError
            One of them is unreadable, or the run is finished and one is missing or not what was written.
        """
        run = self.run
        finished = run.get("status") in FINISHED
        for name in (paths.CHECKPOINT, paths.PROGRESS):
            file = self.path / name
            if finished and (problem := files.damage(self.path, run.get("digests"), name)):
                raise UserError(f"{file}: {problem}; {TRAIN_AGAIN}")
            if file.exists() and not (finished and "digests" in run):
                (read_tensors if name == paths.CHECKPOINT else read_parquet)(file)

    def checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read the checkpoint: its tensors, and what stands in its metadata.

        Raises
        ------
        UserError
            It is missing, damaged, or not the one with which the run was finished.
        """
        run, file = self.run, self.path / paths.CHECKPOINT
        if run.get("status") in FINISHED and (problem := files.damage(self.path, run.get("digests"), file.name)):
            raise UserError(f"{file}: {problem}; {TRAIN_AGAIN}")
        return read_tensors(file)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process.

        Raises
        ------
        UserError
            Another process trains here, or the folder cannot be written, or the disk is full.
        """
        folder = self.path.absolute()
        existing = next(each for each in (folder, *folder.parents) if each.exists())
        try:
            file = _lock(folder)
        except OSError as error:
            remove_unused(folder, existing)
            raise UserError(f"{self.path}: cannot be written ({error.strerror}); choose another folder") from None
        if file is None:
            raise UserError(f"{self.path}: another process is training in this folder; wait for it to end")
        with file:
            try:
                for leftover in self.path.glob(".*.tmp"):  # by a process that was killed while it wrote
                    leftover.unlink(missing_ok=True)
                check_space(self.path)
                yield
            finally:
                remove_unused(folder, existing)

    def clear(self) -> None:
        """Remove an earlier run's results."""
        for name in (paths.RUN, paths.CHECKPOINT, paths.PROGRESS):
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / paths.EVALUATION, ignore_errors=True)


def _lock(folder: Path) -> TextIO | None:
    """Make a folder and lock it; None if another process holds it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = (folder / paths.LOCK).open("w")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), (folder / paths.LOCK).stat()):
                return file
            file.close()
        except BlockingIOError:
            file.close()
            return None
        except FileNotFoundError:
            continue  # a process that failed has removed the folder as it ended


def remove_unused(folder: Path, keep: Path) -> None:
    """Remove a run's folder where nothing but a lock was left in it, and empty folders above it, up to ``keep``."""
    with contextlib.suppress(OSError):
        if {file.name for file in folder.iterdir()} == {paths.LOCK}:
            (folder / paths.LOCK).unlink()
        for each in (folder, *folder.parents):
            if each == keep or keep.is_relative_to(each):
                break
            each.rmdir()  # fails, and so ends it, where there is something in it


def check_space(folder: Path, n_bytes: int = SPARE_BYTES) -> None:
    """Refuse to start where the disk is all but full."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise UserError(f"{folder}: the disk has {free // 2**20} MB left, a run needs {n_bytes // 2**20} MB; free some")


@functools.cache
def versions() -> dict[str, str]:
    """Return the installed versions of the packages that shape a result."""
    installed = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


@functools.cache
def git_commit() -> str | None:
    """Return the commit of the checkout that this package is imported from, with ``-dirty`` if it has been changed."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
