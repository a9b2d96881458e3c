"""How numbers and names are spelled in tables, files and LaTeX."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable

MINUS, DASH, NBSP = "\N{MINUS SIGN}", "\N{EN DASH}", "\N{NO-BREAK SPACE}"
LONGEST_SLUG = 120  # letters; file systems take names of 255 bytes
_TEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{c: f"${c}$" for c in "|<>"},
    **{"·": r"$\cdot$", "²": "$^2$", "±": r"$\pm$", DASH: "--", "—": "---", MINUS: "$-$"},
    **{NBSP: "~", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "Δ": r"$\Delta$"},
}


def spell(value: float, digits: int = 3, *, signed: bool = False, group: str = "") -> str:
    """Return a number with so many decimals and ``group`` between thousands; a dash where there is none."""
    if not math.isfinite(value):
        return DASH
    rounded = round(value, digits) + 0.0  # -0.0 becomes 0.0
    return f"{rounded:{'+' if signed and rounded else ''}{group}.{digits}f}".replace("-", MINUS)


def slug(parts: Iterable[str]) -> str:
    """Join the parts to a name for files and anchors; a long one is cut, and a digest keeps it unlike any other."""
    text = re.sub(r"[^A-Za-z0-9.=+-]+", "_", "_".join(part for part in parts if part))
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return text if len(text) <= LONGEST_SLUG else f"{text[:LONGEST_SLUG]}-{digest}"


def natural(text: str) -> tuple[tuple[float, str], ...]:
    """Sort key that puts ``max_perturb=10`` after ``max_perturb=9``."""
    return tuple((float(p), "") if p.isdigit() else (-1.0, p) for p in re.split(r"(\d+)", text))


def escape_tex(text: str) -> str:
    """Return ``text`` as ASCII that LaTeX prints as it is."""
    return "".join(_TEX.get(c, c) for c in text)
