"""The published numbers (Tables I-III, full precision) and the authors' later run with equal budgets."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

from perturbrl.report.names import METRICS

LATER = "later"


@cache
def _rows() -> tuple[tuple[str, str, str, str, float], ...]:
    text = files("perturbrl.report").joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(
        (r["table"], r["data"], r["agent"], r["metric"], float(r["value"])) for r in csv.DictReader(text.splitlines())
    )


def values(data: str, agent: str, later: bool = False) -> dict[str, float]:
    """Return metric -> published value of one agent on one kind of data; empty where nothing was published."""
    return {m: v for t, d, a, m, v in _rows() if (d, a, t == LATER) == (data, agent, later) and m in METRICS}


def steps(data: str, agent: str) -> int | None:
    """Return the environment steps at which an agent's published run stopped; ``None`` where none was published."""
    found = [int(v) for t, d, a, m, v in _rows() if (d, a, m) == (data, agent, "steps") and t != LATER]
    return found[0] if found else None
