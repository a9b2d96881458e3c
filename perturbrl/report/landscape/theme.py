"""Colours of landscapes on a light and on a dark ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perturbrl.report.style import GRID, INK, MUTED, PALETTE, PAPER


@dataclass(frozen=True)
class Theme:
    """``ground`` of the page, ``ink`` and ``muted`` of text, ``line`` of rules, ``halo`` around paths and names.

    ``ramp``: colours of the surface from the deepest well to the level ground. ``groups``: of the
    fates, in turn. ``sides``: of the block under the surface. ``signs``: of edges that activate and repress.
    """

    name: str
    ground: str
    ink: str
    muted: str
    line: str
    halo: str
    ramp: tuple[str, ...]
    groups: tuple[str, ...]
    sides: tuple[str, str]
    shadow: str
    signs: tuple[str, str]

    def color(self, groups: Sequence[str], group: str) -> str:
        """Return the colour of a fate; the muted one for what belongs to none."""
        return self.groups[groups.index(group) % len(self.groups)] if group in groups else self.muted


LIGHT = Theme(
    "light", PAPER, INK, MUTED, GRID, "#ffffff",
    ("#16395c", "#2a628c", "#4f8db1", "#86b4cb", "#bdd5e0", "#dfe9ef", "#eef3f6"),
    (*PALETTE, "#7a5195", "#8c564b", "#97901f"),
    ("#c9d6de", "#b4c5cf"), "#34506b",
    ("#00664b", "#b0301c"),
)  # fmt: skip
DARK = Theme(
    "dark", "#12161a", "#e8ebee", "#a3adb7", "#333b43", "#0b1014",
    ("#c9eef0", "#84cbd6", "#4a9db4", "#2f708f", "#274d68", "#213546", "#1c2832"),
    ("#56a8e0", "#f0b33a", "#2fc495", "#e39cc2", "#f0824a", "#8fd0f5", "#b79be0", "#c99a86", "#d8cf57"),
    ("#141d25", "#192530"), "#05090d",
    ("#3fd0a4", "#ff8d7a"),
)  # fmt: skip
THEMES = {theme.name: theme for theme in (LIGHT, DARK)}
