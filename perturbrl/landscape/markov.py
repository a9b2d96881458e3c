"""Where the asynchronous network ends, exactly: absorption probabilities of all 2^G states by sparse solves.

One gene, drawn uniformly, is updated at a time. Updates that change nothing only take time, so from a state that k
genes can leave, each of those k changes next with probability 1 / k.

Letters: G genes, A attractors, n states.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph, linalg
from torch import Tensor

from perturbrl.landscape.boolean import BooleanDynamics, hold, pack, unpack

EXACT_GENES = 14
"""The most genes whose 2^G states are solved exactly."""
DIRECT = 3000  # states of a component solved by elimination; more are solved by iteration
TOLERANCE = 1e-12


def absorption(dynamics: BooleanDynamics, attractors: list[Tensor], held: Tensor | None = None) -> NDArray[np.float64]:
    """Return the probability that the network, started in a state, ends in each attractor: [2^G, A].

    Row k is of the state with the number k (``boolean.pack``). ``attractors``: the states of each, [n, G] uint8, all
    attractors of the network. ``held`` [G] as of ``BooleanDynamics.image``: a state is held first.
    """
    size = 2**dynamics.n_genes
    states = unpack(torch.arange(size), dynamics.n_genes)
    kept = hold(states, held)
    changes = (dynamics.image(kept, held) != kept).numpy()
    result = np.zeros((size, len(attractors)))
    settled = np.zeros(size, dtype=bool)
    for k, part in enumerate(attractors):
        result[pack(part).numpy(), k] = 1
        settled[pack(part).numpy()] = True
    to_itself = pack(kept).numpy()
    settled |= to_itself != np.arange(size)
    changes[settled] = False
    source, gene = changes.nonzero()
    target = source ^ (1 << (dynamics.n_genes - 1 - gene))
    chain = sparse.csr_matrix((np.ones(len(source)), (source, target)), shape=(size, size))
    _solve(chain, result)
    ends: NDArray[np.float64] = result[to_itself]
    return ends


def _solve(chain: sparse.csr_matrix, result: NDArray[np.float64]) -> None:
    """Fill in the rows of ``result`` [n, A] that have successors in ``chain``: each is the mean of theirs."""
    degree = np.diff(chain.indptr)
    for component in _components(chain):
        rows = chain[component]
        if len(component) == 1:
            result[component] = (rows @ result) / degree[component, None]
            continue
        inside = rows[:, component]
        outside = rows @ result  # rows of the component are still 0
        matrix = sparse.diags_array(degree[component].astype(float)) - inside
        result[component] = _direct(matrix, outside) if len(component) <= DIRECT else _iterative(matrix, outside)


def _components(chain: sparse.csr_matrix) -> list[NDArray[np.int64]]:
    """Return the strong components of the states with successors, each after those it can reach."""
    n, label = csgraph.connected_components(chain, connection="strong")
    order = np.argsort(label, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(label, minlength=n))[:-1])
    # scipy numbers components as they are completed, so that no edge goes to a higher number.
    return [group for group in groups if chain.indptr[group[0] + 1] > chain.indptr[group[0]]]


def _direct(matrix: sparse.sparray, right: NDArray[np.float64]) -> NDArray[np.float64]:
    solution: NDArray[np.float64] = linalg.splu(matrix.tocsc()).solve(right)
    return solution


def _iterative(matrix: sparse.sparray, right: NDArray[np.float64]) -> NDArray[np.float64]:
    columns = matrix.tocsc()
    factors = linalg.spilu(columns, drop_tol=1e-3, fill_factor=5)
    near = linalg.LinearOperator(columns.shape, factors.solve)
    solution = np.empty_like(right)
    for k in range(right.shape[1]):
        solution[:, k], failed = linalg.bicgstab(columns, right[:, k], rtol=TOLERANCE, atol=TOLERANCE, M=near)
        if failed:
            return _direct(matrix, right)
    return solution
