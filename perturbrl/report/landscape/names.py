"""Attractors on a picture: a dot, a stem and a name that lies on no other name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from perturbrl.report.landscape.theme import Theme

STEM = 14.0
"""Points between a dot and its name."""


@dataclass(frozen=True)
class Pin:
    """A named dot at (``x``, ``y``) of the axes; its name stands above, or ``down`` below; faint if ``hidden``."""

    x: float
    y: float
    name: str
    color: str
    down: bool
    hidden: bool = False


def pins(axes: Any, items: Sequence[Pin], theme: Theme) -> None:
    """Draw the pins, the highest first; a name that would lie on another moves on along its stem.

    The axes must have their final place in the figure.
    """
    from matplotlib import patheffects
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(axes.figure).get_renderer()  # type: ignore[no-untyped-call]
    halo = [patheffects.withStroke(linewidth=3.5, foreground=theme.ground)]
    drawn: list[Any] = []
    for pin in sorted(items, key=lambda pin: -pin.y):
        way, alpha = -1 if pin.down else 1, 0.5 if pin.hidden else 1.0
        for k in range(10):
            text = axes.annotate(
                pin.name, (pin.x, pin.y), (0, way * STEM * (1 + 0.8 * k)), textcoords="offset points", zorder=6,
                ha="center", va="top" if pin.down else "bottom", fontsize=12, weight="bold", color=theme.ink,
                path_effects=halo, annotation_clip=False, alpha=alpha,
                arrowprops={"arrowstyle": "-", "color": theme.ink, "lw": 1, "alpha": alpha, "shrinkA": 0, "shrinkB": 3},
            )  # fmt: skip
            box = _box(text, renderer)
            if not any(box.overlaps(other) for other in drawn):
                break
            if k < 9:
                text.remove()
        drawn.append(box)
        axes.plot(pin.x, pin.y, marker="o", ms=9.5, color=pin.color, mec=theme.halo, mew=1.5, ls="", zorder=7,
                  alpha=alpha, clip_on=False)  # fmt: skip


def _box(text: Any, renderer: Any) -> Any:
    """Return the place of the words alone, without the stem."""
    from matplotlib.text import Text

    text.update_positions(renderer)
    return Text.get_window_extent(text, renderer).expanded(1.02, 1.1)
