"""From exceptions to one line on stderr and an exit code: 0 done, 1 failed, 2 a user's mistake, 128 + n by signal n."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perturbrl import paths, status
from perturbrl.errors import UserError
from perturbrl.runner import interrupt

FAILED = 1
MISTAKE = 2
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def fail(message: str, code: int = MISTAKE) -> SystemExit:
    """Print ``message`` on stderr and return the ``SystemExit`` to raise."""
    print(message, file=sys.stderr, flush=True)
    return SystemExit(code)


def describe(error: BaseException) -> str:
    """Describe an error in one line: the message of a user's mistake, or type, message and log file of any other."""
    if isinstance(error, UserError):
        return f"error: {error}"
    if no_room(error):
        assert isinstance(error, OSError)
        where = f"{error.filename}: " if error.filename else ""
        return f"error: {where}cannot be written ({error.strerror}); free some space and give the same command again"
    words = " ".join(str(error).split())
    return f"internal error: {type(error).__name__}: {words} (traceback in {write_traceback(error)})"


def no_room(error: BaseException) -> bool:
    """Return whether a file could not be written because a disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in NO_ROOM


def write_traceback(error: BaseException) -> Path:
    """Write the traceback of ``error`` below the cache folder, or in a temporary folder where that is read-only."""
    text = "".join(traceback.format_exception(error))
    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for folder in (paths.cache_dir() / "logs", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError:
            continue
        return folder / name
    return Path("nowhere: no folder is writable")


def debugging() -> bool:
    """Return whether ``PERTURBRL_DEBUG=1`` asks for tracebacks on the console."""
    return os.environ.get("PERTURBRL_DEBUG") == "1"


@contextmanager
def guarded() -> Iterator[None]:
    """Turn whatever the body raises into one line and an exit code; warnings take one line too."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    status.show("auto")
    try:
        with interrupt.ends_with_code(signal.SIGTERM):
            yield
    except KeyboardInterrupt as error:
        stopped = error if isinstance(error, interrupt.Interrupted) else interrupt.Interrupted()
        words = f"interrupted: {stopped.message}" if stopped.message else "interrupted"
        raise fail(words, 128 + stopped.number) from None
    except BrokenPipeError:
        # The reader of a pipe has gone (`perturbrl ... | head`); Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAILED) from None
    except Exception as error:
        if debugging():
            traceback.print_exception(error)
        raise fail(describe(error), MISTAKE if isinstance(error, UserError) or no_room(error) else FAILED) from None
