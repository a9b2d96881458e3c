"""From exceptions to one line on stderr and an exit code: 0 done, 1 failed, 2 a user's mistake, 130 interrupted."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perturbrl import paths
from perturbrl.errors import UserError

FAILED = 1
MISTAKE = 2
INTERRUPTED = 130


def fail(message: str, code: int = MISTAKE) -> SystemExit:
    """Print ``message`` on stderr and return the ``SystemExit`` to raise."""
    print(message, file=sys.stderr, flush=True)
    return SystemExit(code)


def describe(error: BaseException) -> str:
    """Say in one line what ``error`` is: the message alone where a user can mend it, else with type and log file."""
    if isinstance(error, UserError):
        return f"error: {error}"
    words = " ".join(str(error).split())
    return f"internal error: {type(error).__name__}: {words} (traceback in {write_traceback(error)})"


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
    try:
        yield
    except KeyboardInterrupt:
        raise fail("interrupted", INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of a pipe has gone (`perturbrl ... | head`); Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAILED) from None
    except Exception as error:
        if debugging():
            traceback.print_exception(error)
        raise fail(describe(error), MISTAKE if isinstance(error, UserError) else FAILED) from None
