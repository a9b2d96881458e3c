"""The columns of the counterfactual tables: what they are called, which way is good, and their anchors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True)
class Column:
    """One metric.

    ``no_change`` is the value of a prediction without change (None: it depends on the data), ``perfect`` that of the
    truth, ``undefined`` what a value of NaN counts as in aggregates.
    """

    name: str
    title: str
    table: Literal["headline", "comparability"]
    better: Literal["up", "down"]
    no_change: float | None
    perfect: float
    undefined: float
    formula: str


def _headline(name: str, title: str, better: Literal["up", "down"], no_change: float | None, formula: str) -> Column:
    perfect = 1.0 if better == "up" else 0.0
    return Column(name, title, "headline", better, no_change, perfect, 0.0 if better == "up" else 1.0, formula)


def _comparable(name: str, title: str, better: Literal["up", "down"], formula: str) -> Column:
    return Column(name, title, "comparability", better, None, 1.0 if better == "up" else 0.0, 0.0, formula)


_ALL = (
    _headline(
        "pds_cosine",
        "PDS-cos",
        "up",
        0.5,
        "1 - k/(n-1), k = truths of the same context that are nearer (cosine of changes, mid-rank) to p's prediction "
        "than p's own truth; all panel targets dropped",
    ),
    _headline("pearson_delta_pert", "Pearson Δ(pert)", "up", None, "corr(mu^ - m, mu - m), m the training mean"),
    _headline(
        "wmse_ratio", "wMSE ratio", "down", None, "wMSE_p / mean over p of wMSE_p(train mean), weights of t vs rest"
    ),
    _headline("wr2_delta", "wR2 Δ", "up", None, "weighted R2 of mu^ - m for mu - m"),
    _headline(
        "mse_norm", "MSEnorm", "down", 1.0, "(||mu^ - mu||^2 - C) / mean over p of (||mu - mu_0||^2 - C), C = C_p + C_0"
    ),
    _headline(
        "de_jaccard", "DE Jaccard", "up", 0.0, "|S n S^| / |S u S^|, S the genes of FDR < alpha by Wilcoxon's test"
    ),
    _headline("de_mcc", "DE MCC", "up", 0.0, "Matthews' correlation of the calls S and S^"),
    _headline("direction_fidelity", "direction fidelity", "up", 0.0, "genes of S^ with the true sign / max(|S^|, |S|)"),
    _headline("auprc_de", "AUPRC-DE", "up", None, "average precision of the predicted |z| for S"),
    _headline(
        "energy_ratio", "E-ratio", "down", 1.0, "E(predicted, true) / mean over p of E(control, true), U-statistic, PCA"
    ),
    _comparable("l2_top", "L2@top", "down", "||mu^ - mu|| over the genes of highest control mean"),
    _comparable("mse", "MSE", "down", "mean over genes of (mu^ - mu)^2"),
    _comparable("rmse", "RMSE", "down", "sqrt(MSE)"),
    _comparable("mae", "MAE", "down", "mean over genes of |mu^ - mu|"),
    _comparable("r2_delta", "R2 Δ", "up", "R2 over genes of mu^ - mu_0 for mu - mu_0"),
    _comparable("pearson_delta_ctrl", "Pearson Δ(ctrl)", "up", "corr over genes (mu^ - mu_0, mu - mu_0)"),
    _comparable("accuracy", "accuracy", "up", "genes called alike (up, down, unchanged: |LFC| and FDR)"),
    _comparable("precision", "precision", "up", "mean precision of the calls up, down, unchanged"),
    _comparable("recall", "recall", "up", "mean recall of the calls up, down, unchanged"),
    _comparable("f1", "F1", "up", "mean F1 of the calls up, down, unchanged"),
    _comparable(
        "auprc",
        "AUPRC",
        "up",
        "mean average precision of e, -e and -|e| for up, down and unchanged, e = |z| sign(LFC), 0 for small LFC",
    ),
)
COLUMNS: Mapping[str, Column] = MappingProxyType({column.name: column for column in _ALL})
