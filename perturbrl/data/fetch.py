"""Download a published file to the cache: resumable, checked by sha256, and visible only when complete."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from perturbrl import paths
from perturbrl.errors import UserError, require

_LOG = logging.getLogger(__name__)
# Bytes; an interrupted connection loses at most one block.
_BLOCK = 1 << 14
_TIMEOUT_SECONDS = (10, 60)
# Attempts in a row without new bytes before giving up; if no server has ever answered, only one.
_ATTEMPTS = 4


class Digest:
    """The bound of a sha256."""

    def admit(self, value: str | None, key: str) -> None:
        """Raise ``UserError`` unless ``value`` is 64 hexadecimal digits, or null."""
        valid = value is None or (len(value) == 64 and set(value.lower()) <= set("0123456789abcdef"))
        require(valid, key, f"must be 64 hexadecimal digits, or null, got {value!r}")


class FileName:
    """The bound of a file name in the cache, which must not lead out of it."""

    def admit(self, value: str, key: str) -> None:
        """Raise ``UserError`` unless ``value`` is a name without a folder."""
        valid = value not in ("", ".", "..") and "/" not in value and "\0" not in value
        require(valid, key, f"must be the name of a file, without folders, got {value!r}")


@dataclass(frozen=True)
class Remote:
    """A source whose file is published somewhere; the base of such sources' config schemas."""

    name: str
    path: str | None
    url: str
    sha256: Annotated[str | None, Digest()]
    file_name: Annotated[str, FileName()]


@dataclass(frozen=True)
class LocalFile:
    """A file on disk and the sha256 of its content (None: not computed, the file is the user's own)."""

    path: Path
    sha256: str | None


def cached_file(file_name: str) -> Path:
    """Return the path of a download in the cache; a file copied there by hand is used like a download."""
    return paths.cache_dir() / "downloads" / file_name


def obtain(config: Remote, backoff_seconds: float = 1.0) -> LocalFile:
    """Return the file of a source: ``path`` if it is set, else the cached file, else download it.

    The content must match ``sha256``. With ``sha256: null`` the hash of the first download is written beside the file
    (``<file>.sha256``), and later uses must match it.

    Parameters
    ----------
    config
        The config of the source: path, URL, sha256 and name in the cache.
    backoff_seconds
        Wait after the first failed attempt; it grows linearly with the failures in a row.

    Returns
    -------
    LocalFile
        The path, and its sha256 (None for a file of the user).

    Raises
    ------
    UserError
        ``path`` does not exist, the hash differs, the cache is not writable, or the download fails; the message names
        the URL, the place in the cache and ``path=``.
    """
    if config.path is not None:
        path = Path(config.path).expanduser()
        if not path.exists():
            raise UserError(f"path={path}: no such file or folder; path= must name the file of source={config.name}")
        return LocalFile(path, None)
    target = cached_file(config.file_name)
    try:
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with _locked(target):
                if not target.exists():
                    _download(config, target, backoff_seconds)
        return LocalFile(target, _verified(config, target))
    except OSError as error:
        raise UserError(
            f"source={config.name}: cannot use the cache at {target.parent} ({error.strerror or error}); "
            f"{_advice(target)}"
        ) from None


def _download(config: Remote, target: Path, backoff_seconds: float) -> None:
    import pooch
    import requests

    expected = config.sha256 or _pinned(target)
    _LOG.warning("source=%s: downloading %s to %s", config.name, config.url, target)
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(
            config.url,
            known_hash=f"sha256:{expected}" if expected else None,
            fname=target.name,
            path=target.parent,
            downloader=ResumingDownloader(target.with_name(target.name + ".part"), backoff_seconds),
        )
    except requests.RequestException as error:
        raise UserError(
            f"source={config.name}: cannot download {config.url} ({_reason(error)}); {_advice(target)}"
        ) from None
    except ValueError:
        raise UserError(
            f"source={config.name}: the file at {config.url} does not have the expected sha256 {expected}, so it was "
            f"changed or damaged; {_advice(target)}"
        ) from None


class ResumingDownloader:
    """A downloader for pooch over HTTP(S) that resumes an interrupted download, also of an earlier process.

    The bytes received so far are in ``part``, with the server's ETag beside it. A file that changed meanwhile is
    downloaded again (RFC 9110, sections 13.1.5 and 14). The finished file is moved to the path that pooch checks.
    """

    def __init__(self, part: Path, backoff_seconds: float) -> None:
        self.part = part
        self.tag = part.with_name(part.name + ".etag")
        self.backoff_seconds = backoff_seconds
        self._answered = False

    def __call__(self, url: str, output_file: str | os.PathLike[str], _pooch: Any, check_only: bool = False) -> None:
        """Download ``url`` to ``output_file``; raise ``requests.RequestException`` after failed attempts."""
        import requests

        failures = 0
        while True:
            before = self._size()
            try:
                self._attempt(url)
                break
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
                failures = failures + 1 if self._size() <= before else 0
                if failures >= (_ATTEMPTS if self._answered else 1):
                    raise
                time.sleep(self.backoff_seconds * failures)
        os.replace(self.part, output_file)
        self.tag.unlink(missing_ok=True)

    def _attempt(self, url: str) -> None:
        import requests

        start = self._size()
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if self.tag.exists():
                headers["If-Range"] = self.tag.read_text()
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS) as reply:
            self._answered = True
            if reply.status_code == 416 and start:
                if reply.headers.get("Content-Range") == f"bytes */{start}":
                    return
                self.part.unlink()
                return self._attempt(url)
            reply.raise_for_status()
            resumed = reply.status_code == 206 and reply.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            if start and not resumed:
                start = 0
            tag = reply.headers.get("ETag", "")
            if tag and not tag.startswith("W/"):
                self.tag.write_text(tag)
            else:
                self.tag.unlink(missing_ok=True)
            with self.part.open("ab" if start else "wb") as file:
                for block in reply.iter_content(_BLOCK):
                    file.write(block)
            length = reply.headers.get("Content-Length")
        if length is not None and self._size() != start + int(length):
            raise requests.ConnectionError(f"{self._size()} bytes arrived of {start + int(length)}")

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0


def _verified(config: Remote, target: Path) -> str:
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    expected = config.sha256 or _pinned(target)
    if expected is None:
        with suppress(PermissionError):  # a cache that others share, and only they may write to
            partial = _pin(target).with_suffix(".tmp")
            partial.write_text(digest + "\n")
            os.replace(partial, _pin(target))
    elif expected != digest:
        origin = "its config" if config.sha256 else _pin(target).name
        raise UserError(
            f"{target}: the sha256 is {digest}, but {origin} says {expected}; delete the file to download it again, "
            "or give path=FILE"
        )
    return digest


def _pin(target: Path) -> Path:
    return target.with_name(target.name + ".sha256")


def _pinned(target: Path) -> str | None:
    return _pin(target).read_text().strip() or None if _pin(target).exists() else None


def _advice(target: Path) -> str:
    return f"put the file at {target}, or give path=FILE"


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code} {error.response.reason}"
    return "timed out" if isinstance(error, requests.Timeout) else "no connection, or it was cut"


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Let one process at a time download or check ``target``; the others wait and then use the file."""
    with target.with_name(target.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
