"""Progress of long work: a live display on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from perturbrl import status

if TYPE_CHECKING:
    from queue import Queue

    from torch import Tensor

    Relay = Queue[tuple[str, tuple[Any, ...]] | None]  # say, notice or loop, and what to call it with

Tick = Callable[[int, "dict[str, Tensor]"], None]
Update = Callable[[str, int, int, int, float, str], None]  # label, iterations in all, steps in each, and a Show's
SECONDS_BETWEEN_LINES = 10.0  # of one training loop
SECONDS_AMONG_MANY = 60.0  # of each loop, where every run also has a line when it starts and when it ends


class Progress:
    """How progress is shown: ``rich``, ``plain``, ``quiet``, or ``auto`` (rich on a terminal, else plain).

    One object serves all runs of a command: a notice that holds for many is printed once. With a ``relay`` nothing is
    printed: everything goes to another process, which shows it with ``display``.
    """

    def __init__(self, mode: str, relay: Relay | None = None, every: float = SECONDS_BETWEEN_LINES) -> None:
        self.mode, self.relay, self.every = status.resolve(mode), relay, every
        self._notices: set[str] = set()
        status.show(self.mode, None if relay is None else self.say)

    def say(self, text: str) -> None:
        """Print a line on stderr, unless quiet."""
        if self.relay is not None:
            self._send("say", text)
        elif self.mode != "quiet":
            print(text, file=sys.stderr, flush=True)

    def notice(self, text: str) -> None:
        """Print a line that many runs share, the first time only."""
        if self.relay is not None:
            self._send("notice", text)
        elif text not in self._notices:
            self._notices.add(text)
            self.say(text)

    def _send(self, kind: str, *arguments: Any) -> None:
        assert self.relay is not None
        with contextlib.suppress(OSError, EOFError):  # nobody reads it any more; training goes on
            self.relay.put((kind, arguments))

    @contextlib.contextmanager
    def task(self, label: str, n_runs: int, total: int, steps: int, start: int) -> Iterator[Tick]:
        """Show a training loop of ``total`` iterations of ``steps`` environment steps in ``n_runs`` runs.

        Yields a function to call after each iteration, with the number done and what was logged.
        """
        label = f"{label}, {n_runs} runs" if n_runs > 1 else f"{label}, 1 run"
        if self.relay is not None:
            self._send("loop", label, total, steps, start, 0.0, "")
            with status.hidden():
                yield _timed(lambda *shown: self._send("loop", label, total, steps, *shown), n_runs, steps, start)
        elif self.mode == "quiet":
            yield lambda done, metrics: None
        else:
            with self.loops() as update, status.step(f"{label}: training") as step:
                yield _timed(lambda *shown: update(label, total, steps, *shown), n_runs, steps, start)
                step.announced = False  # the last line of the loop says that it is done

    @contextlib.contextmanager
    def loops(self) -> Iterator[Update]:
        """Show training loops: yields a function to call with what one of them has done."""
        if self.mode == "rich":
            with status.hidden(), _bars() as update:
                yield update
        else:
            yield _PlainLines(self.every).show


@contextlib.contextmanager
def display(relay: Relay, progress: Progress) -> Iterator[None]:
    """Show with ``progress`` what other processes report through ``relay``."""

    def listen() -> None:
        with progress.loops() as update:
            show: dict[str, Callable[..., None]] = {"say": progress.say, "notice": progress.notice, "loop": update}
            while (message := relay.get()) is not None:
                kind, arguments = message
                show[kind](*arguments)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        relay.put(None)
        listener.join()


Show = Callable[[int, float, str], None]  # iterations done, steps a second, what was logged


def _timed(show: Show, n_runs: int, steps: int, start: int) -> Tick:
    began = time.monotonic()

    def tick(done: int, metrics: dict[str, Tensor]) -> None:
        rate = (done - start) * steps * n_runs / max(time.monotonic() - began, 1e-9)
        show(done, rate, _summary(metrics))

    return tick


def _summary(metrics: dict[str, Tensor]) -> str:
    parts: list[str] = []
    for name, short in (("return_mean", "return"), ("kl", "KL"), ("approx_kl", "KL")):
        if name in metrics and not any(p.startswith(short) for p in parts):
            value = metrics[name].float().nanmean().item()
            if value == value:
                parts.append(f"{short} {value:.3g}")
    return ", ".join(parts)


@contextlib.contextmanager
def _bars() -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[metrics]}"),
    )
    known: dict[str, TaskID] = {}
    with Bars(*columns, console=Console(stderr=True)) as bars:

        def update(label: str, total: int, steps: int, done: int, rate: float, text: str) -> None:
            if label not in known:
                known[label] = bars.add_task(label, total=total, completed=done, rate="", metrics="")
            bars.update(known[label], completed=done, rate=f"{rate:,.0f} steps/s" if rate else "", metrics=text)

        yield update


class _PlainLines:
    """A line for each loop every so many seconds, and one at its end where lines are not rare."""

    def __init__(self, every: float) -> None:
        self.every = every
        self.last: dict[str, float] = {}

    def show(self, label: str, total: int, steps: int, done: int, rate: float, text: str) -> None:
        now = time.monotonic()
        last = done == total and self.every <= SECONDS_BETWEEN_LINES
        if not last and now - self.last.setdefault(label, now) < self.every:
            return
        self.last[label] = now
        status.spoken()
        print(
            f"{label}: {done * steps:,} of {total * steps:,} steps, {rate:,.0f} steps/s, {text}",
            file=sys.stderr,
            flush=True,
        )
