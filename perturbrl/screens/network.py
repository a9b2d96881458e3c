"""A kernel between the targets of a screen from a network of genes, such as STRING: who is reached by the same walks.

Letters: V genes of the network, E edges, T targets, P conditions, K components.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.config import require
from perturbrl.data.readers.opened import listed
from perturbrl.errors import UserError
from perturbrl.rng import numpy_generator

Block = NDArray[np.float64]
RESTART = 0.5
STEPS = 4
ENDS = (("entity1", "entity2"), ("source", "target"), ("from", "to"), ("tf", "target"))


@dataclass(frozen=True)
class TargetKernel:
    """``kernel`` [T, T] between targets, with 1 on the diagonal; zero for a target that is ``missing`` [T]."""

    walks: sparse.csr_matrix
    missing: NDArray[np.bool_]

    @property
    def kernel(self) -> Block:
        """The cosine of square roots of visits, [T, T]."""
        return np.asarray((self.walks @ self.walks.T).toarray())

    def between(self, conditions: Sequence[Sequence[int]]) -> Block:
        """Return the kernel [P, P] between sets of targets: the cosine of their sums; zero for an empty set."""
        rows = np.repeat(np.arange(len(conditions)), [len(c) for c in conditions])
        columns = np.array([t for c in conditions for t in c], dtype=np.int64)
        member = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(conditions), self.walks.shape[0]))
        summed = _unit(sparse.csr_matrix(member @ self.walks))
        return np.asarray((summed @ summed.T).toarray())

    def components(self, trained: NDArray[np.bool_], k: int) -> Block:
        """Return k coordinates of each target [T, k] whose products are the kernel, as nearly as k can be.

        They are the eigenvectors of the kernel between training targets, times the roots of the eigenvalues; a target
        that is not trained has its Nystroem extension (Williams and Seeger 2001). Columns beyond the rank are zero.
        """
        kernel = self.kernel
        values, vectors = np.linalg.eigh(kernel[np.ix_(trained, trained)])
        values, vectors = values[::-1][:k], vectors[:, ::-1][:, :k]
        used = values > 1e-9 * max(1.0, float(values[0]) if len(values) else 1.0)
        largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)[0]
        vectors = vectors[:, used] * np.where(largest[used] < 0, -1.0, 1.0)
        out = np.zeros((len(kernel), k))
        out[:, : used.sum()] = kernel[:, trained] @ vectors / np.sqrt(values[used])
        return out


def target_kernel(
    file: str, genes: Sequence[str], aliases: Mapping[str, str], shuffle: int | None, where: str
) -> TargetKernel:
    """Walk at random from each target's gene: four steps, each returning to the start with probability 1/2.

    Two targets are as similar as the cosine between the square roots of their visits.

    Parameters
    ----------
    file
        Edges: a .csv (else tab-separated) table with columns entity1 and entity2, or source and target. Direction and
        repeated edges do not count.
    genes
        The gene of each of T targets.
    aliases
        Names in the network for genes that have another name in the screen.
    shuffle
        A seed, to hand the places in the network to other targets: the control that knows nothing. None for the truth.
    where
        The key of the file, for messages.

    Raises
    ------
    UserError
        The file cannot be used, or holds none of the genes.
    """
    adjacency, row = read_edges(file, f"{where}={file}")
    place = [row.get(aliases.get(gene, gene), -1) for gene in genes]
    missing = np.array([p < 0 for p in place])
    require(not missing.all(), f"{where}={file}", f"none of the {len(genes)} targets is in it, such as {genes[0]}")
    at = np.flatnonzero(~missing)
    starts = np.array(place, dtype=np.int64)[at]
    if shuffle is not None:
        starts = numpy_generator(shuffle, "network").permutation(starts)
    start = sparse.csr_matrix((np.ones(len(at)), (at, starts)), shape=(len(genes), len(row)))
    step = sparse.diags(1.0 / np.maximum(np.asarray(adjacency.sum(axis=1)).ravel(), 1.0)) @ adjacency
    visits = start
    for _ in range(STEPS):
        visits = RESTART * start + (1.0 - RESTART) * (visits @ step)
    return TargetKernel(_unit(sparse.csr_matrix(visits).sqrt()), missing)


def read_edges(file: str, where: str) -> tuple[sparse.csr_matrix, dict[str, int]]:
    """Return the symmetric adjacency [V, V] of a network, without loops, and the row of each gene.

    Raises
    ------
    UserError
        The file is missing or of another form, or has no edge.
    """
    path = Path(file).expanduser()
    form = "a table (.csv, or tab-separated) with columns entity1 and entity2, or source and target"
    require(path.is_file(), where, f"no such file; give {form}")
    try:
        table = pd.read_csv(path, sep=None, engine="python", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: cannot be read as {form} ({str(error).splitlines()[0][:120]})") from None
    lower = {str(c).lower(): c for c in table.columns}
    ends = next((pair for pair in ENDS if all(name in lower for name in pair)), None)
    if ends is None:
        raise UserError(
            f"{where}: needs columns entity1 and entity2, or source and target; it has {listed(table.columns)}"
        )
    one, two = (table[lower[name]].to_numpy(dtype=str) for name in ends)
    edges = (one != two) & (one != "") & (two != "")
    require(bool(edges.any()), where, "holds no edge between two genes")
    names, index = np.unique(np.concatenate([one[edges], two[edges]]), return_inverse=True)
    first, second = index[: edges.sum()], index[edges.sum() :]
    both = (np.concatenate([first, second]), np.concatenate([second, first]))
    adjacency = sparse.csr_matrix((np.ones(2 * int(edges.sum())), both), shape=(len(names), len(names)))
    adjacency.data[:] = 1.0
    return adjacency, {str(name): k for k, name in enumerate(names)}


def _unit(rows: sparse.csr_matrix) -> sparse.csr_matrix:
    length = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    return sparse.csr_matrix(sparse.diags(1.0 / np.where(length > 0, length, 1.0)) @ rows)
