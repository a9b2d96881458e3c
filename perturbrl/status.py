"""Show the current step of long work: a spinner on a terminal, a few plain lines elsewhere, or nothing.

``with step("reading cells.h5ad"):`` surrounds work that may take long. Short steps are not shown. ``show`` sets how
steps are shown; before it is called, as in a library, they are not.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

SECONDS_UNTIL_LINE = 2.5
SECONDS_UNTIL_SPINNER = 0.5
LONGEST_SILENCE = 60.0
_TICK = 0.1


def resolve(mode: str) -> str:
    """Return ``rich`` or ``plain`` for ``auto``: rich where stderr is a terminal."""
    if mode != "auto":
        return mode
    return "rich" if sys.stderr is not None and sys.stderr.isatty() else "plain"


@dataclass(eq=False)
class Step:
    """A step of work that has not ended."""

    label: str
    start_time: float = field(default_factory=time.monotonic)
    announced: bool = False
    silence: float = field(default_factory=lambda: SECONDS_UNTIL_LINE)  # seconds until its next line
    detail: str = ""

    def at(self, detail: str) -> None:
        """Set the detail that is shown with the label, such as ``condition 3 of 80``."""
        self.detail = f", {detail}"


class _Display:
    """The active steps of this process, the innermost last, and the thread that shows them."""

    def __init__(self, mode: str = "quiet") -> None:
        self.lock = threading.RLock()
        self.mode = mode
        self.write: Callable[[str], None] = _to_stderr
        self.steps: list[Step] = []
        self.hidden = 0
        self.last_line_time = 0.0  # time of the last line
        self.spinner: Any = None
        self.wake = threading.Event()
        self.thread: threading.Thread | None = None
        self.over = False

    def begin(self, step: Step) -> None:
        with self.lock:
            self.steps.append(step)
            if self.mode != "quiet" and self.thread is None:
                self.thread = threading.Thread(target=self._watch, name="perturbrl-status", daemon=True)
                self.thread.start()
                atexit.register(self.close)
        self.wake.set()

    def end(self, step: Step, done: bool) -> None:
        with self.lock:
            self.steps.remove(step)
            if done and step.announced and not self.hidden:
                self._write_line(f"{step.label}: done in {time.monotonic() - step.start_time:.1f} s")
            if not self.steps:
                self.wake.clear()
                self.stop_spinner()

    def close(self) -> None:
        """End the thread: one that lives while the interpreter ends is unwound by force, which may abort in C++."""
        self.over = True
        self.wake.set()
        if self.thread is not None:
            self.thread.join(timeout=10 * _TICK)

    def spoken(self) -> None:
        """Note that something was printed."""
        with self.lock:
            self.last_line_time = time.monotonic()

    def stop_spinner(self) -> None:
        if self.spinner is not None:
            self.spinner.stop()
            self.spinner = None

    def _watch(self) -> None:
        while not self.over:
            self.wake.wait()
            time.sleep(_TICK)
            # a closed terminal must not end the work
            with self.lock, contextlib.suppress(OSError, ValueError):
                if self.steps and not self.hidden and self.mode != "quiet":
                    self._report(self.steps[-1], time.monotonic())

    def _report(self, step: Step, now: float) -> None:
        seconds = now - step.start_time
        if self.mode == "rich":
            if now - self.steps[0].start_time >= SECONDS_UNTIL_SPINNER:
                self._spin(f"{step.label}{step.detail} ({seconds:.0f} s)")
        elif min(seconds, now - self.last_line_time) >= step.silence:
            self._write_line(f"{step.label}{step.detail}{f': {seconds:.0f} s so far' if step.announced else ' ...'}")
            step.announced, step.silence = True, min(LONGEST_SILENCE, 4 * step.silence)

    def _spin(self, text: str) -> None:
        from rich.console import Console
        from rich.errors import LiveError
        from rich.markup import escape

        if self.spinner is None:
            spinner = Console(stderr=True).status(escape(text))
            with contextlib.suppress(LiveError):  # another rich display is active
                spinner.start()
                self.spinner = spinner
        else:
            self.spinner.update(escape(text))

    def _write_line(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.write(text)
        self.last_line_time = time.monotonic()


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


_display = _Display()
if hasattr(os, "register_at_fork"):  # the child has no such thread, and the lock may be held
    os.register_at_fork(after_in_child=lambda: _display.__init__(_display.mode))  # type: ignore[misc]


def show(mode: str, write: Callable[[str], None] | None = None) -> None:
    """Set how the steps of this process are shown.

    Parameters
    ----------
    mode
        ``auto``, ``rich`` (spinner), ``plain`` (lines) or ``quiet``.
    write
        Receives the lines of ``plain`` (default: they go to stderr). With it, ``rich`` means ``plain``: another
        process draws the lines.
    """
    mode = resolve(mode)
    with _display.lock:
        _display.stop_spinner()
        _display.mode = "plain" if mode == "rich" and write is not None else mode
        _display.write = write or _to_stderr


@contextlib.contextmanager
def step(label: str) -> Iterator[Step]:
    """Show ``label`` while the body runs. Steps may be nested: the innermost is shown."""
    this = Step(label)
    _display.begin(this)
    done = False
    try:
        yield this
        done = True
    finally:
        _display.end(this, done)


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """Show no steps while the body runs, because it draws its own display."""
    with _display.lock:
        _display.stop_spinner()
        _display.hidden += 1
    try:
        yield
    finally:
        with _display.lock:
            _display.hidden -= 1


def spoken() -> None:
    """Report that the body of a step has printed a line itself; this delays the next line on the step."""
    _display.spoken()
