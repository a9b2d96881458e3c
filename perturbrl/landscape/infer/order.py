"""From binary cells to the order of states along each branch. Letters: N cells, G genes, K branches, T states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perturbrl.landscape.infer.trajectory import Binary, Trajectory, Values


@dataclass(frozen=True)
class Branch:
    """The states of one branch in their order.

    ``states`` [T, G], each differing from the one before; ``times`` [T], the pseudotime at which each begins;
    ``end_cells`` are the rows of the cells at the end.
    """

    name: str
    states: Binary
    times: Values
    end_cells: NDArray[np.int64]


def branches(cells: Trajectory, binary: Binary, windows: int) -> tuple[Branch, ...]:
    """Return the order of states of each branch.

    The on-share of a gene is the mean of ``binary`` [N, G] in a window of cells that are neighbours in pseudotime, as
    in IQCELL (Heydari et al. 2022), where the window has cells // genes cells; with fewer than ``windows`` genes it has
    cells // ``windows``. A gene is on where that share is at least a half. A stretch shorter than half a window is
    taken for noise. All branches begin in one state: that of the first window of all of them.
    """
    profiles = [_profile(cells.pseudotime[:, k], binary, windows) for k in range(len(cells.branches))]
    start = np.mean([share[0] for share, _, _ in profiles], axis=0) >= 0.5
    out = []
    for name, k, (share, rows, window) in zip(cells.branches, range(len(profiles)), profiles, strict=True):
        on = np.stack([without_short_runs(column >= 0.5, max(window // 2, 1)) for column in share.T], axis=1)
        changes = np.flatnonzero((on[1:] != on[:-1]).any(axis=1)) + 1
        begins = np.concatenate([[0], changes])
        states, times = on[begins], cells.pseudotime[rows[begins], k]
        if (states[0] != start).any():
            states, times = np.concatenate([start[None], states]), np.concatenate([times[:1], times])
        out.append(Branch(name, states, times, rows[-window:]))
    return tuple(out)


def _profile(pseudotime: Values, binary: Binary, windows: int) -> tuple[Values, NDArray[np.int64], int]:
    """Return the on-shares [n, G] of a branch's n cells in their order, the cells' rows [n], and the window."""
    from scipy.ndimage import uniform_filter1d

    rows = np.flatnonzero(np.isfinite(pseudotime))
    rows = rows[np.argsort(pseudotime[rows], kind="stable")]
    window = max(len(rows) // max(binary.shape[1], windows), 1)
    share = uniform_filter1d(binary[rows].astype(np.float64), window, axis=0, mode="nearest")
    return share, rows, window


def without_short_runs(on: Binary, least: int) -> Binary:
    """Return ``on`` [n] with every run of equal values shorter than ``least`` joined to its neighbours, shortest first.

    Of equally short runs the first is joined. The last run left is never changed.
    """
    edges = np.concatenate([[0], np.flatnonzero(on[1:] != on[:-1]) + 1, [len(on)]])
    values = [bool(on[e]) for e in edges[:-1]]
    lengths = list(np.diff(edges))
    while len(lengths) > 1 and min(lengths) < least:
        k = int(np.argmin(lengths))
        first, last = max(k - 1, 0), min(k + 1, len(lengths) - 1)
        lengths[first : last + 1] = [sum(lengths[first : last + 1])]
        values[first : last + 1] = [not values[k]]
    return np.repeat(values, lengths)
