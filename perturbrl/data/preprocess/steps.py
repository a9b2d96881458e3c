"""The preprocessing steps, one frozen object each. Letters: N cells, G features.

``fit`` (where there is anything to fit) sees training cells only and returns the step with its parameters; ``apply``
takes any cells. Sparse input stays sparse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Array = Any  # NDArray or scipy CSR, [N, G]


@dataclass(frozen=True)
class DepthNormalize:
    """Scale each cell to ``target_sum`` counts; a cell without counts stays zero. Nothing is fitted."""

    target_sum: float

    def apply(self, x: Array) -> Array:
        """Return x * target_sum / (sum of the cell), float32 [N, G]."""
        total = _row_sums(x)
        return _scale_rows(x, self.target_sum / np.where(total > 0, total, 1.0))


@dataclass(frozen=True)
class Log1p:
    """Natural log(1 + x). Nothing is fitted."""

    def apply(self, x: Array) -> Array:
        """Return log(1 + x), float32 [N, G]."""
        return _on_values(x, np.log1p)


@dataclass(frozen=True)
class TfIdf:
    """Term frequency times inverse document frequency of open peaks: log(1 + scale * tf * idf).

    tf = open / (open peaks of the cell); idf = n / (cells with the peak open), n and cells of the training set (Stuart
    et al. 2021, Signac's default form). Only x > 0 is used, so counts, binary and weighted values are one case. A peak
    closed in every training cell has idf 0.
    """

    idf: NDArray[np.float64]
    scale: float

    @classmethod
    def fit(cls, x_train: Array, scale: float) -> TfIdf:
        """Count in how many training cells each peak is open; ``x_train`` [N_train, G]."""
        n_open = np.asarray((x_train > 0).sum(axis=0), dtype=np.float64).ravel()
        return cls(np.divide(x_train.shape[0], n_open, out=np.zeros_like(n_open), where=n_open > 0), scale)

    def apply(self, x: Array) -> Array:
        """Return the weighted matrix, float32 [N, G]."""
        is_open = (x > 0).astype(np.float32)
        n_open = _row_sums(is_open)
        tf = _scale_rows(is_open, self.scale / np.where(n_open > 0, n_open, 1.0))
        idf = self.idf.astype(np.float32)
        weighted = sparse.csr_matrix(tf @ sparse.diags(idf)) if sparse.issparse(tf) else tf * idf
        return _on_values(weighted, np.log1p)


@dataclass(frozen=True)
class CentredLogRatio:
    """log(1 + x) minus its mean over the proteins of the cell (Aitchison's CLR of x + 1). Nothing is fitted."""

    def apply(self, x: Array) -> NDArray[np.float32]:
        """Return the centred logs, float32 dense [N, G]; every row sums to 0."""
        logs = np.log1p(dense(x).astype(np.float64))
        return np.asarray(logs - logs.mean(axis=1, keepdims=True), dtype=np.float32)


@dataclass(frozen=True)
class Standardize:
    """(x - mean) / sd per feature; a feature constant over the fitted cells has sd 1 (and mean its value)."""

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]

    @classmethod
    def fit(cls, x_train: NDArray[np.float32]) -> Standardize:
        """Take mean and population standard deviation of ``x_train`` [N_train, G]."""
        wide = x_train.astype(np.float64)
        constant = ~varies(x_train)
        # Rounding can leave a constant column a mean off by 1e-17 and an sd above 0.
        return cls(np.where(constant, wide[0], wide.mean(axis=0)), np.where(constant, 1.0, wide.std(axis=0)))

    def apply(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 [N, G]."""
        return np.asarray((x - self.mean) / self.sd, dtype=np.float32)


def dense(x: Array) -> NDArray[Any]:
    """Return ``x`` as a dense array."""
    return x.toarray() if sparse.issparse(x) else np.asarray(x)


def varies(x: Array) -> NDArray[np.bool_]:
    """Return which of the G features have more than one value in ``x`` [N, G], without rounding; shape [G]."""
    low, high = x.min(axis=0), x.max(axis=0)
    if sparse.issparse(x):
        low, high = low.toarray().ravel(), high.toarray().ravel()
    return np.asarray(high > low)


def _row_sums(x: Array) -> NDArray[np.float64]:
    return np.asarray(x.sum(axis=1, dtype=np.float64)).ravel()


def _scale_rows(x: Array, factor: NDArray[np.float64]) -> Array:
    if sparse.issparse(x):
        return sparse.csr_matrix(sparse.diags(factor.astype(np.float32)) @ x.astype(np.float32))
    return np.asarray(x * factor[:, None], dtype=np.float32)


def _on_values(x: Array, function: Any) -> Array:
    """Apply a function with f(0) = 0 to every value."""
    if not sparse.issparse(x):
        return np.asarray(function(x), dtype=np.float32)
    out = x.astype(np.float32, copy=True)
    out.data = function(out.data)
    return out
