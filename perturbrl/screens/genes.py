"""Which genes are used, and what the training cells say of them.

Letters: N cells, G genes, P conditions, K components.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.config import require
from perturbrl.data.preprocess import DataConfig, KeepFeatures
from perturbrl.rng import numpy_generator
from perturbrl.screens.leaks import require_training_rows
from perturbrl.screens.schema import Rows, Screen, ScreenSplit, group_means

CHUNK = 4096  # cells made dense at a time
MOST_DENSE = 4096  # features up to which their covariance is chosen as a matrix


def training_rows(split: ScreenSplit) -> Rows:
    """Return the rows on which anything may be fitted, perturbed and control cells together, sorted."""
    return np.sort(np.concatenate([split.train, split.control_train]))


def select(screen: Screen, split: ScreenSplit, data: DataConfig) -> Screen:
    """Keep the features that vary most over the training cells: ``data.n_features`` of each modality.

    Genes that a condition perturbs are chosen too where they vary, for their embedding describes the condition. RNA is
    chosen by scaled dispersion, everything else by variance (``data.select=hvg``).

    Raises
    ------
    UserError
        ``data.select`` is mutual_information, which needs pseudotime; or no feature of a modality varies.
    """
    require(
        data.select != "mutual_information",
        "data.select",
        "mutual_information needs pseudotime, which a screen does not have; choose hvg or none",
    )
    if data.select == "none":
        return screen
    rows = training_rows(split)
    require_training_rows(split, rows, "the selection of features")
    trained = screen.x[rows]
    columns: list[NDArray[np.int64]] = []
    slices: dict[str, slice] = {}
    for name, where in screen.slices.items():
        chosen = _best(name, trained if len(screen.slices) == 1 else trained[:, where], data.n_features)
        require(len(chosen) > 0, "data.select", f"no {name} feature varies over the {len(rows)} training cells")
        panel = screen.panel_columns
        perturbed = panel[(panel >= where.start) & (panel < where.stop)] - where.start
        varying = perturbed[np.asarray(trained[:, perturbed + where.start].max(axis=0).todense()).ravel() > 0]
        chosen = np.union1d(chosen, varying)
        first = sum(len(c) for c in columns)
        slices[name] = slice(first, first + len(chosen))
        columns.append(chosen + where.start)
    picked = np.concatenate(columns)
    if len(picked) == screen.x.shape[1]:
        return screen
    return dataclasses.replace(
        screen,
        x=sparse.csr_matrix(screen.x[:, picked]),
        features=tuple(screen.features[k] for k in picked),
        slices=slices,
    )


def pca_basis(
    screen: Screen, rows: Rows, k: int, most_cells: int = 20_000, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean [G] and principal components [K, G] (orthonormal rows, largest first) of cells ``rows``.

    K is the smallest of ``k``, G and the number of cells less one. At most ``most_cells`` of the cells are used, drawn
    by ``seed``. Each component's largest entry is positive.
    """
    if len(rows) > most_cells:
        rows = np.sort(numpy_generator(seed, "pca_basis").choice(rows, most_cells, replace=False))
    x = screen.x[rows]
    mean = np.asarray(x.mean(axis=0, dtype=np.float64)).ravel()
    k = min(k, x.shape[1], max(1, len(rows) - 1))
    if x.shape[1] <= MOST_DENSE:
        covariance = np.zeros((x.shape[1], x.shape[1]))
        for start in range(0, x.shape[0], CHUNK):
            centred = x[start : start + CHUNK].toarray().astype(np.float64) - mean
            covariance += centred.T @ centred
        components = np.linalg.eigh(covariance)[1][:, ::-1][:, :k].T
    else:
        centred_x = sparse.linalg.LinearOperator(
            x.shape,
            matvec=lambda v: x @ v.ravel() - mean @ v.ravel(),
            rmatvec=lambda u: x.T @ u.ravel() - mean * u.sum(),
            dtype=np.float64,
        )
        start_vector = numpy_generator(seed, "pca_basis", "start").standard_normal(min(x.shape))
        _, values, vectors = sparse.linalg.svds(centred_x, k=min(k, min(x.shape) - 1), v0=start_vector)
        components = vectors[np.argsort(-values)]
    return mean, components * _signs(components)[:, None]


def profiles(screen: Screen, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the mean of each condition that has cells among ``rows``, [p, G], and their indices [p], sorted."""
    present, group = np.unique(screen.condition[rows], return_inverse=True)
    return group_means(screen.x, rows, group, len(present)), present


def gene_embedding(screen: Screen, split: ScreenSplit, k: int) -> NDArray[np.float64]:
    """Return the gene scores U S [G, K] of the PCA of the training profiles (controls among them), K at most ``k``.

    Genes are the observations: each profile is centred over genes and not scaled (Ahlmann-Eltze, Huber and Anders
    2025). Each component's largest entry is positive.
    """
    rows = training_rows(split)
    require_training_rows(split, rows, "the gene embedding")
    means, _ = profiles(screen, rows)
    centred = means.T - means.mean(axis=1)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    k = min(k, len(s))
    scores = u[:, :k] * s[:k]
    return np.asarray(scores * _signs(scores.T), dtype=np.float64)


def _best(name: str, x_train: sparse.csr_matrix, n_features: Mapping[str, int | None]) -> NDArray[np.int64]:
    count = n_features.get(name)
    fit = KeepFeatures.fit_dispersion if name == "rna" else KeepFeatures.fit_variance
    return fit(x_train, count).columns


def _signs(components: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return +1 or -1 for each row: the sign of its entry of largest size."""
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.where(largest < 0, -1.0, 1.0)
