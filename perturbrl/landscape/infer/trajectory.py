"""The cells that a network is inferred from, on or off for each gene. Letters: N cells, G genes, K branches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perturbrl.errors import UserError

Binary = NDArray[np.bool_]
Values = NDArray[np.float64]
LEAST_CELLS = 30  # of a branch; fewer cannot tell an order of states from noise


@dataclass(frozen=True)
class Trajectory:
    """Expression along pseudotime.

    ``values`` [N, G]; ``pseudotime`` [N, K], NaN where a cell is not of a branch; ``branches`` names the K branches;
    ``labels`` [N] are cell types, or None; ``averaged`` is how many cells each row of ``values`` is a mean of, by which
    the number of independent cells is divided.
    """

    name: str
    genes: tuple[str, ...]
    values: Values
    pseudotime: Values
    branches: tuple[str, ...]
    labels: NDArray[np.str_] | None = None
    averaged: int = 1

    def __post_init__(self) -> None:
        """Refuse branches with too few cells, and genes whose values are all equal."""
        least = max(LEAST_CELLS, 3 * len(self.genes))
        for branch, n in zip(self.branches, np.isfinite(self.pseudotime).sum(axis=0), strict=True):
            if n < least:
                raise UserError(
                    f"{self.name}: branch {branch!r} has {n} cells; {len(self.genes)} genes need at least {least}"
                )
        constant = np.flatnonzero(self.values.max(axis=0) == self.values.min(axis=0))
        if len(constant):
            gene, value = self.genes[constant[0]], self.values[0, constant[0]]
            raise UserError(
                f"{self.name}: gene {gene!r} is {value:g} in every cell and cannot be on in some and off in others; "
                f"leave it out of the genes ({len(constant)} of {len(self.genes)} genes are constant)"
            )

    @property
    def n_independent(self) -> float:
        """The number of cells of any branch, divided by how many each is averaged over."""
        return float(np.isfinite(self.pseudotime).any(axis=1).sum()) / self.averaged


def positions(names: Sequence[str], known: Sequence[str], location: str) -> list[int]:
    """Return the places of ``names`` among ``known``.

    Raises
    ------
    UserError
        A name is missing (the message says how many are) or is named twice.
    """
    places = {name: place for place, name in reversed(list(enumerate(known)))}
    if missing := [name for name in names if name not in places]:
        by_case = {name.lower(): name for name in known}
        hint = next((f"; there is {by_case[m.lower()]!r}" for m in missing if m.lower() in by_case), "")
        raise UserError(
            f"{location}: no gene is called {missing[0]!r} ({len(missing)} of {len(names)} names are missing){hint}"
        )
    if twice := [name for k, name in enumerate(names) if name in names[:k]]:
        raise UserError(f"{location}: gene {twice[0]!r} is named twice")
    return [places[name] for name in names]


def two_means(values: Values) -> float:
    """Return the threshold between the two clusters of ``values`` [N] that have the least squares within: 2-means.

    In one dimension the best two clusters are a cut of the sorted values, so all cuts are tried: no start is drawn. The
    threshold is the mean of the two centroids, as in IQCELL (Heydari et al. 2022, PLoS Comput Biol 18(2): e1009907).
    """
    ordered = np.sort(values)
    low = np.arange(1, len(ordered), dtype=np.float64)  # sizes of the lower cluster
    high = len(ordered) - low
    low_sum = np.cumsum(ordered)[:-1]
    high_sum = ordered.sum() - low_sum
    between = np.where(np.diff(ordered) > 0, low_sum**2 / low + high_sum**2 / high, -np.inf)
    cut = int(np.argmax(between))
    return float((low_sum[cut] / low[cut] + high_sum[cut] / high[cut]) / 2)


def binarise(values: Values) -> Binary:
    """Return which of the values [N, G] are above the 2-means threshold of their gene, [N, G]."""
    return np.stack([column > two_means(column) for column in values.T], axis=1)
