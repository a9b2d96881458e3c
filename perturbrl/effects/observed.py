"""What predictions are held against: the observed test cells. Letters: n test conditions, N cells, G genes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.bounds import Fraction, NonNegativeFloat, NonNegativeInt, Number, PositiveInt, Seed
from perturbrl.effects import profile_metrics
from perturbrl.effects.responses import trained
from perturbrl.errors import UserError
from perturbrl.rng import numpy_generator
from perturbrl.screens.schema import PerturbationTable, Rows

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_CHUNK = 50_000


@dataclass(frozen=True)
class ScoreConfig:
    """How predictions are scored.

    ``alpha`` is the false discovery rate of a differential gene, ``min_log_fold`` the least |log2 fold change| of an up
    or down call, ``min_cpm`` the least expression in controls of a gene that is tested (counts per million of the
    table's genes of its modality), ``n_top`` the genes of highest control mean in ``l2_top``, ``n_components`` the
    dimensions of the PCA for energy distances, ``max_cells`` the cells of a condition, true and predicted, in
    tests and energy distances, ``max_controls`` the control cells of a context that tests compare with,
    ``n_duplicates`` the random halvings of the technical duplicate.
    """

    alpha: Fraction
    min_log_fold: NonNegativeFloat
    min_cpm: NonNegativeFloat
    n_top: PositiveInt
    n_components: PositiveInt
    max_cells: Annotated[int, Number(least=2)]
    max_controls: Annotated[int, Number(least=2)]
    n_duplicates: NonNegativeInt
    seed: Seed


@dataclass(frozen=True, eq=False)  # hashed by identity: what is known of one is kept as long as it lives
class Truth:
    """Observed changes of n test conditions, and the cells behind them.

    ``change`` [n, G] is mu_p - mu_0 over test cells and the test controls of the same context, ``control`` [n, G] that
    mu_0, ``centre`` [n, G] the training mean m - mu_0 (train cells only). ``noise`` [n] is the sampling error of a
    change, summed over used genes; ``weights`` [n, G] those of the weighted errors. ``used`` [n, G] leaves out a
    condition's own targets, ``panel_free`` [G] those of every condition. ``cells`` are the rows of each condition's
    test cells, ``controls`` those of each context's test controls.
    """

    table: PerturbationTable
    config: ScoreConfig
    conditions: NDArray[np.int64]
    strata: tuple[str, ...]
    cells: tuple[Rows, ...]
    controls: Mapping[str, Rows]
    change: Array
    control: Array
    centre: Array
    noise: Array
    weights: Array
    used: Mask
    panel_free: Mask

    @cached_property
    def contexts(self) -> tuple[str, ...]:
        """Context of each condition."""
        return tuple(self.table.screen.conditions[c].context for c in self.conditions)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Name of each condition."""
        return tuple(self.table.screen.conditions[c].name for c in self.conditions)

    @cached_property
    def n_cells(self) -> NDArray[np.int64]:
        """Number of test cells of each condition."""
        return np.array([len(rows) for rows in self.cells], dtype=np.int64)

    @cached_property
    def effect_size(self) -> Array:
        """||mu_p - mu_0|| of each condition over its used genes."""
        return np.asarray(np.sqrt(np.where(self.used, np.square(self.change), 0.0).sum(axis=1)))

    def n_compared(self, index: int) -> int:
        """Return how many cells of a condition, true and predicted alike, tests and energy distances take.

        No more than it has controls: a control cell that stood for two would be counted as two observations.
        """
        return min(len(self.cells[index]), len(self.controls[self.contexts[index]]), self.config.max_cells)


def observe_truth(table: PerturbationTable, config: ScoreConfig) -> Truth:
    """Return the truth of the test cells of ``table``.

    Raises
    ------
    UserError
        The test set is empty, or a test context has no test controls.
    """
    return truth_of(table, config, table.split.test, table.split.control_test)


def truth_of(table: PerturbationTable, config: ScoreConfig, rows: Rows, control_rows: Rows) -> Truth:
    """Return the truth that the perturbed cells ``rows`` and the controls ``control_rows`` show.

    Raises
    ------
    UserError
        ``rows`` are empty, or a context among them has no controls.
    """
    screen = table.screen
    named = screen.condition[rows]
    picked = np.array([c for c in np.unique(named) if not screen.conditions[c].is_control], dtype=np.int64)
    if not len(picked):
        raise UserError(f"split={table.split.kind}: the test set has no perturbed cells; nothing can be scored")
    order = np.argsort(named, kind="stable")
    bounds = np.searchsorted(named[order], [picked, picked + 1])
    cells = tuple(np.sort(rows[order[a:b]]) for a, b in bounds.T)
    contexts = [screen.conditions[c].context for c in picked]
    controls = {
        context: control_rows[screen.condition[control_rows] == screen.control_of(int(picked[contexts.index(context)]))]
        for context in sorted(set(contexts))
    }
    for context, own in controls.items():
        if not len(own):
            raise UserError(f"split={table.split.kind}: context {context!r} has test conditions but no test controls")
    used, panel_free = _masks(table, picked)
    group = np.full(len(screen.condition), -1)
    for i, own in enumerate((*cells, *controls.values())):
        group[own] = i
    stats = _Moments.of(screen.x, group, len(cells) + len(controls))
    at = len(cells) + np.array([list(controls).index(context) for context in contexts])
    change, control = stats.mean[: len(cells)] - stats.mean[at], stats.mean[at]
    error = stats.variance / stats.count[:, None]
    return Truth(
        table=table,
        config=config,
        conditions=picked,
        strata=tuple(table.split.strata.get(int(c), table.split.kind) for c in picked),
        cells=cells,
        controls=controls,
        change=change,
        control=control,
        centre=trained(table).mean_changes(picked),
        noise=np.where(used, error[: len(cells)] + error[at], 0.0).sum(axis=1),
        weights=profile_metrics.weights(stats.against_rest(at, np.array(contexts)), used),
        used=used,
        panel_free=panel_free,
    )


@dataclass(frozen=True)
class _Moments:
    """Mean and variance (n - 1) [n, G] and number of cells [n] of groups."""

    count: Array
    total: Array
    square: Array

    @classmethod
    def of(cls, x: sparse.csr_matrix, group: NDArray[np.int64], n_groups: int) -> _Moments:
        """Sum over the rows of ``x`` whose ``group`` is not -1, in blocks."""
        total, square = np.zeros((n_groups, x.shape[1])), np.zeros((n_groups, x.shape[1]))
        rows = np.flatnonzero(group >= 0)
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            block = x[part].astype(np.float64)
            ones = sparse.csr_matrix((np.ones(len(part)), (group[part], np.arange(len(part)))), (n_groups, len(part)))
            total += (ones @ block).toarray()
            block.data **= 2
            square += (ones @ block).toarray()
        return cls(np.bincount(group[rows], minlength=n_groups).astype(np.float64), total, square)

    @property
    def mean(self) -> Array:
        return self.total / self.count[:, None]

    @property
    def variance(self) -> Array:
        return _variance(self.total, self.square, self.count)

    def against_rest(self, control: NDArray[np.int64], contexts: NDArray[np.str_]) -> Array:
        """Return t of each condition against all other cells of its context, [n, G].

        As scanpy's ``t-test_overestim_var``: Welch's t in which the rest counts as many cells as the condition.
        """
        n = len(control)
        out = np.zeros((n, self.total.shape[1]))
        for context in np.unique(contexts):
            own = np.flatnonzero(contexts == context)
            members = [*own, control[own[0]]]
            count = self.count[members].sum() - self.count[own]
            total = self.total[members].sum(axis=0) - self.total[own]
            square = self.square[members].sum(axis=0) - self.square[own]
            size = self.count[own][:, None]
            error = np.sqrt((self.variance[own] + _variance(total, square, count)) / size)
            difference = self.mean[own] - total / count[:, None]
            out[own] = np.where(error > 0, difference / np.where(error > 0, error, 1.0), 0.0)
        return out


def _variance(total: Array, square: Array, count: Array) -> Array:
    """Return the variance with divisor n - 1, [n, G]; 0 for a single cell."""
    n = count[:, None]
    return np.asarray(np.maximum(square - total**2 / n, 0.0) / np.maximum(n - 1, 1.0))


def _masks(table: PerturbationTable, conditions: NDArray[np.int64]) -> tuple[Mask, Mask]:
    screen = table.screen
    used = np.ones((len(conditions), len(screen.features)), dtype=bool)
    for row, c in enumerate(conditions):
        used[row, screen.target_columns(int(c))] = False
    panel_free = np.ones(len(screen.features), dtype=bool)
    panel_free[screen.panel_columns] = False
    return used, panel_free


def sample(rows: Rows, n: int, seed: int, *names: str | int) -> Rows:
    """Draw at most ``n`` of ``rows``, each once; all of them, as they are, if there are no more."""
    if len(rows) <= n:
        return rows
    return numpy_generator(seed, *names).choice(rows, size=n, replace=False)
