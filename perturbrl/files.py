"""Atomic writes of files, and sha256 digests that detect later damage."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from perturbrl.errors import UserError

ONE_THREAD: dict[str, bool] = {"use_threads": False, "pre_buffer": False}
"""How tables are read: a process that ends while a thread of Arrow lives may abort (apache/arrow#34314)."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` once its content is on disk."""
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
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically. Raise ``ValueError`` for a number that is not finite."""
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


def sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the sha256 of each of the files ``names`` in a folder."""
    return {name: sha256(folder / name) for name in names}


def damage(folder: Path, expected: object, name: str) -> str:
    """Compare a file with its recorded digest.

    Parameters
    ----------
    folder
        The folder of the file.
    expected
        Digests by file name, as read from JSON. A file without a digest (version 0.1.0) only has to exist.
    name
        The name of the file.

    Returns
    -------
    str
        What is wrong, such as ``is missing``; empty if nothing is.
    """
    try:
        actual = sha256(folder / name)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    recorded = expected.get(name) if isinstance(expected, Mapping) else None
    return "is damaged (its sha256 is not the recorded one)" if recorded not in (None, actual) else ""
