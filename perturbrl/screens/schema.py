"""What the task of predicting perturbations sees of a data set.

Letters: N cells, G genes, P conditions (controls among them), K numbers of a description, C numbers of covariates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

Rows = NDArray[np.int64]
T = TypeVar("T")
CHUNK = 65_536  # cells whose copy is alive at a time


def group_means(
    x: sparse.csr_matrix, rows: NDArray[np.int64], group: NDArray[np.int64], n_groups: int
) -> NDArray[np.float64]:
    """Return the mean of the rows of ``x`` [N, G] of each group, [n_groups, G]; NaN for a group without any.

    ``group`` numbers the group of each of ``rows``. Sums are taken in float64.
    """
    sums = np.zeros((n_groups, x.shape[1]))
    for start in range(0, len(rows), CHUNK):
        part, labels = rows[start : start + CHUNK], group[start : start + CHUNK]
        present, labels = np.unique(labels, return_inverse=True)
        ones = sparse.csr_matrix((np.ones(len(part)), (labels, np.arange(len(part)))), shape=(len(present), len(part)))
        sums[present] += (ones @ x[part]).toarray()
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums / np.bincount(group, minlength=n_groups)[:, None]


@dataclass(frozen=True, order=True)
class Condition:
    """A set of perturbed targets (sorted; empty for control) in a context (a cell type, or ""), at a dose (or None)."""

    targets: tuple[str, ...]
    context: str = ""
    dose: float | None = None

    @property
    def is_control(self) -> bool:
        """Whether nothing is perturbed."""
        return not self.targets

    @property
    def name(self) -> str:
        """``A+B``, or ``control``; then ``@dose`` and ``|context`` where there are any."""
        dose = "" if self.dose is None else f"@{self.dose:g}"
        return ("+".join(self.targets) or "control") + dose + (f"|{self.context}" if self.context else "")


@dataclass(frozen=True)
class Screen:
    """Expression of N cells under P conditions.

    ``x`` [N, G] float32, log-normalised, sparse. ``condition`` [N] indexes ``conditions`` (sorted, each once; one
    control for each context); ``batch`` [N] indexes ``batches``. ``slices`` names the modality of columns. ``notes``
    are sentences on what was left out or assumed. ``genes`` maps a target whose label says how its gene is changed
    (``Gata1_ko``) to that gene and a sign. ``columns`` names the obs column behind ``context``, ``dose`` and ``batch``.
    """

    x: sparse.csr_matrix
    features: tuple[str, ...]
    slices: Mapping[str, slice]
    condition: Rows
    conditions: tuple[Condition, ...]
    batch: Rows
    batches: tuple[str, ...]
    obs: pd.DataFrame
    source: str
    checksum: str
    notes: tuple[str, ...] = ()
    genes: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)

    def gene_of(self, target: str) -> str:
        """Return the gene that a target changes: ``Gata1`` for ``Gata1_ko``, else the target itself."""
        return self.genes.get(target, (target, 1.0))[0]

    def sign_of(self, target: str) -> float:
        """Return -1 where the label of a target says that its gene is held down, else 1."""
        return self.genes.get(target, (target, 1.0))[1]

    def target_columns(self, condition: int) -> NDArray[np.int64]:
        """Return the columns of x that read a gene perturbed in a condition (for masking), sorted; [] for controls."""
        return self._columns_of(self.conditions[condition].targets)

    @property
    def panel_columns(self) -> NDArray[np.int64]:
        """Columns of x that read a gene perturbed in any condition, sorted."""
        return self._columns_of(t for c in self.conditions for t in c.targets)

    def _columns_of(self, targets: Iterable[str]) -> NDArray[np.int64]:
        genes = {self.gene_of(t) for t in targets}
        # A protein that shares its name with a gene of the RNA stands under protein:NAME.
        names = genes | {f"{modality}:{gene}" for modality in self.slices for gene in genes}
        return np.array([k for k, name in enumerate(self.features) if name in names], dtype=np.int64)

    @property
    def is_control(self) -> NDArray[np.bool_]:
        """Which cells are controls, [N]."""
        return np.array([c.is_control for c in self.conditions])[self.condition]

    def control_of(self, condition: int) -> int:
        """Return the index of the control condition of the same context."""
        context = self.conditions[condition].context
        return next(i for i, c in enumerate(self.conditions) if c.is_control and c.context == context)


@dataclass(frozen=True)
class ScreenSplit:
    """Which cells of a screen may be used for what; six disjoint, sorted sets of rows.

    ``train``, ``validation``, ``test`` hold perturbed cells, ``control_*`` control cells (50 / 25 / 25 % of each
    context and batch; those of what is held out whole never train). ``strata`` names the kind of each test and
    validation condition (``single``, ``seen0``, ``seen1``, ``seen2``, ``context``, ``dose``, ``batch``, ``cells``).
    ``sha256`` is that of the split file's content. ``notes`` are sentences on what was left out or is too small;
    ``leaks`` say what test data the training sees by design.
    """

    kind: str
    seed: int
    train: Rows
    validation: Rows
    test: Rows
    control_train: Rows
    control_validation: Rows
    control_test: Rows
    strata: Mapping[int, str]
    sha256: str
    leaks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)  # compared by identity: arrays have no truth value
class PerturbationTable:
    """A screen, its split, and what a model may know of a condition.

    ``description`` [P, K] float32 says which perturbation it is (zero for controls), ``covariates`` [P, C] float32 in
    which context and at which dose; both are fitted on training cells only. ``seen`` [P] tells for each condition
    whether it has training cells. ``kernel`` [P, P], if there is one, says how similar conditions are by a network.
    """

    screen: Screen
    split: ScreenSplit
    description: NDArray[np.float32]
    covariates: NDArray[np.float32]
    seen: NDArray[np.bool_]
    leaks: tuple[str, ...] = field(default=())
    kernel: NDArray[np.float64] | None = None
    _derived: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """Return what ``compute`` returned when it was first called under ``name``; it lives as long as the table."""
        if name not in self._derived:
            self._derived[name] = compute()
        value: T = self._derived[name]
        return value

    def conditions_of(self, rows: Rows) -> NDArray[np.int64]:
        """Return the indices of the conditions that have cells among ``rows``, sorted."""
        return np.unique(self.screen.condition[rows])
