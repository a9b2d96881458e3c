"""The kind of values of a matrix (counts, logs, binary or continuous), and the place of invalid ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.data.schema import Matrix, ValueKind

# log1p(1e6) is 13.8 and log2(1e6 + 1) is 19.9: no logarithm of a normalised expression value lies above this.
LOG_CEILING = 25.0
_CHUNK = 4_000_000


@dataclass(frozen=True)
class Profile:
    """How many values of a matrix are NaN, infinite or negative, whether all are whole, and their range."""

    nan: int
    infinite: int
    negative: int
    whole: bool
    low: float
    high: float

    @property
    def clean(self) -> bool:
        """True if every value is finite."""
        return not (self.nan or self.infinite)


def profile(x: Matrix) -> Profile:
    """Summarise ``x`` [N, G] in one pass, in blocks of limited size; implicit zeros of a sparse matrix count."""
    nan = infinite = negative = 0
    whole = True
    complete = not isinstance(x, sparse.csr_matrix) or x.nnz == x.shape[0] * x.shape[1]
    low, high = (np.inf, -np.inf) if complete and x.shape[0] * x.shape[1] else (0.0, 0.0)
    for values in _pieces(x):
        if values.dtype.kind == "f":
            finite = np.isfinite(values)
            if not finite.all():
                missing = int(np.isnan(values).sum())
                nan += missing
                infinite += int(values.size - finite.sum()) - missing
                values = values[finite]
            whole = whole and bool(np.all(values == np.rint(values)))
        if values.size:
            negative += int((values < 0).sum())
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return Profile(nan, infinite, negative, whole, low, high)


def kind_of(summary: Profile, modality: str) -> ValueKind:
    """Return the kind of values with this profile.

    Whole numbers >= 0 are counts (in ATAC, where all are 0 or 1, binary); fractions in [0, 25] are logs; anything else,
    weighted or transformed ATAC included, is continuous.
    """
    if summary.negative:
        return "continuous"
    if summary.whole:
        return "binary" if modality == "atac" and summary.high <= 1 else "counts"
    return "log" if modality != "atac" and summary.high <= LOG_CEILING else "continuous"


def first_where(x: Matrix, test: Any) -> tuple[int, int]:
    """Return (row, column) of the first value of ``x`` for which the vectorised ``test`` is true; one must exist."""
    if isinstance(x, sparse.csr_matrix):
        k = int(np.flatnonzero(test(x.data))[0])
        return int(np.searchsorted(x.indptr, k, side="right")) - 1, int(x.indices[k])
    row, column = np.argwhere(test(x))[0]
    return int(row), int(column)


def constant_features(x: Matrix) -> NDArray[np.bool_]:
    """Return which of the G features have the same value in every cell, shape [G]."""
    if x.shape[0] == 0 or x.shape[1] == 0:
        return np.zeros(x.shape[1], dtype=np.bool_)
    if sparse.issparse(x):
        high, low = x.max(axis=0).toarray().ravel(), x.min(axis=0).toarray().ravel()
    else:
        high, low = x.max(axis=0), x.min(axis=0)
    return np.asarray(high == low, dtype=np.bool_)


def _pieces(x: Matrix) -> Iterator[NDArray[Any]]:
    if isinstance(x, sparse.csr_matrix):
        for start in range(0, x.data.size, _CHUNK):
            yield x.data[start : start + _CHUNK]
        return
    rows = max(1, _CHUNK // max(1, x.shape[1]))
    for start in range(0, x.shape[0], rows):
        yield np.asarray(x[start : start + rows]).ravel()
