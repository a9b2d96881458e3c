"""The paper's agents and its numbers: Tables I-III in full precision, and the authors' later run with equal budgets."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from perturbrl.metrics_info import PAPER

AGENTS = ("ppo", "trpo", "trpo_ppo")
PROPOSED = "trpo_ppo"
TABLE_NUMBER = {"joint": "I", "rna": "II", "atac": "III"}
LATER = "later"
STUDY = ("landscape", "pbmc10k_multiome")  # choices of source=: what stands for the study's data, and the data


def asked_for(run: Mapping[str, Any]) -> bool:
    """Say whether published numbers may stand beside a run, by its ``run.json``.

    They may where the comparison was asked for (``compare_published``; ``perturbrl reproduce`` does), and beside runs
    on the study's data, or on the landscape. Not beside runs on other cells, whatever their file is called.
    """
    if run.get("compare_published"):
        return True
    source = run.get("source_choice", run.get("source"))  # versions without the choice have the name of the cells
    return source in STUDY


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
