"""Linear maps from gene levels to a line or a plane on which the attractors of a network lie apart.

Letters: K attractors, G genes, d dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
GAP = 1.0
"""Half the length of the line, and the radius of the circle, on which attractors are put."""
MOST_ORDERED = 7


@dataclass(frozen=True)
class Projection:
    """x -> x weights + offset; ``weights`` [G, d], ``offset`` [d]."""

    weights: Array
    offset: Array

    def __call__(self, levels: Array) -> Array:
        """Return the coordinates [..., d] of ``levels`` [..., G]."""
        out: Array = np.asarray(levels, dtype=np.float64) @ self.weights + self.offset
        return out


def line(states: Array) -> Array:
    """Return places [K, 1] at equal distances on a line for K attractors [K, G], similar ones side by side."""
    n = len(states)
    places = np.linspace(-GAP, GAP, n)[:, None] if n > 1 else np.full((n, 1), GAP)
    return places[_best_order(states, places)]


def circle(states: Array) -> Array:
    """Return places [K, 2] on a circle for K attractors [K, G], similar ones side by side; two lie left and right."""
    n = len(states)
    angles = np.pi * ((0.5 if n > 2 else 0.0) + (1 + 2 * np.arange(n)) / n) + (np.pi / 2 if n == 2 else 0.0)
    places = GAP * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return places[_best_order(states, places)]


def towards(places: Array, states: Array, ends: NDArray[np.int64], cells: Array) -> Projection:
    """Return the linear map that best says from a cell's levels where it ends.

    The least-squares fit of ``places[ends]`` [N, d] on ``cells`` [N, G] and of ``places`` [K, d] on the attractors
    ``states`` [K, G], the two with the same total weight. What is undecided lies between the fates that it can still
    come to. An axis along which no two attractors lie apart is the direction in which cells vary most beside
    the axes before it.
    """
    n, k = max(len(cells), 1), max(len(states), 1)
    levels = np.concatenate([cells / np.sqrt(n), states / np.sqrt(k)])
    target = np.concatenate([places[ends] / np.sqrt(n), places / np.sqrt(k)])
    ones = np.concatenate([np.full(len(cells), n**-0.5), np.full(len(states), k**-0.5)])
    fitted = np.linalg.lstsq(np.column_stack([levels, ones]), target, rcond=1e-4)[0]
    weights, offset = fitted[:-1], fitted[-1]
    for axis in range(places.shape[1]):
        if np.ptp(places[:, axis]) < 1e-9:
            weights[:, axis], offset[axis] = _next_direction(cells, weights[:, :axis])
    return Projection(weights, offset)


def _best_order(states: Array, places: Array) -> NDArray[np.int64]:
    """Return the place of each of K states, [K]: similar states at neighbouring places that a linear map can reach.

    Up to ``MOST_ORDERED`` states the best of all orders; beyond, the optimal leaf order of the average-linkage tree
    (Bar-Joseph et al. 2001).
    """
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import pdist, squareform

    n = len(states)
    if n < 3:
        return np.arange(n)
    distances = pdist(states, "cityblock")
    if n > MOST_ORDERED:
        return np.argsort(leaves_list(optimal_leaf_ordering(linkage(distances, "average"), distances)))
    orders = np.array(list(permutations(range(n))))  # [n!, n]: the states from the first place to the last
    square = squareform(distances)
    following = orders[:, 1:] if places.shape[1] == 1 else np.roll(orders, -1, axis=1)
    centred = states - states.mean(axis=0)
    missing = np.eye(n) - centred @ np.linalg.pinv(centred, rcond=1e-6)
    length = square[orders[:, : following.shape[1]], following].sum(axis=1)
    place = np.argsort(orders, axis=1)
    missed = ((np.einsum("kl,old->okd", missing, places[place])) ** 2).sum(axis=(1, 2)) / (places**2).sum()
    return np.asarray(place[np.argmin(missed + 0.3 * length / length.min())])


def _next_direction(cells: Array, before: Array) -> tuple[Array, float]:
    """Return the direction [G], and its offset, in which cells vary most at right angles to ``before`` [G, axes]."""
    basis = np.linalg.qr(before)[0]
    rest = cells - cells @ basis @ basis.T
    middle = rest.mean(axis=0)
    _, scale, axes = np.linalg.svd(rest - middle, full_matrices=False)
    direction = axes[0] * 0.4 / max(float(scale[0]) / np.sqrt(len(cells)), 1e-9)
    return direction, -float(middle @ direction)
