"""Wilcoxon's rank-sum test of sparse cells against one reference, every gene at once.

Letters: N cells, N0 reference cells, G genes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import ndtr

Array = NDArray[np.float64]


class RankSum:
    """Compares groups of cells with the reference cells [N0, G], which are sorted only once.

    Only stored values are ranked; zeros enter as one block of ties.
    """

    def __init__(self, reference: sparse.csr_matrix) -> None:
        self._n, self._n_genes = reference.shape
        genes, values = _stored(reference)
        keys, count = np.unique(_keys(genes, values), return_counts=True)
        self._keys = np.append(keys, _BEYOND)
        self._count = np.append(count, 0).astype(np.float64)
        self._before = np.cumsum(self._count) - self._count
        stored = np.bincount(genes, minlength=self._n_genes)
        self._start = np.concatenate([[0], np.cumsum(stored)[:-1]])
        self._zeros = (self._n - stored).astype(np.float64)
        self._negative = np.bincount(genes[values < 0], minlength=self._n_genes).astype(np.float64)
        self._ties = self._sum(keys, _tied(count.astype(np.float64)))

    def test(self, cells: sparse.csr_matrix) -> tuple[Array, Array]:
        """Return z [G] (positive where ``cells`` [N, G] are higher) and the two-sided p [G].

        The normal approximation with tie correction, no continuity correction; z = 0 and p = 1 where all values tie.
        """
        n = cells.shape[0]
        genes, values = _stored(cells)
        keys, count = np.unique(_keys(genes, values), return_counts=True)
        a = count.astype(np.float64)
        at = np.searchsorted(self._keys, keys)
        b = np.where(self._keys[at] == keys, self._count[at], 0.0)
        stored = np.bincount(genes, minlength=self._n_genes)
        zeros, positive = n - stored, stored - np.bincount(genes[values < 0], minlength=self._n_genes)
        # what lies below a value: stored values of its own gene, and zeros if it is positive
        u = self._sum(keys, a * (self._before[at] + 0.5 * b)) - stored * self._start + positive * self._zeros
        u += zeros * (self._negative + 0.5 * self._zeros)
        tied = np.flatnonzero(a + b > 1)
        keys, a, b = keys[tied], a[tied], b[tied]
        ties = self._ties + self._sum(keys, _tied(a + b) - _tied(b)) + _tied(zeros + self._zeros)
        total = n + self._n
        variance = n * self._n / 12 * (total + 1 - ties / (total * (total - 1)))
        flat = variance <= 1e-12 * n * self._n
        z = np.where(flat, 0.0, (u - n * self._n / 2) / np.sqrt(np.where(flat, 1.0, variance)))
        return z, 2 * ndtr(-np.abs(z))

    def _sum(self, keys: NDArray[np.uint64], values: Array) -> Array:
        at = (keys >> np.uint64(32)).astype(np.int64)
        return np.asarray(np.bincount(at, values, minlength=self._n_genes), dtype=np.float64)


_SIGN = np.uint64(1 << 31)
_BEYOND = np.uint64(2**64 - 1)  # above the key of any value


def _stored(cells: sparse.csr_matrix) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the genes and the values of what is not zero."""
    nonzero = cells.data != 0
    return cells.indices[nonzero].astype(np.int64), cells.data[nonzero].astype(np.float32)


def _keys(genes: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return integers that sort by gene and then by value: the bits of a float, made monotone over both signs."""
    bits = values.view(np.uint32).astype(np.uint64)
    monotone = np.where(bits & _SIGN, bits ^ np.uint64(0xFFFFFFFF), bits | _SIGN)
    return (genes.astype(np.uint64) << np.uint64(32)) | monotone


def _tied(count: Array) -> Array:
    return count * (count * count - 1)  # numpy's count**3 takes the slow path of pow
