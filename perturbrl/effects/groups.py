"""Perturbed cells by condition, the control cells of their contexts, and the moments of such groups.

Everything that compares a condition with its controls starts here: what baselines learn from (``responses``), what
predictions are compared with (``observed``), and the parts of a split that environments use. Letters: N cells, G genes,
n conditions, g groups of cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.errors import UserError
from perturbrl.screens.schema import PerturbationTable, Rows

Array = NDArray[np.float64]

_CHUNK = 50_000


@dataclass(frozen=True)
class Groups:
    """Cells of n perturbed conditions beside control cells.

    ``conditions`` [n] are indices of the screen's conditions, sorted; ``contexts`` and ``cells`` (rows) are those of
    each. ``controls`` maps a context to the rows of its control cells; there may be further contexts.
    """

    conditions: Rows
    contexts: tuple[str, ...]
    cells: tuple[Rows, ...]
    controls: Mapping[str, Rows]

    @property
    def n_cells(self) -> Rows:
        """Number of cells of each condition, [n]."""
        return np.array([len(rows) for rows in self.cells], dtype=np.int64)

    @property
    def compared(self) -> Groups:
        """The same without the controls of contexts that no condition is in; contexts sorted."""
        controls = {context: self.controls[context] for context in sorted(set(self.contexts))}
        return Groups(self.conditions, self.contexts, self.cells, controls)

    @property
    def control_group(self) -> Rows:
        """Where ``moments`` has the controls of each condition, [n]."""
        names = list(self.controls)
        return len(self.cells) + np.array([names.index(context) for context in self.contexts], dtype=np.int64)

    def moments(self, x: sparse.csr_matrix) -> Moments:
        """Return the moments of expression ``x`` [N, G]: of each condition, then of the controls of each context."""
        return Moments(x, (*self.cells, *self.controls.values()))


def group_cells(table: PerturbationTable, rows: Rows, controls: Rows, use: str, spare: Rows | None = None) -> Groups:
    """Group the perturbed cells among ``rows`` by condition, and the control cells ``controls`` by context.

    Parameters
    ----------
    use
        What the cells are for in messages: ``training``, ``validation`` or ``test``.
    spare
        Control cells of contexts that have none among ``controls``.

    Raises
    ------
    UserError
        No cell is perturbed, or a context of perturbed cells has no control cells.
    """
    screen = table.screen
    labels = screen.condition[rows]
    perturbed = [c for c in np.unique(labels) if not screen.conditions[c].is_control]
    where = f"split={table.split.kind}"
    if not perturbed:
        lacking = f"no perturbed cells among the {use} cells of {screen.source}"
        raise UserError(f"{where}: {lacking}; choose other fractions or another split")
    conditions = np.array(perturbed, dtype=np.int64)
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], [conditions, conditions + 1])
    cells = tuple(np.sort(rows[order[start:end]]) for start, end in bounds.T)
    contexts = tuple(screen.conditions[c].context for c in conditions)
    by_context = {} if spare is None else _by_context(table, spare)
    by_context |= _by_context(table, controls)
    for context in sorted(set(contexts) - set(by_context)):
        raise UserError(f"{where}: context {context!r} has no control cells among the {use} cells of {screen.source}")
    return Groups(conditions, contexts, cells, by_context)


def _by_context(table: PerturbationTable, rows: Rows) -> dict[str, Rows]:
    screen = table.screen
    labels = screen.condition[rows]
    groups = {c.context: rows[labels == k] for k, c in enumerate(screen.conditions) if c.is_control}
    return {context: cells for context, cells in groups.items() if len(cells)}


class Moments:
    """Number of cells, mean and variance of g disjoint groups of cells, summed a bounded piece at a time."""

    def __init__(self, x: sparse.csr_matrix, groups: Sequence[Rows]) -> None:
        self._x = x
        self._group = np.full(x.shape[0], -1)
        for k, rows in enumerate(groups):
            self._group[rows] = k
        self.count: Array = np.array([len(rows) for rows in groups], dtype=np.float64)
        self.total = self._sums(1)

    @cached_property
    def square(self) -> Array:
        """Sums of squares, [g, G]."""
        return self._sums(2)

    @property
    def mean(self) -> Array:
        """Means, [g, G]."""
        return self.total / self.count[:, None]

    @property
    def variance(self) -> Array:
        """Variances with divisor n - 1, [g, G]; 0 for a single cell."""
        return variance(self.total, self.square, self.count)

    def _sums(self, power: int) -> Array:
        sums = np.zeros((len(self.count), self._x.shape[1]))
        rows = np.flatnonzero(self._group >= 0)
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            block = self._x[part].astype(np.float64)
            if power > 1:
                block.data **= power
            member = (np.ones(len(part)), (self._group[part], np.arange(len(part))))
            sums += (sparse.csr_matrix(member, (len(sums), len(part))) @ block).toarray()
        return sums


def variance(total: Array, square: Array, count: Array) -> Array:
    """Return the variance with divisor n - 1 from sums [g, G] of ``count`` [g] cells; 0 for a single cell."""
    n = count[:, None]
    return np.asarray(np.maximum(square - total**2 / n, 0.0) / np.maximum(n - 1, 1.0))
