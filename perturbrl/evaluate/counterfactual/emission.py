"""Cells that a mean prediction stands for. Letters: c cells, G genes, K grid points."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.effects.observed import ObservedEffects, sample
from perturbrl.rng import numpy_generator

Array = NDArray[np.float64]
Single = NDArray[np.float32]
Mask = NDArray[np.bool_]

_RATES = 2.0 ** (np.arange(-20, 41) / 2)
"""Multiples of a gene's rate in controls for which its mean is tabulated, [K]; 1 is one of them."""
_AT_ONE = 20
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
_MOST_BURSTS = 1e6
"""Bursts of expression in a cell above which a gene has no noise."""


class Emission:
    """Predicted cells with real dispersion, for methods that predict a mean only.

    A condition gets as many test controls of its context as it has test cells (at most ``max_cells``, or all there
    are), and each gene of them is moved to the mean mu_0 + change. Expression is taken to come in bursts (a compound
    Poisson count) whose rate changes: a gene that rises is found in more cells and at a higher level, one that falls in
    fewer. A cell that gains a gene takes its level from another control, or one count where no control expresses it.
    Negative means become 0; no value exceeds twice the highest expression of the controls. Features with negative
    values (centred protein) have no rate: they are moved by the change. A gene with a change of exactly 0 stays.
    """

    def __init__(self, truth: ObservedEffects) -> None:
        self._truth = truth
        self._pools: dict[str, _Pool] = {}

    def rows(self, index: int) -> NDArray[np.int64]:
        """Return the rows of the controls that stand for condition ``index`` of the truth, the same for all methods."""
        truth = self._truth
        controls, name = truth.controls[truth.contexts[index]], truth.names[index]
        return sample(controls, truth.n_compared(index), truth.config.seed, "score/emission", name)

    def start(self, index: int) -> ControlCells:
        """Return the controls of ``rows``, ready to be moved; their draws follow from the name of the condition."""
        truth, screen, context = self._truth, self._truth.table.screen, self._truth.contexts[index]
        if context not in self._pools:
            place = np.argsort(np.argsort(np.array(screen.features)))
            self._pools[context] = _Pool.of(screen.x[truth.controls[context]], place)
        generator = numpy_generator(truth.config.seed, "score/emission/bursts", truth.names[index])
        return ControlCells(screen.x[self.rows(index)], truth.control[index], self._pools[context], generator)


@dataclass(frozen=True)
class _Pool:
    """All controls of a context: the positive expression of each gene, gene by gene, from where ``start`` [G] says.

    ``highest`` is the highest expression of any, and ``signed`` [G] marks features with negative values. Expression is
    linear, exp(x) - 1. ``place`` [G] are the places of the genes by name: draws do not depend on the order of columns.
    """

    expression: Single
    start: NDArray[np.int64]
    count: NDArray[np.int64]
    highest: float
    signed: Mask
    place: NDArray[np.int64]

    @classmethod
    def of(cls, cells: sparse.csr_matrix, place: NDArray[np.int64]) -> _Pool:
        columns = cells.tocsc()
        positive = columns.data > 0
        count = np.diff(np.append(0, np.cumsum(positive))[columns.indptr])
        expression = np.expm1(columns.data[positive])
        highest = float(expression.max(initial=0.0))
        return cls(expression, np.cumsum(count) - count, count, highest, signed(cells), place)


class ControlCells:
    """Control ``cells`` [c, G] that stand for a condition, and the draws that decide which of them change.

    ``mean`` [G] is that of all controls of the context, from which changes are measured.
    """

    def __init__(self, cells: sparse.csr_matrix, mean: Array, pool: _Pool, generator: np.random.Generator) -> None:
        self.cells, self._mean, self._pool = cells, mean, pool
        self._value: Single = cells.toarray()
        n = cells.shape[0]
        self._n_expressing = (self._value > 0).sum(axis=0)
        # a gene of no cell might be in half a cell; one of all cells might be missing in half a cell
        part = np.clip(self._n_expressing / n, 0.5 / n, 1 - 0.5 / n)
        self._bursts = -np.log1p(-part)
        self._level = self._levels(generator)
        everywhere = self._n_expressing == n
        self._bursts[everywhere] = np.maximum(self._bursts, _bursts_of(self._level))[everywhere]
        self._detected = -np.expm1(-self._bursts)
        self._order = self._orders(generator)

    def moved(self, change: Array) -> sparse.csr_matrix:
        """Return the cells moved by a ``change`` [G] of the mean, [c, G] float32."""
        (n, n_genes), most = self._value.shape, np.float32(2 * self._pool.highest)
        still, shifted = change == 0, self._pool.signed
        rate = np.where(still | shifted, 1.0, self._rate(np.maximum(self._mean + change, 0.0)))
        share, level = self._response(rate)
        here = self._order < share.astype(np.float32)
        here[:, still | shifted] = self._value[:, still | shifted] != 0
        here[:, shifted & ~still] = True
        flat = np.flatnonzero(here)
        count = np.count_nonzero(here, axis=1)
        gene = flat - np.repeat(np.arange(n) * n_genes, count)
        value = self._value.ravel()[flat]
        data = np.log1p(np.minimum(self._level.ravel()[flat] * level.astype(np.float32)[gene], most))
        data = np.where(still[gene], value, data)
        if shifted.any():
            data = np.where(shifted[gene], value + change.astype(np.float32)[gene], data)
        indptr = np.concatenate([[0], np.cumsum(count)])
        return sparse.csr_matrix((data, gene.astype(np.int32), indptr.astype(np.int32)), (n, n_genes))

    def _response(self, rate: Array) -> tuple[Array, Array]:
        """Return in which part of the cells a gene is at ``rate`` [..., G], and its level there over that now."""
        share = -np.expm1(-rate * self._bursts)
        return share, rate * self._detected / np.where(share > 0, share, 1.0)

    def _rate(self, goal: Array) -> Array:
        """Return the multiple of each gene's rate now that gives the mean ``goal`` [G] >= 0, [G]."""
        table, genes = self._means, np.arange(len(goal))
        above = np.count_nonzero(table <= goal, axis=0)
        low = np.clip(above - 1, 0, len(_RATES) - 2)
        left, right = table[low, genes], table[low + 1, genes]
        part = np.clip((goal - left) / np.where(right > left, right - left, 1.0), 0.0, 1.0)
        rate = _RATES[low] * (_RATES[low + 1] / _RATES[low]) ** part
        # below the table the mean is proportional to the rate
        small = _RATES[0] * goal / np.where(table[0] > 0, table[0], 1.0)
        return np.asarray(np.where(above == 0, small, rate))

    @cached_property
    def _means(self) -> Array:
        """Mean of each gene at each of ``_RATES``, [K, G]; levels are taken to be log-normal among cells."""
        logs = np.log(self._level, dtype=np.float64)
        centre, spread = logs.mean(axis=0), logs.std(axis=0)
        share, level = self._response(_RATES[:, None] * np.ones(len(centre)))
        expected = np.zeros_like(level)
        for node, weight in zip(_NODES, _WEIGHTS / _WEIGHTS.sum(), strict=True):
            linear = level * np.exp(centre + node * spread)
            expected += weight * np.log1p(np.minimum(linear, 2 * self._pool.highest))
        means, now = share * expected, self._value.mean(axis=0, dtype=np.float64)
        known = self._n_expressing > 0
        # the cells that have the gene now tell of themselves, not of those that gain it
        error = np.where(known, now / np.where(known, means[_AT_ONE], 1.0), 1.0)
        return np.asarray(means * error ** np.minimum(self._detected / share, 1.0))

    def _levels(self, generator: np.random.Generator) -> Single:
        """Return the expression of each gene in each cell, and what it would be in cells without it, [c, G] > 0."""
        pool, (n, n_genes) = self._pool, self._value.shape
        one_count = np.broadcast_to(np.expm1(_least(self.cells))[:, None], (n, n_genes))
        if len(pool.expression):
            draw = generator.random((n_genes, n), dtype=np.float32)[pool.place].T
            donor = (draw * pool.count).astype(np.int64)
            donor = pool.start + np.minimum(donor, np.maximum(pool.count - 1, 0))
            taken = pool.expression[np.minimum(donor, len(pool.expression) - 1)]
            one_count = np.where(pool.count > 0, taken, one_count)
        return np.where(self._value > 0, np.expm1(self._value), one_count).astype(np.float32)

    def _orders(self, generator: np.random.Generator) -> Single:
        """Return numbers [c, G], evenly spaced in (0, 1): a gene of a part p of the cells is where they are < p.

        Cells that express the gene come first, in random order.
        """
        n, n_genes = self._value.shape
        expressed = np.ascontiguousarray(self._value.T > 0)
        shuffled = generator.permuted(np.tile(np.arange(n, dtype=np.int32), (n_genes, 1)), axis=1)[self._pool.place]
        first = np.take_along_axis(expressed, shuffled, axis=1)
        ahead, total = np.cumsum(first, axis=1, dtype=np.int32), self._n_expressing[:, None]
        among = np.where(
            first, (ahead - 0.5) / np.maximum(total, 1), (np.arange(n) - ahead + 0.5) / np.maximum(n - total, 1)
        )
        # a gene of no cell, or of all, has no boundary between the two
        detected = np.where(total == 0, 0.0, np.where(total == n, 1.0, self._detected[:, None]))
        order = np.empty((n_genes, n), dtype=np.float32)
        np.put_along_axis(
            order,
            shuffled,
            np.where(first, among * detected, detected + among * (1 - detected)).astype(np.float32),
            axis=1,
        )
        return np.ascontiguousarray(order.T)


def signed(cells: sparse.csr_matrix) -> Mask:
    """Return which genes have a negative value among ``cells`` [N, G], [G]."""
    return np.bincount(cells.indices[cells.data < 0], minlength=cells.shape[1]) > 0


def _bursts_of(level: Single) -> Array:
    """Return the mean number of bursts in a cell by the dispersion of expression [c, G]: mean^2 / variance, [G]."""
    mean = level.mean(axis=0, dtype=np.float64)
    variance = level.var(axis=0, dtype=np.float64)
    return np.asarray(1 / np.maximum(variance / np.square(mean), 1 / _MOST_BURSTS))


def _least(cells: sparse.csr_matrix) -> Array:
    """Return the least positive value of each cell, which stands for one count, [c]; log 2 for a cell without any."""
    least = np.full(cells.shape[0], np.inf)
    filled = np.diff(cells.indptr) > 0
    if filled.any():
        positive = np.where(cells.data > 0, cells.data, np.inf)
        least[filled] = np.minimum.reduceat(positive, cells.indptr[:-1][filled])
    return np.where(np.isfinite(least), least, np.log(2.0))
