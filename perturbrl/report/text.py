"""How numbers and names are spelled in tables, files and LaTeX."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable

MINUS, DASH, NBSP = "\N{MINUS SIGN}", "\N{EN DASH}", "\N{NO-BREAK SPACE}"
LONGEST_SLUG = 120  # letters; file systems take names of 255 bytes
_TEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{c: f"${c}$" for c in "|<>"},
    **{"·": r"$\cdot$", "²": "$^2$", "±": r"$\pm$", DASH: "--", "—": "---", MINUS: "$-$"},
    **{NBSP: "~", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\to$", "←": r"$\leftarrow$", "Δ": r"$\Delta$"},
    **{"≤": r"$\le$", "≥": r"$\ge$", "\N{MULTIPLICATION SIGN}": r"$\times$", "…": r"\dots{}"},
}
_GREEK_CAPITALS = {"gamma", "delta", "theta", "lambda", "xi", "pi", "sigma", "upsilon", "phi", "psi", "omega"}
_GREEK = _GREEK_CAPITALS | {"alpha", "beta", "epsilon", "zeta", "eta", "iota", "kappa", "mu", "nu", "rho", "tau", "chi"}


def spell(value: float, digits: int = 3, *, signed: bool = False, group: str = "") -> str:
    """Return a number with so many decimals and ``group`` between thousands; a dash where there is none."""
    if not math.isfinite(value):
        return DASH
    rounded = round(value, digits) + 0.0  # -0.0 becomes 0.0
    return f"{rounded:{'+' if signed and rounded else ''}{group}.{digits}f}".replace("-", MINUS)


def count(n: int, what: str) -> str:
    """Return a number of things: ``1 run``, ``2 runs``."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def slug(parts: Iterable[str]) -> str:
    """Join the parts to a name for files and anchors; a long one is cut, and a digest keeps it unlike any other."""
    text = re.sub(r"[^A-Za-z0-9.=+-]+", "_", "_".join(part for part in parts if part))
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return text if len(text) <= LONGEST_SLUG else f"{text[:LONGEST_SLUG]}-{digest}"


def natural(text: str) -> tuple[tuple[float, str], ...]:
    """Sort key that puts ``max_perturb=10`` after ``max_perturb=9``."""
    return tuple((float(p), "") if p.isdigit() else (-1.0, p) for p in re.split(r"(\d+)", text))


def escape_tex(text: str) -> str:
    """Return ``text`` as ASCII that LaTeX prints as it is; letters that it has no command for lose their accents."""
    return "".join(c if c.isascii() and c not in _TEX else _tex_letter(c) for c in text)


def _tex_letter(c: str) -> str:
    if c in _TEX:
        return _TEX[c]
    if greek := re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER (\w+)", unicodedata.name(c, "")):
        letter = greek[2].lower().replace("lamda", "lambda")
        if letter in _GREEK:
            return f"$\\{letter if greek[1] == 'SMALL' or letter not in _GREEK_CAPITALS else letter.title()}$"
    plain = unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode()
    return "".join(_TEX.get(letter, letter) for letter in plain) or "?"
