"""Panels in inches. Margins are stated: laying a figure out by measuring it costs more than drawing it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

LETTER = 0.088  # inches of a letter of the legend's font, an upper bound of its mean
KEY = 0.75  # inches of a legend's line sample and the gaps around it
LONGEST = 48  # letters of a label in a figure
LINE = 0.26  # inches of a line of a legend
TITLE, X_LABELS, RIGHT = 0.36, 0.58, 0.2
TICK_GAP = 0.12  # between two ticks, as a part of the axis: seven letters of a panel of 4.9 inches
LEAST_RANGE = 0.1  # of a y axis, as a part of the largest value
Y_LABEL = 0.5  # inches from an axis to the bottom of its y label


@dataclass(frozen=True)
class Drawn:
    """A figure that is not yet on disk, its heading and its caption."""

    figure: Figure
    title: str
    caption: str


def panels(
    rows: int,
    columns: int,
    size: tuple[float, float],
    handles: Sequence[Line2D],
    *,
    left: float,
    margin: float = 0.0,
    share: bool = False,
    beside: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes, row by row, with a legend of ``handles`` below or ``beside`` them.

    ``size`` is that of one panel's axes and ``left`` the room for its y labels, in inches, ``margin`` more of it at
    the left of all; ``share`` shares the x axis of each column and labels it at the bottom alone.
    """
    from matplotlib.figure import Figure

    _shorten(handles)
    longest = max((len(str(h.get_label())) for h in handles), default=0) * LETTER + KEY
    wide = margin + columns * (size[0] + left) + RIGHT + (longest if beside else 0.0)
    if handles and not beside:
        wide = max(wide, longest + RIGHT)  # one narrow panel under a long name
    per_line = max(1, min(len(handles), int(wide / longest))) if handles else 1
    low = 0.0 if beside else LINE * math.ceil(len(handles) / per_line) + 0.1
    below = TITLE + (0.3 if share else X_LABELS)  # between two rows
    high = TITLE + rows * size[1] + (rows - 1) * below + X_LABELS + low
    figure = Figure(figsize=(wide, high))
    right = RIGHT + (longest if beside else 0.0)
    grid = figure.add_gridspec(
        rows,
        columns,
        left=(margin + left) / wide,
        right=1 - right / wide,
        top=1 - TITLE / high,
        bottom=(X_LABELS + low) / high,
        wspace=left / size[0],
        hspace=below / size[1],
    )
    axes = list(grid.subplots(sharex="col" if share else False, squeeze=False).flat)
    if handles and beside:
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1 - longest / wide, 1 - TITLE / high)}
    else:
        place = {"loc": "lower center", "ncols": per_line, "handlelength": 3}
    if handles:
        figure.legend(handles=handles, **place)
    return figure, axes


def tiles(
    n: int, columns: int, size: tuple[float, float], handles: Sequence[Line2D], **more: Any
) -> tuple[Figure, list[tuple[Axes, bool, bool]]]:
    """Return ``n`` panels in rows of ``columns``, and whether each is leftmost and lowest."""
    columns = min(columns, n)
    figure, axes = panels(-(-n // columns), columns, size, handles, **more)
    for ax in axes[n:]:
        ax.set_axis_off()
    return figure, [(ax, k % columns == 0, k >= n - columns) for k, ax in enumerate(axes[:n])]


def key(label: str, **look: Any) -> Line2D:
    """Return an entry of a legend."""
    from matplotlib.lines import Line2D as Line

    return Line([], [], label=label, **look)


def short(label: str) -> str:
    """Cut the middle of a label that would push the panels off the page; tables have it whole."""
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 16]}…{label[-15:]}"


def _shorten(handles: Sequence[Line2D]) -> None:
    """Shorten the labels of a legend; those that the cut makes alike get numbers."""
    labels = [short(str(handle.get_label())) for handle in handles]
    for k, (handle, label) in enumerate(zip(handles, labels, strict=True)):
        handle.set_label(f"{label} ({labels[: k + 1].count(label)})" if labels.count(label) > 1 else label)


def name(ax: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """Write a panel's title and axis labels at stated places."""
    if title:
        ax.set_title(title, y=1.0)
    if x:
        ax.set_xlabel(x)
    if y:
        wide = ax.get_position().width * ax.figure.get_figure(root=True).get_figwidth()
        ax.set_ylabel(y)
        ax.yaxis.set_label_coords(-Y_LABEL / wide, 0.5)


def steps_axis(ax: Axes, log: bool) -> None:
    """Spell environment steps on the x axis as 250k and 1M; ``log`` where budgets differ much."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    if log:
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _steps(x)))


def plain_log_axis(ax: Axes) -> None:
    """Make the x axis logarithmic, its ticks plain numbers. To be called when everything is drawn."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 15 * low else (1, 1.5, 2, 3, 5, 7)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def ticks_at(ax: Axes, values: Sequence[float], log: bool) -> None:
    """Put the ticks of the x axis at these values, leaving out those whose labels would overlap."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    scale = math.log if log else float
    ax.set_xscale("log" if log else "linear")
    low, high = (scale(x) for x in ax.get_xlim())
    places: list[float] = []
    for x in sorted(set(values)):
        if not places or scale(x) - scale(places[-1]) >= TICK_GAP * (high - low):
            places.append(x)
    ax.xaxis.set_major_locator(FixedLocator(places))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def widen(ax: Axes) -> None:
    """Widen the y axis where all values are nearly the same: ticks of so small steps have no room."""
    low, high = ax.get_ylim()
    size = max(abs(low), abs(high))
    if high - low < LEAST_RANGE * size:
        middle = (low + high) / 2
        ax.set_ylim(middle - LEAST_RANGE * size / 2, middle + LEAST_RANGE * size / 2)


def _steps(x: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(x) >= size:
            return f"{x / size:g}{unit}"
    return f"{x:g}"
