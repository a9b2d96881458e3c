"""Which conditions, start cells and observed populations an environment may use.

Letters: G genes, P conditions of the part, n start cells, M cells of a population.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perturbrl.effects.groups import Moments, group_cells
from perturbrl.errors import UserError
from perturbrl.screens.schema import PerturbationTable, Rows, ScreenSplit


@dataclass(frozen=True)
class SplitPart:
    """One part of a split, ready for episodes.

    ``conditions`` [P] are indices of the screen's conditions, those with fewest targets first; ``n_targets`` [P] how
    many each combines. ``cells`` [n] are rows of start cells, context by context: those of condition i stand at
    ``first[i]`` to ``first[i] + count[i]``. ``control`` and ``truth`` [P, G] are mean profiles: of the control cells of
    its context, and of its own cells. ``population`` lists rows of each condition's own cells.
    """

    name: str
    conditions: Rows
    n_targets: Rows
    cells: Rows
    first: Rows
    count: Rows
    control: NDArray[np.float64]
    truth: NDArray[np.float64]
    population: tuple[Rows, ...]

    @property
    def effect(self) -> NDArray[np.float64]:
        """Observed change of each condition, [P, G]."""
        return self.truth - self.control


def name_of(split: ScreenSplit, controls: Rows) -> str:
    """Return which part of the split these control cells belong to.

    Conditions and observed populations follow from it: an environment that starts from training controls cannot
    reach a cell of the test set.

    Raises
    ------
    UserError
        There are none, or they are not all of one part.
    """
    if len(controls) == 0:
        raise UserError("env: no control cells to start episodes from; the split must leave some in each part")
    parts = {"train": split.control_train, "validation": split.control_validation, "test": split.control_test}
    for name, rows in parts.items():
        if np.isin(controls, rows).all():
            return name
    raise UserError("env: the start cells must be control cells of one part of the split: train, validation or test")


def part_of(table: PerturbationTable, controls: Rows, pool: int) -> SplitPart:
    """Gather the part of the split that ``controls`` belong to; at most ``pool`` cells are kept of each group.

    Means are taken over all cells; the cells kept are evenly spaced among them, hence shared out over batches.

    Raises
    ------
    UserError
        The part has no perturbed cells, or a condition has no control cell in its context.
    """
    screen, split = table.screen, table.split
    name = name_of(split, controls)
    rows: Rows = {"train": split.train, "validation": split.validation, "test": split.test}[name]
    groups = group_cells(table, rows, controls, "training" if name == "train" else name).compared
    n_targets = np.array([len(screen.conditions[i].targets) for i in groups.conditions], dtype=np.int64)
    order = np.argsort(n_targets, kind="stable")
    # not groups.moments: its rounding is another, and results of earlier versions stay bit-equal
    control = {context: _mean(table, cells) for context, cells in groups.controls.items()}
    starts = {context: spread(cells, pool) for context, cells in groups.controls.items()}
    firsts = dict(zip(starts, np.cumsum([0, *map(len, starts.values())])[:-1], strict=True))
    contexts = [groups.contexts[k] for k in order]
    return SplitPart(
        name=name,
        conditions=groups.conditions[order],
        n_targets=n_targets[order],
        cells=np.concatenate(list(starts.values())),
        first=np.array([firsts[c] for c in contexts], dtype=np.int64),
        count=np.array([len(starts[c]) for c in contexts], dtype=np.int64),
        control=np.stack([control[c] for c in contexts]),
        truth=Moments(screen.x, groups.cells).mean[order],
        population=tuple(spread(groups.cells[k], pool) for k in order),
    )


def spread(rows: Rows, most: int) -> Rows:
    """Return at most ``most`` of ``rows``, evenly spaced."""
    if len(rows) <= most:
        return rows
    return rows[(np.arange(most) * len(rows)) // most]


def _mean(table: PerturbationTable, rows: Rows) -> NDArray[np.float64]:
    return np.asarray(table.screen.x[rows].astype(np.float64).mean(axis=0)).ravel()
