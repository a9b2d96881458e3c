"""Edges that a user names: a CSV of regulators and targets, with signs where they are known."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from perturbrl.errors import UserError
from perturbrl.landscape.infer.inference import ListedEdge

# Names of the columns in DoRothEA, BEELINE and common edge lists; case is ignored.
REGULATOR = ("regulator", "tf", "source", "gene1", "from")
TARGET = ("target", "gene2", "to")
SIGN = ("sign", "mor", "type", "effect", "weight")
SIGNS = {
    **dict.fromkeys(("+", "activation", "activates", "activator", "positive"), 1),
    **dict.fromkeys(("-", "repression", "represses", "repressor", "inhibition", "inhibits", "negative"), -1),
    **dict.fromkeys(("", "?", "unknown"), 0),
}


def read_edges(path: Path) -> tuple[ListedEdge, ...]:
    """Return the edges of a CSV file with a header: regulator, target, and +1, -1 or 0 where there is no sign.

    The columns have one of the names ``REGULATOR``, ``TARGET`` and ``SIGN``; without a column of signs all are 0. A
    sign is a word of ``SIGNS`` or a number.

    Raises
    ------
    UserError
        The file cannot be read, has no such columns or no rows, a name is missing, or a sign is none.
    """
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read as CSV: {reason}") from None
    regulator, target = (_column(path, rows, names) for names in (REGULATOR, TARGET))
    by_lower = {str(c).lower(): c for c in rows}
    sign = next((by_lower[name] for name in SIGN if name in by_lower), None)
    if rows.empty:
        raise UserError(f"{path}: has a header and no edges")
    edges = []
    for k, (r, t) in enumerate(zip(rows[regulator].str.strip(), rows[target].str.strip(), strict=True), start=2):
        if not r or not t:
            raise UserError(f"{path}, line {k}: an edge needs a {regulator} and a {target}")
        edges.append((r, t, 0 if sign is None else _sign(rows[sign].iloc[k - 2], f"{path}, line {k}")))
    return tuple(edges)


def _column(path: Path, rows: pd.DataFrame, names: tuple[str, ...]) -> str:
    by_lower = {str(c).lower(): str(c) for c in rows}
    column = next((by_lower[name] for name in names if name in by_lower), None)
    if column is None:
        raise UserError(f"{path}: no column is called {' or '.join(names)}; columns are {', '.join(map(str, rows))}")
    return column


def _sign(text: str, where: str) -> int:
    word = text.strip().lower()
    if word in SIGNS:
        return SIGNS[word]
    try:
        number = float(word)
    except ValueError:
        raise UserError(f"{where}: {text!r} is no sign; use +, -, a number, or nothing") from None
    return int(number > 0) - int(number < 0)
