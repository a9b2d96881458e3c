"""How figures look: a palette that colour-blind readers can tell apart, and what a dark page turns it into."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perturbrl.files import replacing, write_text
from perturbrl.report.published import AGENTS

if TYPE_CHECKING:
    from perturbrl.report.layout import Drawn

INK, MUTED, GRID, PAPER = "#1c2127", "#5f6b76", "#e3e7eb", "#fefefe"
# Okabe & Ito (2008), without yellow and black; each also has its own dash and marker
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
DASHES: tuple[Any, ...] = (
    *("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (4, 1.2, 1, 1.2))),
    *((0, (9, 2.5)), (0, (3, 1, 1, 1, 1, 1))),
)
_FIRST_DASH = (0, 1, 0, 2, 3, 0)
MARKERS = ("o", "s", "D", "^", "v", "P")

# the page defines these custom properties for its light and its dark face
VARIABLES = {
    **{INK: "--ink", MUTED: "--muted", GRID: "--line", PAPER: "--card"},
    **{color: f"--c{k}" for k, color in enumerate(PALETTE)},
}

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "svg.fonttype": "path",
    "axes.unicode_minus": True,
}


@dataclass(frozen=True)
class Picture:
    """A figure on disk, and as SVG that a page can hold."""

    title: str
    caption: str
    png: Path
    svg: Path
    inline: str


def styles(agents: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return colour, dash and marker for each (agent, label): fixed for the paper's three, in turn for others."""
    taken: list[int] = []
    for agent, label in agents:
        fixed = AGENTS.index(agent) if agent == label and agent in AGENTS else None
        if fixed is None:
            free = [k for k in range(len(AGENTS), 10_000) if k not in taken]
            fixed = free[0]
        taken.append(fixed)
    return [_look(k) for k in taken]


def _look(k: int) -> dict[str, Any]:
    # beyond the palette the colours come round again with the next dash, so that no two lines look the same
    turn, color = divmod(k, len(PALETTE))
    dash = DASHES[(_FIRST_DASH[color] + turn) % len(DASHES)]
    return {"color": PALETTE[color], "dash": dash, "marker": MARKERS[(color + turn) % len(MARKERS)]}


def draw(makers: Mapping[str, Callable[[], Drawn | None]], stem: Path) -> list[Picture]:
    """Make the figures that have data and save each as ``<stem>-<name>``."""
    import matplotlib as mpl

    with mpl.rc_context(RC):
        drawn = ((name, make()) for name, make in makers.items())
        return [save(figure, stem.with_name(f"{stem.name}-{name}")) for name, figure in drawn if figure is not None]


def save(drawn: Drawn, stem: Path) -> Picture:
    """Write ``stem``.png and ``stem``.svg, the same bytes for the same data."""
    import matplotlib as mpl

    png, svg = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.svg")
    with replacing(png) as temporary:
        drawn.figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "perturbrl"}):
        drawn.figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    write_text(svg, text)
    return Picture(drawn.title, drawn.caption, png, svg, inline(text, re.sub(r"\W", "", stem.name)))


def inline(svg: str, prefix: str, variables: Mapping[str, str] = VARIABLES) -> str:
    """Strip the XML head, make ids unique within a page, and let the page's light or dark face choose the colours."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r"url\(#", f"url(#{prefix}-", body)
    body = re.sub(r'href="#', f'href="#{prefix}-', body)
    for color, variable in variables.items():
        body = re.sub(re.escape(color), f"var({variable})", body, flags=re.IGNORECASE)
    for size in ("width", "height"):  # the page decides; the viewBox keeps the proportions
        body = re.sub(rf'(<svg[^>]*?) {size}="[^"]*"', r"\1", body, count=1)
    return body
