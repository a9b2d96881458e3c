"""Pseudotime: diffusion pseudotime, the row number, or a column of the source. Letters: N cells, G features."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from perturbrl import status
from perturbrl.config import require
from perturbrl.data.preprocess.config import DataConfig
from perturbrl.data.preprocess.steps import Array, dense
from perturbrl.data.schema import RawCells
from perturbrl.errors import UserError

Rows = NDArray[np.int64]
Times = NDArray[np.float64]
MIN_GAP = 1e-10  # least 1 - eigenvalue; rounding can bring a slow process to 1
GRAPH_CELLS = 40_000  # search and eigenvectors take time with the square of the cells in the graph; this many: 10 s


def pseudotime(raw: RawCells, x: Array, config: DataConfig, train: Rows, test: Rows, seed: int) -> Times:
    """Return the pseudotime of the cells, of the kind that ``config.pseudotime`` names.

    Parameters
    ----------
    raw
        The N cells of a source.
    x
        Values for diffusion pseudotime, shape [N, G]; not used for the other kinds.
    config
        Kind, root and settings (``conf/data``).
    train, test
        Row numbers of the training and test cells.
    seed
        Seed of the principal components and of the sample of cells for the graph.

    Returns
    -------
    ndarray
        Shape [N], float64.

    Raises
    ------
    UserError
        ``obs`` without a complete column ``pseudotime``; a root that is no training cell; too few cells for ``dpt``.
    """
    if config.pseudotime_kind == "row":
        return np.arange(raw.n_cells, dtype=np.float64)
    if config.pseudotime_kind == "obs":
        return _from_obs(raw)
    root = _root(raw, config, train)
    return diffusion_pseudotime(x, train, test, root, config.dpt_pcs, config.dpt_neighbors, config.dpt_components, seed)


def diffusion_pseudotime(
    x: Array, train: Rows, test: Rows, root: int, n_pcs: int, n_neighbors: int, n_components: int, seed: int
) -> Times:
    """Return diffusion pseudotime (Haghverdi et al. 2016), scaled to [0, 1] over the training cells.

    Principal components, neighbour graph and eigenvectors are fitted on the training cells. A test cell gets the mean
    of its nearest training cells. A training cell without a path to the root gets 1, with a warning. If there are more
    than ``GRAPH_CELLS`` training cells, the graph has a random sample of that size with the root in it, and the others
    get the mean of their nearest cells in the graph.

    Parameters
    ----------
    x
        Values of all cells, shape [N, G].
    train, test
        Row numbers of the training and test cells.
    root
        The row of ``train`` with pseudotime 0.
    n_pcs
        Number of principal components; with at most as many features, ``x`` itself is used.
    n_neighbors
        Neighbours of a cell in the graph, without the cell itself (scanpy counts it).
    n_components
        Number of diffusion components, without the stationary one.
    seed
        Seed of the principal components and of the sample of cells.

    Returns
    -------
    ndarray
        Shape [N], float64.

    Raises
    ------
    UserError
        The graph has too few cells for ``n_neighbors``.
    """
    from sklearn.neighbors import NearestNeighbors

    graph = _graph_cells(train, root, seed)
    message = f"{n_neighbors} neighbours need more than {n_neighbors} training cells; there are {len(graph)}"
    require(n_neighbors < len(graph), "data.dpt_neighbors", message)
    with status.step("diffusion pseudotime: principal components"):
        scores = _principal_components(x, train, n_pcs, seed)
    with status.step(f"diffusion pseudotime: neighbours of {len(graph):,} cells"):
        search = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(scores[graph])
        distance, neighbour = search.kneighbors()
    times = np.empty(len(scores))
    with status.step("diffusion pseudotime: eigenvectors"):
        times[graph] = _diffusion_distance(distance, neighbour, int(np.searchsorted(graph, root)), n_components)
    others = test
    if len(graph) < len(train):
        others = np.setdiff1d(np.concatenate([train, test]), graph)
        # a tree where there are few dimensions; it rounds and breaks ties in another way, so small data do without
        search = NearestNeighbors(n_neighbors=n_neighbors).fit(scores[graph])
    if len(others):
        with status.step(f"diffusion pseudotime: nearest cells of {len(others):,} others"):
            times[others] = times[graph][search.kneighbors(scores[others], return_distance=False)].mean(axis=1)
    return times


def _graph_cells(train: Rows, root: int, seed: int) -> Rows:
    """Return the training cells of the graph, sorted: all, or ``GRAPH_CELLS`` of them with the root."""
    if len(train) <= GRAPH_CELLS:
        return train
    warnings.warn(
        f"diffusion pseudotime: the neighbour graph is made of {GRAPH_CELLS:,} of the {len(train):,} training cells; "
        "the others take the mean of their nearest",
        stacklevel=3,
    )
    drawn = np.random.default_rng(seed).choice(train[train != root], GRAPH_CELLS - 1, replace=False)
    return np.sort(np.append(drawn, root))


def _diffusion_distance(distance: Times, neighbour: Rows, root: int, n_components: int) -> Times:
    """Return the diffusion distance of M cells from the cell ``root``, scaled to [0, 1].

    ``distance`` and ``neighbour`` [M, k] are the neighbour graph.

    dpt(r, j)^2 = sum over i >= 1 of (l_i / (1 - l_i))^2 (psi_i(r) - psi_i(j))^2, with eigenpairs of the symmetric,
    density-normalised transition matrix with a locally scaled Gaussian kernel.
    """
    from scipy.sparse.csgraph import connected_components

    kernel = _kernel(distance, neighbour)
    _, label = connected_components(kernel, directed=False)
    component = np.flatnonzero(label == label[root])
    if len(component) < len(label):
        warnings.warn(
            f"diffusion pseudotime: {len(label) - len(component)} of {len(label)} training cells are not joined to the "
            "root in the neighbour graph and get the largest pseudotime; a larger data.dpt_neighbors joins more",
            stacklevel=4,
        )
    values, vectors = _eigenpairs(kernel[component][:, component], n_components)
    weight = values / np.maximum(1 - values, MIN_GAP)
    at_root = vectors[int(np.searchsorted(component, root))]
    distances = np.sqrt((((vectors - at_root) * weight) ** 2).sum(axis=1))
    out = np.ones(len(label))
    out[component] = distances / max(distances.max(), np.finfo(np.float64).tiny)
    return out


def _kernel(distance: Times, neighbour: Rows) -> sparse.csr_matrix:
    """Return the symmetric Gaussian kernel [M, M] with one width a cell (its median neighbour distance).

    The diagonal is 1. With a diagonal of 0 the pseudotime equals that of ``scanpy.tl.dpt`` on the same components.
    """
    m, k = neighbour.shape
    width = np.maximum(np.median(distance, axis=1), np.finfo(np.float64).eps) ** 2
    row, column = np.repeat(np.arange(m), k), neighbour.ravel()
    width_sum = width[row] + width[column]
    value = np.sqrt(2 * np.sqrt(width[row] * width[column]) / width_sum) * np.exp(-(distance.ravel() ** 2) / width_sum)
    # Very far neighbours would underflow to 0 and cut the graph.
    one_way = sparse.csr_matrix((np.maximum(value, 1e-12), (row, column)), shape=(m, m))
    return one_way.maximum(one_way.T) + sparse.identity(m, format="csr")


def _eigenpairs(kernel: sparse.csr_matrix, n_components: int) -> tuple[Times, Times]:
    """Return the eigenvalues [C] and vectors [m, C] after the stationary one."""
    from scipy.sparse.linalg import eigsh

    density = sparse.diags(1 / np.asarray(kernel.sum(axis=1)).ravel())
    weights = density @ kernel @ density
    scale = sparse.diags(1 / np.sqrt(np.asarray(weights.sum(axis=1)).ravel()))
    transition = sparse.csr_matrix(scale @ weights @ scale)
    m = transition.shape[0]
    if m <= n_components + 2:
        values, vectors = np.linalg.eigh(transition.toarray())
    else:
        values, vectors = eigsh(transition, k=n_components + 1, which="LM", v0=np.ones(m))
    order = np.argsort(values)[::-1][1 : n_components + 1]
    return values[order], vectors[:, order]


def _principal_components(x: Array, train: Rows, n_pcs: int, seed: int) -> NDArray[np.float32]:
    from sklearn.decomposition import PCA

    if x.shape[1] <= n_pcs:
        return dense(x)
    n = min(n_pcs, len(train) - 1)
    model = PCA(n, random_state=seed % 2**32).fit(x[train])
    return np.asarray(model.transform(x))


def _root(raw: RawCells, config: DataConfig, train: Rows) -> int:
    if config.root is None:
        return int(train[0])
    names = raw.obs.index.astype(str)
    if config.root not in names:
        raise UserError(
            f"data.root: no cell of {raw.name} is called {config.root!r}; cell names look like "
            f"{names[0]!r} (null takes the first training cell)"
        )
    row = int(names.get_loc(config.root))
    if row not in train:
        raise UserError(
            f"data.root: {config.root!r} is a test cell under this split, and pseudotime is fitted on training "
            f"cells; name a training cell such as {names[train[0]]!r}, or change split.seed"
        )
    return row


def _from_obs(raw: RawCells) -> Times:
    if "pseudotime" not in raw.obs:
        raise UserError(
            f"data.pseudotime=obs: the cells of {raw.name} have no column 'pseudotime' (columns: "
            f"{', '.join(map(str, raw.obs.columns)) or 'none'}); choose data.pseudotime=dpt or row"
        )
    try:
        values: Times = raw.obs["pseudotime"].to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"data.pseudotime=obs: column 'pseudotime' of {raw.name} holds no numbers") from None
    missing = int((~np.isfinite(values)).sum())
    if missing:
        raise UserError(
            f"data.pseudotime=obs: column 'pseudotime' of {raw.name} is missing or infinite in {missing} of "
            f"{len(values)} rows; fill it, drop those cells, or choose data.pseudotime=dpt"
        )
    return values
