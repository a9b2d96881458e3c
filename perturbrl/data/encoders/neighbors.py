"""Exact nearest neighbours by cosine similarity. Letters: N cells, G features, M reference cells, Q query cells."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from perturbrl import status
from perturbrl.data.preprocess.steps import Array, dense

CHUNK = 1024  # query cells compared at a time: CHUNK x M similarities are held
MOST_REFERENCES = 40_000  # every cell is compared with every reference: this keeps the work linear in the cells
# A sparse multiply-add costs some hundred times a dense one, so that a feature with more than this share of nonzeros in
# the reference cells is cheaper as a dense column (10 000 cells x 20 000 genes, one core).
DENSE_SHARE = 0.1

Rows = NDArray[np.int64]


def cosine_neighbors(x: Array, reference: Rows, queries: Rows, k: int) -> Rows:
    """Return the most similar reference cells of each query cell, never the cell itself.

    The similarity of x_i and x_j is x_i . x_j / (|x_i| |x_j|), and 0 if either is all zeros. The search is exact: every
    pair is compared, in Q * M * G operations.

    Parameters
    ----------
    x
        Values of all cells, shape [N, G], dense or CSR.
    reference
        Rows of the reference cells, shape [M].
    queries
        Rows of the query cells, shape [Q].
    k
        Number of neighbours; below M, or at most M if no query is a reference cell.

    Returns
    -------
    ndarray
        Rows in ``x``, shape [Q, k], most similar first.
    """
    import torch

    unit = _unit_rows(x)
    common, rare, rare_t = _split_columns(unit, reference)
    out = np.empty((len(queries), k), dtype=np.int64)
    place = np.full(unit.shape[0], -1)
    place[reference] = np.arange(len(reference))
    common_t = torch.from_numpy(common[reference]).T
    with status.step("nearest cells by cosine similarity") as step:
        for start in range(0, len(queries) if k else 0, CHUNK):
            step.at(f"cell {start + 1:,} of {len(queries):,}")
            rows = queries[start : start + CHUNK]
            similarity = torch.from_numpy(common[rows]) @ common_t
            if rare is not None:
                similarity += torch.from_numpy((rare[rows] @ rare_t).toarray())
            positions = place[rows]
            references = np.flatnonzero(positions >= 0)
            similarity[references, positions[references]] = -torch.inf
            out[start : start + CHUNK] = reference[similarity.topk(k, dim=1).indices.numpy()]
    return out


def neighbor_edges(x: Array, train: Rows, k: int) -> Rows:
    """Return directed edges [2, E] (source, target): each cell receives from its k - 1 nearest training cells.

    The cell itself is the k-th; its loop is left to the attention layer. E = N (k - 1); edges into training cells come
    first. No edge leaves a cell outside ``train``, so nothing flows from a test cell to any other. Of more than
    ``MOST_REFERENCES`` training cells, a random sample of that size is used, with a warning.
    """
    others = np.setdiff1d(np.arange(x.shape[0]), train)
    targets = np.concatenate([train, others])
    near = train
    if len(train) > MOST_REFERENCES:
        near = np.sort(np.random.default_rng(0).choice(train, MOST_REFERENCES, replace=False))
        warnings.warn(
            f"the encoder looks for the neighbours of a cell among {len(near):,} of the {len(train):,} training cells",
            stacklevel=2,
        )
    sources = np.concatenate([cosine_neighbors(x, near, rows, k - 1) for rows in (train, others)])
    return np.stack([sources.ravel(), np.repeat(targets, k - 1)])


def _unit_rows(x: Array) -> Array:
    if sparse.issparse(x):
        norm = np.sqrt(np.asarray(x.multiply(x).sum(axis=1)).ravel())
        scale = sparse.diags(np.where(norm > 0, 1 / np.where(norm > 0, norm, 1), 0).astype(np.float32))
        return sparse.csr_matrix(scale @ x.astype(np.float32))
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(norm > 0, norm, 1), dtype=np.float32)


def _split_columns(unit: Array, reference: Rows) -> tuple[NDArray[np.float32], Any, Any]:
    """Split the features into a dense block of common ones [N, G1] and the rare ones: CSR [N, G2], CSR [G2, M]."""
    if not sparse.issparse(unit):
        return unit, None, None
    share = np.bincount(unit[reference].indices, minlength=unit.shape[1]) / max(len(reference), 1)
    is_common = share > DENSE_SHARE
    columns = unit.tocsc()
    rare = columns[:, ~is_common].tocsr()
    return dense(columns[:, is_common]), rare, rare[reference].T.tocsr()
