"""The quasi-potential of cells in one or two dimensions, and its wells.

U(x) = -ln p(x), with p the density of cells: the potential landscape of J. Wang, L. Xu, E. Wang, "Potential landscape
and flux framework of nonequilibrium networks", PNAS 105:12271, 2008 (U = -ln P_ss there, P_ss the steady state), used
as Waddington's landscape in J. Wang, K. Zhang, L. Xu, E. Wang, PNAS 108:8257, 2011. For the states of a Boolean network
the same formula stands in B. Han, J. Wang, Biophysical Journal 92:3755, 2007. It is no energy: cells also drift around.

Letters: N points, d dimensions (1 or 2), M grid points of an axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import gaussian_filter1d

from perturbrl.errors import UserError

Array = NDArray[np.float64]
MARGIN = 0.12
"""Empty border of a grid, as a share of the range of the points."""
TRUNCATE = 5.0
FACTORS = np.geomspace(0.02, 0.6, 12)
"""Bandwidths that are tried, in standard deviations of each axis."""


@dataclass(frozen=True)
class Surface:
    """A quasi-potential on a grid.

    ``axes``: d increasing vectors [M_k]; ``values`` [M_1, ..., M_d], 0 at the deepest point; ``bandwidth`` [d] of the
    kernel, in the units of the axes.
    """

    axes: tuple[Array, ...]
    values: Array
    bandwidth: Array

    def at(self, points: Array) -> Array:
        """Return U at ``points`` [..., d] by linear interpolation; outside the grid the border's value."""
        low = [axis[0] for axis in self.axes]
        high = [axis[-1] for axis in self.axes]
        read: Array = RegularGridInterpolator(self.axes, self.values)(np.clip(points, low, high))
        return read


def quasi_potential(
    points: Array,
    *,
    weights: Array | None = None,
    bandwidth: Array | None = None,
    bounds: tuple[tuple[float, float], ...] | None = None,
    given: int | None = None,
    n_grid: int = 160,
    n_cells: int | None = None,
) -> Surface:
    """Return U = -ln(p + p_0) of points, p their Gaussian kernel density and p_0 the peak of one point's kernel.

    Where no point is, U is level: one point more or less would decide there.

    Parameters
    ----------
    points, weights
        [N, d] with d 1 or 2; [N] weights, such as the probabilities of states, 1 each if None.
    bandwidth
        [d]; None takes the multiple of the standard deviations with the largest leave-one-out likelihood. Points that
        coincide, such as the states of a Boolean network, need a bandwidth.
    bounds
        The ends of each axis; None takes the range of the points and a margin.
    given
        An axis, such as pseudotime: U of the other axis given this one, U(x | t) = -ln p(x | t).
    n_grid
        Grid points of each axis.
    n_cells
        Cells among the points, if cells were seen several times each; None: every point is a cell of its own.

    Raises
    ------
    UserError
        Fewer than 10 points, a value that is not finite, or points that do not differ along an axis
        while a bandwidth or bounds are wanted.
    """
    points = np.asarray(points, dtype=np.float64)
    _check(points, fixed=bandwidth is not None and bounds is not None)
    n, d = points.shape
    mass = np.full(n, 1 / n) if weights is None else np.asarray(weights, dtype=np.float64) / np.sum(weights)
    edges = _edges(points, bounds, n_grid)
    widths = np.array([edge[1] - edge[0] for edge in edges])
    counts = np.histogramdd(points, bins=edges, weights=mass)[0]
    n_equal = 1 / float((mass**2).sum()) if n_cells is None else float(n_cells)
    chosen = _likeliest_bandwidth(counts, points.std(axis=0), widths, n_equal) if bandwidth is None else bandwidth
    chosen = np.maximum(np.broadcast_to(np.asarray(chosen, dtype=np.float64), d), widths / 2)
    density = _smooth(counts, chosen / widths) / widths.prod()
    one_point = 1 / (n_equal * np.prod(chosen * np.sqrt(2 * np.pi)))
    if given is not None:
        others = tuple(k for k in range(d) if k != given)
        along = density.sum(axis=others, keepdims=True) * np.prod(widths[list(others)])
        density = density / np.maximum(along, 1e-300)
        one_point *= widths[given] * n_grid  # of the mean density along that axis
    potential = -np.log(density + one_point)
    return Surface(tuple((edge[1:] + edge[:-1]) / 2 for edge in edges), potential - potential.min(), chosen)


def _check(points: Array, *, fixed: bool) -> None:
    if points.ndim != 2 or points.shape[1] not in (1, 2) or len(points) < 10:
        raise UserError(f"a quasi-potential needs at least 10 points in 1 or 2 dimensions; got {points.shape}")
    if not np.isfinite(points).all():
        raise UserError("a quasi-potential needs finite points; some are missing or infinite")
    if not fixed and (np.ptp(points, axis=0) <= 0).any():
        raise UserError("a quasi-potential needs points that differ; all have the same value along one axis")


def _edges(points: Array, bounds: tuple[tuple[float, float], ...] | None, n_grid: int) -> list[Array]:
    if bounds is None:
        low, high = points.min(axis=0), points.max(axis=0)
        room = MARGIN * (high - low)
        bounds = tuple(zip(low - room, high + room, strict=True))
    return [np.linspace(low, high, n_grid + 1) for low, high in bounds]


def _smooth(counts: Array, sigma: Array) -> Array:
    out = counts
    for axis, s in enumerate(sigma):
        out = gaussian_filter1d(out, s, axis=axis, mode="constant", truncate=TRUNCATE)
    return out


def _likeliest_bandwidth(counts: Array, spread: Array, widths: Array, n: float) -> Array:
    """Return the bandwidth [d] with the largest leave-one-out likelihood (Habbema et al. 1974; Duin 1976)."""
    alone = np.zeros(len(counts))
    alone[len(alone) // 2] = 1.0
    occupied = counts > 0
    scores, tried = [], [factor * spread for factor in FACTORS]
    for bandwidth in tried:
        sigma = np.maximum(bandwidth / widths, 0.5)
        itself = float(np.prod([gaussian_filter1d(alone, s, truncate=TRUNCATE).max() for s in sigma]))
        others = (n * _smooth(counts, sigma)[occupied] - itself) / (n - 1)
        scores.append((counts[occupied] * np.log(np.maximum(others, 1e-300))).sum())
    return np.asarray(tried[int(np.argmax(scores))])


@dataclass(frozen=True)
class Wells:
    """Local minima of a Surface, deepest first, K of them.

    ``points`` [K, d]; ``depth`` [K] U at the minimum; ``barrier`` [K] from there up to the lowest pass to another well
    (infinite for a single well); ``region`` [M_1, ..., M_d] the well that a grid point runs down to.
    """

    points: Array
    depth: Array
    barrier: Array
    region: NDArray[np.int64]

    def of(self, surface: Surface, points: Array) -> NDArray[np.int64]:
        """Return the well of each of ``points`` [N, d], [N]."""
        index = tuple(np.abs(axis[:, None] - points[None, :, k]).argmin(axis=0) for k, axis in enumerate(surface.axes))
        return np.asarray(self.region[index])


def wells(surface: Surface, least_barrier: float = 0.7) -> Wells:
    """Return the wells of a surface whose barrier is at least ``least_barrier`` (ln 2: half as many cells on the pass).

    The surface is flooded from below; where two lakes meet, the one whose bottom is higher is a well of its own if the
    water over its bottom is as deep as ``least_barrier``, else it joins the other (topological persistence).
    """
    u = surface.values
    flat, neighbours = u.ravel(), _neighbours(u.shape)
    lake = np.full(flat.size, -1)  # the minimum that a grid point runs down to
    joined: dict[int, int] = {}  # lake -> lake it is connected to, bottoms falling
    absorbed: dict[int, int] = {}  # too shallow lakes
    barrier: dict[int, float] = {}
    for point in np.argsort(flat, kind="stable").tolist():
        wet = [k for k in neighbours[point] if lake[k] >= 0]
        if not wet:
            lake[point] = point
            continue
        lake[point] = lake[min(wet, key=lambda k: flat[k])]
        roots = sorted({_root(joined, int(lake[k])) for k in wet}, key=lambda k: flat[k])
        for root in roots[1:]:
            joined[root] = roots[0]
            if flat[point] - flat[root] < least_barrier:
                absorbed[root] = roots[0]
                continue
            for bottom in (root, roots[0]):
                barrier.setdefault(bottom, float(flat[point] - flat[bottom]))
    final = {int(k): _root(absorbed, int(k)) for k in np.unique(lake)}
    bottoms = sorted(set(final.values()), key=lambda k: flat[k])
    index = np.stack(np.unravel_index(bottoms, u.shape), axis=1)
    number = {bottom: k for k, bottom in enumerate(bottoms)}
    region = np.array([number[final[int(k)]] for k in lake]).reshape(u.shape)
    points = np.stack([axis[index[:, k]] for k, axis in enumerate(surface.axes)], axis=1)
    return Wells(points, flat[bottoms], np.array([barrier.get(k, np.inf) for k in bottoms]), region)


def _root(joined: dict[int, int], lake: int) -> int:
    while lake in joined:
        lake = joined[lake]
    return lake


def _neighbours(shape: tuple[int, ...]) -> list[list[int]]:
    index = np.pad(np.arange(np.prod(shape)).reshape(shape), 1, constant_values=-1)
    inner = tuple(slice(1, -1) for _ in shape)
    steps = [step for step in np.ndindex(*(3,) * len(shape)) if step != (1,) * len(shape)]
    shifted = [np.roll(index, [1 - s for s in step], range(len(shape)))[inner].ravel() for step in steps]
    return [[int(k) for k in row if k >= 0] for row in np.stack(shifted, axis=1)]
