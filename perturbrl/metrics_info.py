"""Titles, directions, anchors and kinds of every metric and row, for the evaluation and the report.

Metrics that plugins register are evaluated beside the ten of the paper and stand in ``values.csv``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Better = Literal["up", "down", "neither"]
Kind = Literal["floor", "simple", "other", "oracle"]

NOT_SCORES = ("name", "claims", "export", "curve_cells")
"""Settings of a protocol that change no score of an evaluation."""


@dataclass(frozen=True)
class MetricInfo:
    """One metric.

    ``no_change`` is the value of a prediction without change (None: it depends on the data), ``perfect`` that of the
    truth, ``undefined`` what the NaN of one condition counts as in aggregates. ``range`` holds the least and the
    greatest value, ``digits`` is the number of decimals that a table shows.
    """

    name: str
    title: str
    better: Better = "up"
    formula: str = ""
    digits: int = 3
    no_change: float | None = None
    undefined: float = 0.0
    range: tuple[float, float] = (float("-inf"), float("inf"))
    reference: str = ""

    @property
    def perfect(self) -> float:
        """The value of the truth as its own prediction."""
        return 0.0 if self.better == "down" else 1.0

    @property
    def sign(self) -> float:
        """-1 where lower is better, else 1."""
        return -1.0 if self.better == "down" else 1.0


def _table(*metrics: MetricInfo) -> Mapping[str, MetricInfo]:
    return MappingProxyType({metric.name: metric for metric in metrics})


_UNIT = (0.0, 1.0)
_POSITIVE = (0.0, float("inf"))
_PAPER = "arXiv 2510.13018, Tables I-III (released evaluation)"
_SKLEARN = f"{_PAPER}; scikit-learn"
_WEIGHTED = "(average='weighted', zero_division=0)"


def _ten(
    name: str, title: str, better: Better, formula: str, between: tuple[float, float], reference: str
) -> MetricInfo:
    return MetricInfo(name, title, better, formula, range=between, reference=reference)


PAPER = _table(
    _ten("accuracy", "Accuracy", "up", "mean(1[y>0] = 1[p>0])", _UNIT, f"{_SKLEARN} accuracy_score"),
    _ten(
        "precision", "Precision", "up", "sum_c n_c/n TP_c/(TP_c+FP_c)", _UNIT, f"{_SKLEARN} precision_score{_WEIGHTED}"
    ),
    _ten("recall", "Recall", "up", "sum_c n_c/n TP_c/n_c = accuracy", _UNIT, f"{_SKLEARN} recall_score{_WEIGHTED}"),
    _ten("f1", "F1", "up", "sum_c n_c/n 2TP_c/(2TP_c+FP_c+FN_c)", _UNIT, f"{_SKLEARN} f1_score{_WEIGHTED}"),
    _ten("auprc", "AUPRC", "up", "sum_k (R_k-R_(k-1)) P_k", _UNIT, f"{_SKLEARN} average_precision_score of 1[p>0]"),
    _ten("mse", "MSE", "down", "mean((p-y)^2)", _POSITIVE, f"{_SKLEARN} mean_squared_error"),
    _ten("rmse", "RMSE", "down", "sqrt(mean((p-y)^2))", _POSITIVE, f"{_SKLEARN} root_mean_squared_error"),
    _ten("mae", "MAE", "down", "mean(|p-y|)", _POSITIVE, f"{_SKLEARN} mean_absolute_error"),
    _ten("r2", "R²", "up", "1 - sum((p-y)^2)/sum((y-mean y)^2)", (float("-inf"), 1.0), f"{_SKLEARN} r2_score"),
    _ten("pearson", "Pearson", "up", "cov(y,p)/(sd y sd p)", (-1.0, 1.0), f"{_PAPER}; numpy corrcoef"),
)
"""The ten metrics of Tables I-III."""
PAPER_TASK = _table(
    MetricInfo("mean_abs_action", "Mean |a|", "neither"),
    MetricInfo("return_gain", "Return gain", digits=2),
)
"""Beside the ten: the size of the actions, and the return minus that of zero actions."""
PAPER_COLUMNS = MappingProxyType({**PAPER, **PAPER_TASK})


def _headline(name: str, title: str, better: Better, no_change: float | None, formula: str) -> MetricInfo:
    return MetricInfo(name, title, better, formula, no_change=no_change, undefined=0.0 if better == "up" else 1.0)


HEADLINE = _table(
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
)
"""Held-out perturbations: the metrics on which claims are tested."""
COMPARABILITY = _table(
    MetricInfo("l2_top", "L2@top", "down", "||mu^ - mu|| over the genes of highest control mean", digits=2),
    MetricInfo("mse", "MSE", "down", "mean over genes of (mu^ - mu)^2", digits=4),
    MetricInfo("rmse", "RMSE", "down", "sqrt(MSE)"),
    MetricInfo("mae", "MAE", "down", "mean over genes of |mu^ - mu|"),
    MetricInfo("r2_delta", "R2 Δ", "up", "R2 over genes of mu^ - mu_0 for mu - mu_0"),
    MetricInfo("pearson_delta_ctrl", "Pearson Δ(ctrl)", "up", "corr over genes (mu^ - mu_0, mu - mu_0)"),
    MetricInfo("accuracy", "accuracy", "up", "genes called alike (up, down, unchanged: |LFC| and FDR)"),
    MetricInfo("precision", "precision", "up", "mean precision of the calls up, down, unchanged"),
    MetricInfo("recall", "recall", "up", "mean recall of the calls up, down, unchanged"),
    MetricInfo("f1", "F1", "up", "mean F1 of the calls up, down, unchanged"),
    MetricInfo(
        "auprc",
        "AUPRC",
        "up",
        "mean average precision of e, -e and -|e| for up, down and unchanged, e = |z| sign(LFC), 0 for small LFC",
    ),
)
"""Held-out perturbations: the names of the study and the field's usual columns."""
HELD_OUT = MappingProxyType({**HEADLINE, **COMPARABILITY})
CONTROL = _table(
    MetricInfo("return", "return"),
    MetricInfo("return_normalised", "normalised return"),
    MetricInfo("return_share", "share of best allowed"),
    MetricInfo("train_return_normalised", "normalised return, training"),
    MetricInfo("train_return_share", "share of best allowed, training"),
    MetricInfo("success_rate", "success rate"),
    MetricInfo("regret", "regret", "down"),
    MetricInfo("mean_abs_action", "mean |a|", "neither"),
    MetricInfo("steps", "environment steps", "neither", digits=0),
    MetricInfo("wall_seconds", "wall time, s", "down", digits=0),
)
"""Held-out perturbations: the return of the task, and the cost of a run."""
FATES = _table(
    MetricInfo("success_rate", "target reached", "up", "share of episodes, mean over pairs of source and target"),
    MetricInfo("control_length", "control length", "down", "decisions of an episode, mean over pairs", digits=2),
    MetricInfo("steps_to_target", "steps to target", "down", "decisions of the episodes that reach it", digits=2),
    MetricInfo("n_perturbed", "genes perturbed", "down", "genes of all decisions of an episode", digits=2),
    MetricInfo("return", "return", "up", "rewards without shaping"),
    MetricInfo("regret", "regret", "down", "return of the optimum minus return, on the same draws"),
)
"""Steering cells to fates."""
PRIMARY = "pds_cosine"  # the metric of a claim, where the config of the runs names no other


@dataclass(frozen=True)
class Columns:
    """The headline columns of a test set, and for each column that is left out the reason.

    ``ranking`` has at least one column; the first is the most telling.
    """

    ranking: Mapping[str, MetricInfo]
    left_out: Mapping[str, str]

    def primary(self, declared: str) -> MetricInfo:
        """Return the metric that claims are about: the declared one, unless it cannot rank here."""
        return next(iter(self.ranking.values())) if declared in self.left_out else HELD_OUT[declared]

    def without(self, names: Sequence[str], why: str) -> Columns:
        """Return the columns without some of them; all of them if none would be left."""
        rest = {name: info for name, info in self.ranking.items() if name not in names}
        return Columns(rest, {**self.left_out, **dict.fromkeys(names, why)}) if rest else self


def columns_of(n_perturbations: int | None, most_together: int | None, n_training: int | None) -> Columns:
    """Choose the headline columns by the design of a screen and its split, never by scores.

    Parameters
    ----------
    n_perturbations
        Number of different perturbations that train, validate or test, whatever their context and dose; None: unknown.
    most_together
        The largest number of test conditions in one context; None: unknown.
    n_training
        Number of training conditions; None: unknown. Predictions made from one are multiples of its change, of which
        a correlation is the same for all, so an error comes first.
    """
    left_out = {}
    ranking = dict(HEADLINE)
    if most_together is not None and most_together < 2:
        left_out["pds_cosine"] = "every test condition is alone in its context, so there is no other to mistake it for"
    if n_perturbations is not None and n_perturbations < 2:
        why = "the training mean that it subtracts is the effect of the one perturbation itself"
        left_out |= {"pearson_delta_pert": why, "wr2_delta": why}
        of_change = {"pearson_delta_ctrl": COMPARABILITY["pearson_delta_ctrl"]}
        first = {"mse_norm": HEADLINE["mse_norm"]} if n_training is not None and n_training < 2 else {}
        ranking = first | of_change | ranking
    return Columns({name: info for name, info in ranking.items() if name not in left_out}, left_out)


@dataclass(frozen=True)
class RowInfo:
    """A row on held-out perturbations that is no agent.

    A claim is made against the best row of kind ``simple``; an ``oracle`` sees test cells or the simulator.
    """

    name: str
    title: str
    kind: Kind


BEST_ACTIONS = "best_actions"  # the demonstration: what a policy could predict if it saw the true changes
TRUE_MEAN = "true_mean"  # the most that a prediction of means can reach in the columns that need cells
SIMULATOR = "simulator"  # the known optimum, where cells were simulated
_ROWS = (
    RowInfo("no_change", "no change (floor)", "floor"),
    RowInfo("random", "random, as large", "floor"),
    RowInfo("best_constant", "best constant action", "floor"),
    RowInfo("train_mean", "training mean", "simple"),
    RowInfo("matching_mean", "matching mean", "simple"),
    RowInfo("additive", "additive", "simple"),
    RowInfo("bilinear", "bilinear", "simple"),
    RowInfo("bilinear_tuned", "bilinear, tuned", "simple"),
    RowInfo("kernel_ridge", "kernel ridge", "simple"),
    RowInfo("knn", "nearest neighbours", "simple"),
    RowInfo("transfer_mean", "transfer mean", "simple"),
    RowInfo("mlp", "supervised MLP", "other"),
    RowInfo("permuted", "permuted labels (negative control)", "other"),
    RowInfo(TRUE_MEAN, "true mean, as cells (oracle)", "oracle"),
    RowInfo("technical_duplicate", "technical duplicate (oracle)", "oracle"),
    RowInfo("interpolated_duplicate", "interpolated duplicate (oracle)", "oracle"),
    RowInfo(BEST_ACTIONS, "best allowed actions (oracle)", "oracle"),
    RowInfo(SIMULATOR, "simulator's own means (oracle)", "oracle"),
)
ROWS = MappingProxyType({row.name: row for row in _ROWS})
"""All rows, in the order of the tables."""
SIMPLE = tuple(row.name for row in _ROWS if row.kind == "simple")
DUPLICATES = ("technical_duplicate", "interpolated_duplicate")
"""Oracle rows made from halves of the test cells."""


def row_info(name: str) -> RowInfo:
    """Return the entry of a row. A row of a plugin has its name as title and the kind ``other``."""
    return ROWS.get(name) or RowInfo(name, name, "other")


def row_place(name: str) -> tuple[int, str]:
    """Sort key of the rows that are no agent: in the order of ``ROWS``, then others by name."""
    return (list(ROWS).index(name), "") if name in ROWS else (len(ROWS), name)
