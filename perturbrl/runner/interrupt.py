"""Stop when asked: a first Ctrl-C (SIGINT, SIGTERM, SIGHUP) is noted, so that training can save; a second one kills.

Worker processes are asked by a file that appears, not by signals: a terminal sends Ctrl-C to all of them at once, also
to those that are still importing.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NOTICE = "stopping: what is computed is being saved (Ctrl-C again stops at once, without)"
GO_ON = "what was computed is saved; the same command goes on from there"


class Interrupted(KeyboardInterrupt):
    """Work was stopped by signal ``number``; ``message`` says what is saved and how to go on."""

    def __init__(self, message: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(message, number)
        self.message, self.number = message, number


@dataclass
class _State:
    """``number`` is the signal that has come; ``request`` a file whose appearance asks this process to stop."""

    active: bool = False
    worker: bool = False
    number: int | None = None
    request: Path | None = None


_state = _State()


def stop_requested() -> bool:
    """Return whether to save and stop."""
    if _state.number is not None or (_state.request is not None and _state.request.exists()):
        return True
    parent = multiprocessing.parent_process() if _state.worker else None
    return parent is not None and not parent.is_alive()  # killed: no process waits for the results of this worker


def stop(message: str) -> Interrupted:
    """Return the exception with which work that was asked to stop ends."""
    return Interrupted(message, _state.number or signal.SIGINT)


@contextlib.contextmanager
def deferred(quiet: bool = False, request: Path | None = None) -> Iterator[None]:
    """Record a signal during the body instead of ending at once; raise at the end if the body did not react to it.

    The first signal makes the file ``request``. Within another ``deferred``, and in other threads than the main one,
    this does nothing. Signals that the process ignores stay ignored.
    """
    if _state.active or threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        _state.number = number
        if request is not None:
            request.touch()
        if _state.worker:
            return  # where workers are ended one by one the signal may come twice
        for each in before:
            signal.signal(each, _kill if multiprocessing.active_children() else signal.SIG_DFL)
        if not quiet and _state.request is None:  # else the parent prints it
            with contextlib.suppress(OSError):
                os.write(2, f"\n{NOTICE}\n".encode())  # print may not be entered twice

    handlers = {each: signal.getsignal(each) for each in SIGNALS}
    before = {each: handler for each, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
    _state.active = True
    try:
        for each in before:
            signal.signal(each, note)
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        number, _state.number, _state.active = _state.number, None, False
    if number is not None:
        raise Interrupted(GO_ON, number)


def _kill(number: int, frame: FrameType | None) -> None:
    for child in multiprocessing.active_children():
        child.kill()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@contextlib.contextmanager
def ends_with_code(number: int = signal.SIGTERM) -> Iterator[None]:
    """Let a signal that would kill the process raise ``Interrupted`` in the body, so that it ends in good order."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(number) != signal.SIG_DFL:
        yield
        return

    def raise_(number: int, frame: FrameType | None) -> None:
        raise Interrupted("", number)

    signal.signal(number, raise_)
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def explained(message: str) -> Iterator[None]:
    """Say with ``message`` how to go on where the body is interrupted."""
    try:
        yield
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Interrupted) else signal.SIGINT
        raise Interrupted(message, number) from None


@contextlib.contextmanager
def request_file() -> Iterator[Path]:
    """Yield the name of a file that does not exist yet, by which workers of this machine can be asked to stop."""
    with tempfile.TemporaryDirectory(prefix="perturbrl-", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "stop"


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Start processes that no Ctrl-C reaches before they are ready for it: they inherit the mask of this thread."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_worker() -> None:
    """Make this process a worker: what the terminal sends is left to its parent, who asks by ``follow``."""
    _state.worker = True
    for each in (signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def follow(request: Path | None) -> None:
    """Stop when the file ``request`` appears."""
    _state.request = request


def leave_worker() -> None:
    """End a worker that got a signal itself or has lost its parent; its finished iterations are saved."""
    if _state.worker and not (_state.request is not None and _state.request.exists()):
        os._exit(128 + signal.SIGTERM)
