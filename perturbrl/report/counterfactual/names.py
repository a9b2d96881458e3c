"""Rows and columns of the tables on held-out perturbations. A test holds them equal to those of the evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True)
class Column:
    """How a metric is shown; ``undefined`` is what a NaN of one condition counts as."""

    title: str
    better: Literal["up", "down", "neither"] = "up"
    undefined: float = 0.0
    digits: int = 3


HEADLINE: Mapping[str, Column] = MappingProxyType(
    {
        "pds_cosine": Column("PDS-cos"),
        "pearson_delta_pert": Column("Pearson Δ(pert)"),
        "wmse_ratio": Column("wMSE ratio", "down", 1.0),
        "wr2_delta": Column("wR2 Δ"),
        "mse_norm": Column("MSEnorm", "down", 1.0),
        "de_jaccard": Column("DE Jaccard"),
        "de_mcc": Column("DE MCC"),
        "direction_fidelity": Column("direction fidelity"),
        "auprc_de": Column("AUPRC-DE"),
        "energy_ratio": Column("E-ratio", "down", 1.0),
    }
)
COMPARABILITY: Mapping[str, Column] = MappingProxyType(
    {
        "l2_top": Column("L2@top", "down", digits=2),
        "mse": Column("MSE", "down", digits=4),
        "rmse": Column("RMSE", "down"),
        "mae": Column("MAE", "down"),
        "r2_delta": Column("R2 Δ"),
        "pearson_delta_ctrl": Column("Pearson Δ(ctrl)"),
        "accuracy": Column("accuracy"),
        "precision": Column("precision"),
        "recall": Column("recall"),
        "f1": Column("F1"),
        "auprc": Column("AUPRC"),
    }
)
RL: Mapping[str, Column] = MappingProxyType(
    {
        "return": Column("return"),
        "return_normalised": Column("normalised return"),
        "success_rate": Column("success rate"),
        "regret": Column("regret", "down"),
        "mean_abs_action": Column("mean |a|", "neither"),
        "steps": Column("environment steps", "neither", digits=0),
        "wall_seconds": Column("wall time, s", "down", digits=0),
    }
)
COLUMNS = {**HEADLINE, **COMPARABILITY}
PRIMARY = "pds_cosine"  # the metric of a claim, where the config of the runs names no other
CURVES = {
    "eval/pds_cosine": "PDS-cos",
    "eval/pearson_delta_pert": "Pearson Δ(pert)",
    "eval/return": "return of the deterministic policy",
}

FLOORS = ("no_change", "random", "best_constant")
SIMPLE = (
    *("train_mean", "matching_mean", "additive", "bilinear", "bilinear_tuned", "kernel_ridge", "knn"),
    "transfer_mean",
)  # a claim is made against the best of these
OTHERS = ("mlp", "permuted")
ORACLES = ("technical_duplicate", "interpolated_duplicate")
SIMULATOR = "simulator"  # the known optimum, where cells were simulated
ROWS = (*FLOORS, *SIMPLE, *OTHERS, *ORACLES)
SPELLED = {
    "no_change": "no change (floor)",
    "random": "random, as large",
    "best_constant": "best constant action",
    "train_mean": "training mean",
    "matching_mean": "matching mean",
    "bilinear_tuned": "bilinear, tuned",
    "kernel_ridge": "kernel ridge",
    "knn": "nearest neighbours",
    "transfer_mean": "transfer mean",
    "mlp": "supervised MLP",
    "permuted": "permuted labels (negative control)",
    SIMULATOR: "simulator's own means (oracle)",
    "technical_duplicate": "technical duplicate (oracle)",
    "interpolated_duplicate": "interpolated duplicate (oracle)",
}


def place(row: str) -> tuple[int, str]:
    """Sort key of the rows that are no agent."""
    return (ROWS.index(row), "") if row in ROWS else (len(ROWS), row)


def kind(row: str) -> str:
    """``floor``, ``simple``, ``other`` or ``oracle``."""
    if row in FLOORS:
        return "floor"
    if row in SIMPLE:
        return "simple"
    return "oracle" if row in (SIMULATOR, *ORACLES) else "other"
