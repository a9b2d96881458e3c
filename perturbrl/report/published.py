"""The paper's agents and its numbers: Tables I-III in full precision, and the authors' later run with equal budgets."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

from perturbrl.metrics_info import PAPER

AGENTS = ("ppo", "trpo", "trpo_ppo")
PROPOSED = "trpo_ppo"
TABLE_NUMBER = {"joint": "I", "rna": "II", "atac": "III"}
LATER = "later"


@cache
def _rows() -> tuple[tuple[str, str, str, str, float], ...]:
    text = files("perturbrl.report").joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(
        (r["table"], r["data"], r["agent"], r["metric"], float(r["value"])) for r in csv.DictReader(text.splitlines())
    )


def values(data: str, agent: str, later: bool = False) -> dict[str, float]:
    """Return metric -> published value of one agent on one kind of data; empty where nothing was published."""
    return {m: v for t, d, a, m, v in _rows() if (d, a, t == LATER) == (data, agent, later) and m in PAPER}


def steps(data: str, agent: str) -> int | None:
    """Return the environment steps at which an agent's published run stopped; ``None`` where none was published."""
    return next((int(v) for t, d, a, m, v in _rows() if (d, a, m) == (data, agent, "steps") and t != LATER), None)
