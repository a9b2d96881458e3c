"""Names, order and direction of what a table shows."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"

LONGEST_SLUG = 120  # letters; file systems take names of 255 bytes

METRICS = ("accuracy", "precision", "recall", "f1", "auprc", "mse", "rmse", "mae", "r2", "pearson")
EXTRA = ("mean_abs_action", "return_gain")
COLUMNS = (*METRICS, *EXTRA)
LOWER_IS_BETTER = frozenset({"mse", "rmse", "mae"})
PROPOSED = "trpo_ppo"
AGENT_ORDER = ("ppo", "trpo", "trpo_ppo")
DATA_ORDER = ("joint", "rna", "atac", "cite")
TABLE_NUMBER = {"joint": "I", "rna": "II", "atac": "III"}

HEADINGS = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "auprc": "AUPRC",
    "mse": "MSE",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "pearson": "Pearson",
    "mean_abs_action": "Mean |a|",
    "return_gain": "Return gain",
}


def row_order(row: str) -> tuple[int, str]:
    """Sort key of the rows that are no agent: do_nothing, the random ones, best_constant, then the rest."""
    if row == "do_nothing":
        return 0, row
    if row.startswith("random"):
        return 1, row
    return (2, row) if row == "best_constant" else (3, row)


def data_order(data: str) -> int:
    """Place of a kind of data among the tables: joint, rna, atac, cite, then the rest."""
    return DATA_ORDER.index(data) if data in DATA_ORDER else len(DATA_ORDER)


def slug(parts: Iterable[str]) -> str:
    """Join the parts to a name for files and anchors; a long one is cut, and a digest keeps it unlike any other."""
    text = re.sub(r"[^A-Za-z0-9.=+-]+", "_", "_".join(part for part in parts if part))
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return text if len(text) <= LONGEST_SLUG else f"{text[:LONGEST_SLUG]}-{digest}"


def natural(text: str) -> tuple[tuple[float, str], ...]:
    """Sort key that puts ``max_perturb=10`` after ``max_perturb=9``."""
    return tuple((float(p), "") if p.isdigit() else (-1.0, p) for p in re.split(r"(\d+)", text))


def agent_order(agent: str, label: str) -> tuple[int, str, str]:
    """Sort key of agents: ppo, trpo, trpo_ppo, then the rest by name."""
    place = AGENT_ORDER.index(agent) if agent in AGENT_ORDER else len(AGENT_ORDER)
    return place, agent, label


def number(value: float, metric: str, signed: bool = False) -> str:
    """Spell a value with the decimals of its column: 2 for a return, 3 for the rest; a dash where there is none."""
    if math.isnan(value):
        return DASH
    digits = 2 if metric == "return_gain" else 3
    rounded = round(value, digits) + 0.0  # -0.0 becomes 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}".replace("-", MINUS)
