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
    """x -> (x - centre) weights; ``centre`` [G], ``weights`` [G, d]."""

    centre: Array
    weights: Array

    def __call__(self, levels: Array) -> Array:
        """Return the coordinates [..., d] of ``levels`` [..., G]."""
        out: Array = (np.asarray(levels, dtype=np.float64) - self.centre) @ self.weights
        return out


def line(states: Array, centre: Array) -> Projection:
    """Return the map that puts K attractors [K, G] at equal distances on a line and ``centre`` [G] at 0.

    Where no linear map does, the nearest to it by least squares. One attractor or none: the direction from the centre,
    or the first gene.
    """
    n = len(states)
    places = np.linspace(-GAP, GAP, n)[:, None] if n > 1 else np.full((n, 1), GAP)
    return _fit(states, centre, places)


def plane(states: Array, centre: Array, cells: Array) -> Projection:
    """Return the map that puts K attractors [K, G] on a circle, similar ones side by side, and ``centre`` [G] inside.

    With fewer than three attractors the second axis is the direction in which ``cells`` [N, G] vary most beside the
    first.
    """
    n = len(states)
    if n < 3:
        first = line(states, centre)
        return Projection(centre, np.column_stack([first.weights, _next_direction(cells, centre, first.weights)]))
    angles = np.pi * (0.5 + (1 + 2 * np.arange(n)) / n)
    return _fit(states, centre, GAP * np.stack([np.cos(angles), np.sin(angles)], axis=1))


def _fit(states: Array, centre: Array, places: Array) -> Projection:
    """Return the least-squares map of smallest norm from states to ``places`` [K, d], taken in the best order."""
    shifts = np.asarray(states, dtype=np.float64).reshape(-1, len(centre)) - centre
    if not np.abs(shifts).max(initial=0.0) > 0:
        return Projection(centre, np.eye(len(centre), places.shape[1]))
    inverse = np.linalg.pinv(shifts, rcond=1e-6)
    placed = places[_best_order(shifts, shifts @ inverse, places)]
    return Projection(centre, inverse @ placed)


def _best_order(states: Array, hat: Array, places: Array) -> NDArray[np.int64]:
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
    length = square[orders[:, : following.shape[1]], following].sum(axis=1)
    place = np.argsort(orders, axis=1)
    missed = ((np.einsum("kl,old->okd", np.eye(n) - hat, places[place])) ** 2).sum(axis=(1, 2)) / (places**2).sum()
    return np.asarray(place[np.argmin(missed + 0.3 * length / length.min())])


def _next_direction(cells: Array, centre: Array, first: Array) -> Array:
    unit = first[:, 0] / max(float(np.linalg.norm(first)), 1e-300)
    rest = cells - centre
    rest = rest - np.outer(rest @ unit, unit)
    _, scale, axes = np.linalg.svd(rest - rest.mean(axis=0), full_matrices=False)
    spread = scale[0] / np.sqrt(len(cells))
    return np.asarray(axes[0] / max(spread, 1e-12) * 0.4 if spread > 1e-12 else axes[0])
