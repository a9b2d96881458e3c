"""Sums over groups of sparse cells, a bounded piece at a time. Letters: N cells, G genes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

CHUNK = 65_536  # cells whose copy is alive at a time


def group_means(
    x: sparse.csr_matrix, rows: NDArray[np.int64], group: NDArray[np.int64], n_groups: int
) -> NDArray[np.float64]:
    """Return the mean of the rows of ``x`` [N, G] of each group, [n_groups, G]; NaN for a group without any.

    ``group`` numbers the group of each of ``rows``. Sums are taken in float64.
    """
    sums = np.zeros((n_groups, x.shape[1]))
    for start in range(0, len(rows), CHUNK):
        part, own = rows[start : start + CHUNK], group[start : start + CHUNK]
        present, own = np.unique(own, return_inverse=True)
        ones = sparse.csr_matrix((np.ones(len(part)), (own, np.arange(len(part)))), shape=(len(present), len(part)))
        sums[present] += (ones @ x[part]).toarray()
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums / np.bincount(group, minlength=n_groups)[:, None]
