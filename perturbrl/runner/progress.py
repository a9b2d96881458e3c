"""Progress of long work: a live display on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from queue import Queue

    from torch import Tensor

    Relay = Queue[tuple[str, int, int, float, str] | None]

Tick = Callable[[int, "dict[str, Tensor]"], None]
SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """How progress is shown: ``rich``, ``plain``, ``quiet``, or ``auto`` (rich on a terminal, else plain).

    With a ``relay`` nothing is printed: updates go to another process, which draws them with ``display``.
    """

    def __init__(self, mode: str, relay: Relay | None = None) -> None:
        if mode == "auto":
            mode = "rich" if sys.stderr.isatty() else "plain"
        self.mode, self.relay = mode, relay

    def say(self, text: str) -> None:
        """Print a line on stderr, unless quiet."""
        if self.mode != "quiet" and self.relay is None:
            print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def task(self, label: str, n_runs: int, total: int, steps: int, start: int) -> Iterator[Tick]:
        """Show a training loop of ``total`` iterations of ``steps`` environment steps in ``n_runs`` runs.

        Yields a function to call after each iteration, with the number done and what was logged.
        """
        label = f"{label}, {n_runs} runs" if n_runs > 1 else f"{label}, 1 run"
        if self.relay is not None:
            relay = self.relay
            yield _timed(lambda *shown: relay.put((label, total, *shown)), n_runs, steps, start)
        elif self.mode == "rich":
            with _bars() as update:
                yield _timed(lambda *shown: update(label, total, *shown), n_runs, steps, start)
        elif self.mode == "plain":
            yield _timed(_PlainLines(label, total, steps).show, n_runs, steps, start)
        else:
            yield lambda done, metrics: None


@contextlib.contextmanager
def display(relay: Relay) -> Iterator[None]:
    """Draw a bar for each training loop that other processes report through ``relay``."""

    def listen() -> None:
        with _bars() as update:
            while (shown := relay.get()) is not None:
                update(*shown)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        relay.put(None)
        listener.join()


Show = Callable[[int, float, str], None]


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
def _bars() -> Iterator[Callable[[str, int, int, float, str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[metrics]}"),
    )
    known: dict[str, TaskID] = {}
    with Bars(*columns, console=Console(stderr=True)) as bars:

        def update(label: str, total: int, done: int, rate: float, text: str) -> None:
            if label not in known:
                known[label] = bars.add_task(label, total=total, completed=done - 1, rate="", metrics="")
            bars.update(known[label], completed=done, rate=f"{rate:,.0f} steps/s", metrics=text)

        yield update


class _PlainLines:
    def __init__(self, label: str, total: int, steps: int) -> None:
        self.label, self.total, self.steps = label, total, steps
        self.last = time.monotonic()

    def show(self, done: int, rate: float, text: str) -> None:
        now = time.monotonic()
        if done < self.total and now - self.last < SECONDS_BETWEEN_LINES:
            return
        self.last = now
        steps, all_steps = done * self.steps, self.total * self.steps
        print(
            f"{self.label}: {steps:,} of {all_steps:,} steps, {rate:,.0f} steps/s, {text}", file=sys.stderr, flush=True
        )
