"""Which genes a perturbation changes, and how well a prediction agrees. Letters: G genes (of one condition)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.evaluate.counterfactual.emission import signed
from perturbrl.evaluate.counterfactual.ranksum import RankSum

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_FLOOR = 1e-9
"""Added to both means, in counts per million, before their log ratio (cell-eval2)."""
_CLASSES = (1, -1, 0)


@dataclass(frozen=True)
class Calls:
    """Wilcoxon's test of one condition's cells against control, over tested genes.

    z (positive: higher than control), the false discovery rate, whether that is below alpha, log2 fold change.
    """

    z: Array
    fdr: Array
    significant: Mask
    log_fold: Array

    def classes(self, min_log_fold: float) -> NDArray[np.int64]:
        """Return 1 (up), -1 (down) or 0 for each tested gene."""
        called = self.significant & (np.abs(self.log_fold) >= min_log_fold)
        return np.where(called, np.sign(self.log_fold), 0.0).astype(np.int64)

    def evidence(self, min_log_fold: float) -> Array:
        """Return |z| with the sign of the fold change, 0 for folds too small for a call."""
        return np.where(np.abs(self.log_fold) >= min_log_fold, np.sign(self.log_fold) * np.abs(self.z), 0.0)


class AgainstControl:
    """Tests groups of cells against the control cells [N0, G] of their context."""

    def __init__(self, control: sparse.csr_matrix, slices: list[slice], alpha: float, min_cpm: float) -> None:
        self._test = RankSum(control)
        self._alpha = alpha
        self._signed, self._mean = signed(control), _mean(control, control.data)
        # linear means, in counts per million of the modality's genes; log-normalised cells share one library size
        self._control = _linear_mean(control)
        self._to_cpm = np.zeros(control.shape[1])
        for part in slices:
            total = self._control[part].sum()
            self._to_cpm[part] = 1e6 / total if total > 0 else 0.0
        self._least = min_cpm
        self.expressed = self._above(self._control)
        """Genes [G] that the controls express, or that can be negative."""

    def genes(self, true: sparse.csr_matrix, used: Mask) -> Mask:
        """Return which of the genes ``used`` [G] controls or the ``true`` cells [N, G] of a condition express, [G].

        A gene that neither expresses has no evidence to give. One that only the perturbed cells express is tested too:
        what a perturbation induces is often the effect.
        """
        return used & (self.expressed | self._above(_linear_mean(true)))

    def calls(self, cells: sparse.csr_matrix, genes: Mask) -> Calls:
        """Return the calls of ``cells`` [N, G] over ``genes``; BH within the condition."""
        from scipy.stats import false_discovery_control  # half a second that training need not wait for

        z, p = self._test.test(cells)
        ratio = (_linear_mean(cells) * self._to_cpm + _FLOOR) / (self._control * self._to_cpm + _FLOOR)
        # what is negative is a log already
        moved = (_mean(cells, cells.data) - self._mean) / np.log(2)
        log_fold = np.where(self._signed, moved, np.log2(np.where(self._signed, 1.0, ratio)))
        q = false_discovery_control(p[genes])
        return Calls(z[genes], q, q < self._alpha, log_fold[genes])

    def _above(self, linear: Array) -> Mask:
        return np.asarray((linear * self._to_cpm > self._least) | self._signed)


def agreement(real: Calls, predicted: Calls, min_log_fold: float) -> dict[str, float]:
    """Return the metrics of the calls of one condition whose real set of differential genes is not empty."""
    a, b = real.significant, predicted.significant
    right = b & (np.sign(predicted.log_fold) == np.sign(real.log_fold))
    scores = {
        "de_jaccard": float((a & b).sum() / (a | b).sum()),
        "de_mcc": matthews(a, b),
        "direction_fidelity": float(right.sum() / max(a.sum(), b.sum())),
        "auprc_de": average_precision(a, np.abs(predicted.z)),
    }
    truth, prediction = real.classes(min_log_fold), predicted.classes(min_log_fold)
    return scores | classification(truth, prediction, predicted.evidence(min_log_fold))


def matthews(truth: Mask, prediction: Mask) -> float:
    """Return Matthews' correlation of two sets of genes; 0 where either is empty or everything."""
    n, a, b, both = len(truth), float(truth.sum()), float(prediction.sum()), float((truth & prediction).sum())
    scale = a * (n - a) * b * (n - b)
    return (both * n - a * b) / float(np.sqrt(scale)) if scale > 0 else 0.0


def average_precision(truth: Mask, score: Array) -> float:
    """Return sum_k (R_k - R_(k-1)) P_k over the distinct thresholds of ``score``; NaN if ``truth`` is empty."""
    positives = float(truth.sum())
    if positives == 0:
        return float("nan")
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)
    hits = np.cumsum(truth[order])[last]
    precision = hits / (np.flatnonzero(last) + 1)
    return float((np.diff(hits, prepend=0) * precision).sum() / positives)


def classification(truth: NDArray[np.int64], prediction: NDArray[np.int64], evidence: Array) -> dict[str, float]:
    """Return accuracy and the macro averages over up, down and unchanged of precision, recall, F1 and AUPRC.

    As scikit-learn with ``average="macro", zero_division=0``: a class counts if truth or prediction has it (for AUPRC,
    if truth has it).
    """
    parts = []
    for c in _CLASSES:
        a, b = truth == c, prediction == c
        if a.any() or b.any():
            hit, n_true, n_predicted = float((a & b).sum()), float(a.sum()), float(b.sum())
            parts.append((hit / max(n_predicted, 1.0), hit / max(n_true, 1.0), 2 * hit / (n_true + n_predicted)))
    precision, recall, f1 = np.mean(parts, axis=0)
    ranked = {1: evidence, -1: -evidence, 0: -np.abs(evidence)}
    areas = [average_precision(truth == c, ranked[c]) for c in _CLASSES]
    return {
        "accuracy": float((truth == prediction).mean()),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "auprc": float(np.nanmean(areas)),
    }


def _linear_mean(cells: sparse.csr_matrix) -> Array:
    """Return the mean over cells of exp(x) - 1, [G]."""
    return _mean(cells, np.expm1(cells.data.astype(np.float64)))


def _mean(cells: sparse.csr_matrix, data: NDArray[np.floating[Any]]) -> Array:
    """Return the mean over cells of ``data``, the stored values of each of ``cells`` [N, G], [G]."""
    return np.asarray(np.bincount(cells.indices, data, minlength=cells.shape[1]) / cells.shape[0])
