"""Text in LaTeX."""

from __future__ import annotations

from perturbrl.report.names import DASH, MINUS

_TEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{c: f"${c}$" for c in "|<>"},
    **{"·": r"$\cdot$", "²": "$^2$", "±": r"$\pm$", DASH: "--", "—": "---", MINUS: "$-$"},
    **{"\N{NO-BREAK SPACE}": "~", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "Δ": r"$\Delta$"},
}


def escape(text: str) -> str:
    """Return ``text`` as ASCII that LaTeX prints as it is."""
    return "".join(_TEX.get(c, c) for c in text)
