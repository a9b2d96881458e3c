"""Coordinates: in which a policy sees a cell, and in which it changes one. All fitted on training cells.

Letters: G genes, A action size, K numbers of the observed state, Z principal components that distances are taken in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds

from perturbrl.config import require
from perturbrl.envs.counterfactual.parts import SplitPart, spread
from perturbrl.screens.schema import PerturbationTable, Rows

STATES = ("pca", "genes")
ACTIONS = ("pca", "de", "genes")
COMPONENTS = 50  # for distances between populations, as scPerturb does
FITTED_CELLS = 5000  # enough for 50 components, and small at any number of cells
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """``change`` [G, A] has orthonormal columns; action 1 in column j moves a cell by ``reach[j]`` along it.

    A cell x is observed as ``(x - centre) @ state`` [K], of unit variance over training controls (genes) or along each
    component (pca). ``latent`` [G, Z] has orthonormal columns, the principal components of training cells about
    ``centre`` [G]. ``norm`` is the mean squared length of the changes of training conditions, ||mu_p - mu_0||^2.
    """

    change: Array
    reach: Array
    state: Array
    latent: Array
    centre: Array
    norm: float


def fit(
    table: PerturbationTable, train: SplitPart, state: str, action: str, state_size: int, action_size: int
) -> Geometry:
    """Fit the coordinates on the training part.

    ``action`` is ``pca`` (principal components, not centred, of the changes of training conditions: the first is
    close to what they share), ``de`` (the genes that training conditions change most, in standard errors) or ``genes``.

    Raises
    ------
    UserError
        Training conditions that change nothing.
    """
    effect, x = train.effect, table.screen.x
    norm = float((effect**2).sum(axis=1).mean())
    require(norm > 0, "env", f"the training conditions of {table.screen.source} do not differ from control")
    rows = spread(np.concatenate([train.cells, table.split.train]), FITTED_CELLS)
    components, spreads, centre = principal(x[rows], max(COMPONENTS, state_size if state == "pca" else 0))
    along = components[:, :state_size] / spreads[:state_size]
    observed = along if state == "pca" else np.diag(1.0 / _sd(x[train.cells]))
    change = _changes(table, train, action, action_size)
    # of training conditions, root mean square along each column; a column that none uses still moves a little
    reach = np.sqrt(((effect @ change) ** 2).mean(axis=0))
    return Geometry(change, np.maximum(reach, 1e-2 * reach.max()), observed, components[:, :COMPONENTS], centre, norm)


def principal(x: sparse.csr_matrix, most: int) -> tuple[Array, Array, Array]:
    """Return principal components [G, k] of the rows of ``x``, the standard deviation along each [k], and the mean [G].

    k is ``most``, or less where the rows have fewer dimensions. ``x`` is never made dense. Signs are such that the
    largest entry of a component is positive.
    """
    n, g = x.shape
    wide = x.astype(np.float64)
    mean = np.asarray(wide.mean(axis=0)).ravel()
    k = min(most, n - 1, g)
    if k >= min(n, g) - 1 or min(n, g) <= 4 * k:  # few enough that the exact decomposition is quicker
        _, s, vt = np.linalg.svd(wide.toarray() - mean, full_matrices=False)
        s, vt = s[:k], vt[:k]
    else:
        centred = LinearOperator(
            (n, g),
            matvec=lambda v: wide @ v - mean @ v,
            rmatvec=lambda u: wide.T @ u - mean * u.sum(),
            matmat=lambda v: wide @ v - mean @ v,
            rmatmat=lambda u: wide.T @ u - np.outer(mean, u.sum(axis=0)),
            dtype=np.float64,
        )
        _, s, vt = svds(centred, k=k, v0=np.ones(min(n, g)), solver="arpack")
        s, vt = s[::-1], vt[::-1]
    live = s > 1e-9 * max(float(s[0]), 1e-30)
    s, v = s[live], vt[live].T
    v = v * np.sign(v[np.abs(v).argmax(axis=0), np.arange(v.shape[1])])
    return v, s / np.sqrt(max(n - 1, 1)), mean


def _changes(table: PerturbationTable, train: SplitPart, action: str, size: int) -> Array:
    g = train.effect.shape[1]
    if action == "genes":
        return np.eye(g)
    if action == "de":
        score = np.abs(_in_standard_errors(table, train)).max(axis=0)
        genes = np.sort(np.argsort(-score, kind="stable")[:size])
        return np.eye(g)[:, genes]
    _, s, vt = np.linalg.svd(train.effect, full_matrices=False)
    v = vt[: min(size, int((s > 1e-9 * s[0]).sum()))].T
    return np.asarray(v * np.sign(v[np.abs(v).argmax(axis=0), np.arange(v.shape[1])]))


def _in_standard_errors(table: PerturbationTable, train: SplitPart) -> Array:
    """Return Welch's t of every training condition against control, [P, G]; 0 where neither varies."""
    x = table.screen.x
    error = {int(first): _squared_error(x[_of_context(train, int(first))]) for first in np.unique(train.first)}
    population = np.stack([_squared_error(x[rows]) for rows in train.population])
    both = np.sqrt(population + np.stack([error[int(first)] for first in train.first]))
    return np.divide(train.effect, both, out=np.zeros_like(both), where=both > 0)


def _of_context(part: SplitPart, first: int) -> Rows:
    return part.cells[first : first + int(part.count[part.first == first][0])]


def _squared_error(x: sparse.csr_matrix) -> Array:
    return np.asarray(_sd(x, floor=0.0) ** 2 / max(x.shape[0], 1))


def _sd(x: sparse.csr_matrix, floor: float = 1e-2) -> Array:
    wide = x.astype(np.float64)
    mean = np.asarray(wide.mean(axis=0)).ravel()
    square = np.asarray(wide.multiply(wide).mean(axis=0)).ravel()
    return np.asarray(np.maximum(np.sqrt(np.maximum(square - mean**2, 0.0)), floor))
