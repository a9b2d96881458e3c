"""What predictions are compared with: the observed test cells. Letters: n test conditions, N cells, G genes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from perturbrl.bounds import Fraction, NonNegativeFloat, NonNegativeInt, Number, PositiveInt, Seed
from perturbrl.effects import profile_metrics
from perturbrl.effects.groups import Array, Moments, group_cells, variance
from perturbrl.effects.responses import trained
from perturbrl.rng import numpy_generator
from perturbrl.screens.schema import PerturbationTable, Rows

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ScoreConfig:
    """How predictions are scored.

    ``alpha`` is the false discovery rate of a differential gene, ``min_log_fold`` the least |log2 fold change| of an up
    or down call, ``min_cpm`` the least expression, in controls or in perturbed cells, of a gene that is tested (counts
    per million of the table's genes of its modality), ``n_top`` the genes of highest control mean in ``l2_top``,
    ``n_components`` the dimensions of the PCA for energy distances, ``max_cells`` the cells of a condition, true and
    predicted, in tests and energy distances, ``max_controls`` the control cells of a context that tests compare with,
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
class ObservedEffects:
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
    def design(self) -> dict[str, int]:
        """The arguments of ``metrics_info.columns_of``: what can be ranked on these conditions."""
        known, split = self.table.screen.conditions, self.table.split
        used = self.table.conditions_of(np.concatenate([split.train, split.validation, split.test]))
        together = Counter(self.contexts)
        return {
            "n_perturbations": len({known[k].targets for k in used}),
            "most_together": max(together.values(), default=0),
            "n_training": len(self.table.conditions_of(split.train)),
        }

    @cached_property
    def effect_size(self) -> Array:
        """||mu_p - mu_0|| of each condition over its used genes."""
        return np.asarray(np.sqrt(np.where(self.used, np.square(self.change), 0.0).sum(axis=1)))

    def compared_controls(self, context: str) -> Rows:
        """Return the rows of the test controls that tests compare with, at most ``max_controls`` of a context."""
        config = self.config
        return sample(self.controls[context], config.max_controls, config.seed, "score/controls", context)

    def n_compared(self, index: int) -> int:
        """Return how many cells of a condition, true and predicted alike, tests and energy distances take.

        No more than it has controls: a control cell that stood for two would be counted as two observations.
        """
        return min(len(self.cells[index]), len(self.controls[self.contexts[index]]), self.config.max_cells)


def observe_effects(table: PerturbationTable, config: ScoreConfig) -> ObservedEffects:
    """Return the effects that the test cells of ``table`` show.

    Raises
    ------
    UserError
        The test set is empty, or a test context has no test controls.
    """
    return effects_of(table, config, table.split.test, table.split.control_test, "test")


def effects_of(
    table: PerturbationTable, config: ScoreConfig, rows: Rows, control_rows: Rows, use: str
) -> ObservedEffects:
    """Return the effects that the perturbed cells ``rows`` and the controls ``control_rows`` show.

    Arguments and errors as of ``group_cells``.
    """
    groups = group_cells(table, rows, control_rows, use).compared
    conditions, n, at = groups.conditions, len(groups.cells), groups.control_group
    used, panel_free = _masks(table, conditions)
    moments = groups.moments(table.screen.x)
    error = moments.variance / moments.count[:, None]
    return ObservedEffects(
        table=table,
        config=config,
        conditions=conditions,
        strata=tuple(table.split.strata.get(int(c), table.split.kind) for c in conditions),
        cells=groups.cells,
        controls=groups.controls,
        change=moments.mean[:n] - moments.mean[at],
        control=moments.mean[at],
        centre=trained(table).mean_changes(conditions),
        noise=np.where(used, error[:n] + error[at], 0.0).sum(axis=1),
        weights=profile_metrics.weights(_against_rest(moments, at, np.array(groups.contexts)), used),
        used=used,
        panel_free=panel_free,
    )


def _against_rest(moments: Moments, control: Rows, contexts: NDArray[np.str_]) -> Array:
    """Return t of each condition against all other cells of its context, [n, G].

    As scanpy's ``t-test_overestim_var``: Welch's t in which the rest counts as many cells as the condition.
    """
    out = np.zeros((len(control), moments.total.shape[1]))
    for context in np.unique(contexts):
        same = np.flatnonzero(contexts == context)
        members = [*same, control[same[0]]]
        count = moments.count[members].sum() - moments.count[same]
        total = moments.total[members].sum(axis=0) - moments.total[same]
        square = moments.square[members].sum(axis=0) - moments.square[same]
        size = moments.count[same][:, None]
        error = np.sqrt((moments.variance[same] + variance(total, square, count)) / size)
        difference = moments.mean[same] - total / count[:, None]
        out[same] = np.where(error > 0, difference / np.where(error > 0, error, 1.0), 0.0)
    return out


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
