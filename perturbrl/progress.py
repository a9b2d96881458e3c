"""Progress of long work: a live display on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Tick = Callable[[int, "dict[str, Tensor]"], None]
SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """How progress is shown: ``rich``, ``plain``, ``quiet``, or ``auto`` (rich on a terminal, else plain)."""

    def __init__(self, mode: str) -> None:
        if mode == "auto":
            mode = "rich" if sys.stderr.isatty() else "plain"
        self.mode = mode

    def say(self, text: str) -> None:
        """Print a line on stderr, unless quiet."""
        if self.mode != "quiet":
            print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def task(self, label: str, n_runs: int, total: int, steps: int, start: int) -> Iterator[Tick]:
        """Show a training loop of ``total`` iterations of ``steps`` environment steps in ``n_runs`` runs.

        Yields a function to call after each iteration, with the number done and what was logged.
        """
        seeds = f"{n_runs} runs" if n_runs > 1 else "1 run"
        if self.mode == "rich":
            with _rich(f"{label}, {seeds}", total, start) as show:
                yield _timed(show, n_runs, steps, start)
        elif self.mode == "plain":
            lines = _PlainLines(f"{label}, {seeds}", total, steps)
            yield _timed(lines.show, n_runs, steps, start)
        else:
            yield lambda done, metrics: None


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
def _rich(label: str, total: int, start: int) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[metrics]}"),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, completed=start, rate="", metrics="")
        yield lambda done, rate, text: bar.update(task, completed=done, rate=f"{rate:,.0f} steps/s", metrics=text)


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
