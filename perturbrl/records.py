"""Read and write run directories. A kill at any moment loses no finished result.

Every file is written under a temporary name and then renamed. ``run.json`` is written last: its status ``complete`` or
``diverged`` marks a finished run. Reading needs no torch.
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
from perturbrl.files import ONE_THREAD
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
    """Write a table atomically."""
    with replacing(path) as temporary:
        frame.to_parquet(temporary, index=False)


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a table.

    Parameters
    ----------
    path
        A parquet file, such as ``progress.parquet`` of a run.

    Returns
    -------
    pandas.DataFrame
        All rows and columns.

    Raises
    ------
    UserError
        The file is missing or damaged.
    """
    import pandas as pd

    try:
        return pd.read_parquet(path, **ONE_THREAD)
    except FileNotFoundError:
        raise UserError(f"{path}: is missing; {TRAIN_AGAIN}") from None
    except Exception as error:  # pyarrow raises its own errors, but a damaged file can make it raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: is not a readable table ({reason}); {TRAIN_AGAIN}") from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors as safetensors. The metadata hold the JSON of ``about`` and a sha256 of both."""
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        cpu_tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
        signed = {**about, DIGEST: _digest(cpu_tensors, about)}
        save_file(cpu_tensors, temporary, metadata={"about": json.dumps(signed)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint. Nothing in the file is executed.

    A checkpoint without a digest (version 0.1.0) is read unchecked.

    Parameters
    ----------
    path
        A file of ``write_tensors``.

    Returns
    -------
    tensors
        The tensors by name, on the CPU.
    about
        The metadata, without the digest.

    Raises
    ------
    UserError
        The file is missing, truncated, damaged or not safetensors.
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
    """Return the sha256 of the names, types, shapes and bytes of tensors on the CPU, and of the JSON of ``about``."""
    import torch

    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class RunDir:
    """The folder of one run.

    Parameters
    ----------
    path
        The folder. It need not exist yet.
    """

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
        """Return whether the run is finished with the config of this hash.

        Raises
        ------
        UserError
            The folder holds a run with another config, or a file of the finished run is missing or damaged.
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
        """Check that checkpoint and log are intact.

        Raises
        ------
        UserError
            One of them is unreadable; or the run is finished, and one is missing or differs from its digest.
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
        """Read the checkpoint: its tensors by name, and its metadata.

        Raises
        ------
        UserError
            It is missing or damaged, or differs from the digest of the finished run.
        """
        run, file = self.run, self.path / paths.CHECKPOINT
        if run.get("status") in FINISHED and (problem := files.damage(self.path, run.get("digests"), file.name)):
            raise UserError(f"{file}: {problem}; {TRAIN_AGAIN}")
        return read_tensors(file)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder for this process.

        Raises
        ------
        UserError
            Another process trains in it, the folder cannot be written, or the disk is full.
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
        """Remove the results of an earlier run."""
        for name in (paths.RUN, paths.CHECKPOINT, paths.PROGRESS):
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / paths.EVALUATION, ignore_errors=True)


def _lock(folder: Path) -> TextIO | None:
    """Create a folder and lock it. Return None if another process holds the lock."""
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
    """Remove a run's folder if it holds only a lock, and the empty folders above it, up to ``keep``."""
    with contextlib.suppress(OSError):
        if {file.name for file in folder.iterdir()} == {paths.LOCK}:
            (folder / paths.LOCK).unlink()
        for each in (folder, *folder.parents):
            if each == keep or keep.is_relative_to(each):
                break
            each.rmdir()  # fails, and so ends the loop, at a folder that is not empty


def check_space(folder: Path, n_bytes: int = SPARE_BYTES) -> None:
    """Raise ``UserError`` if the disk of ``folder`` has less than ``n_bytes`` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise UserError(f"{folder}: the disk has {free // 2**20} MB left, a run needs {n_bytes // 2**20} MB; free some")


@functools.cache
def versions() -> dict[str, str]:
    """Return the installed versions of the packages that affect results."""
    installed = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


@functools.cache
def git_commit() -> str | None:
    """Return the commit of the checkout that this package is imported from, with ``-dirty`` if files were changed."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
