from __future__ import annotations

import numpy as np
import pytest

from perturbrl.landscape.plane import circle, line, towards

STATES = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [1, 1, 0, 0, 1], [0, 0, 1, 1, 1.0]])  # 0 and 2, 1 and 3 are alike


def test_places_on_a_circle_are_even_and_alike_attractors_are_neighbours():
    places = circle(STATES)
    assert np.allclose(np.linalg.norm(places, axis=1), 1)
    assert np.allclose(np.diff(np.sort(np.arctan2(*places.T))), np.pi / 2)
    assert np.linalg.norm(places[0] - places[2]) == pytest.approx(np.linalg.norm(places[1] - places[3]))
    assert np.linalg.norm(places[0] - places[2]) < np.linalg.norm(places[0] - places[3]) + 1e-9


def test_places_on_a_line_are_even_and_alike_attractors_are_neighbours():
    places = line(STATES)[:, 0]
    assert np.allclose(np.sort(places), np.linspace(-1, 1, 4))
    assert abs(places[0] - places[2]) == pytest.approx(2 / 3) and abs(places[1] - places[3]) == pytest.approx(2 / 3)


def test_cells_are_put_where_they_end_and_the_undecided_between():
    """Cells on the straight way from a common start: the least-squares map puts the start at the mean of the places."""
    rng = np.random.default_rng(0)
    ends, way = rng.integers(4, size=4000), rng.random(4000)
    start = STATES.mean(axis=0)
    cells = start + way[:, None] * (STATES[ends] - start)
    places = circle(STATES)
    project = towards(places, STATES, ends, cells)
    assert np.allclose(project(start), 0, atol=0.05)
    shown = project(STATES)
    assert all(np.linalg.norm(shown[k] - places, axis=1).argmin() == k for k in range(4))


@pytest.mark.parametrize("n", [1, 2])
def test_an_axis_without_attractors_shows_what_else_varies(n):
    rng = np.random.default_rng(0)
    states = np.eye(3)[:n]
    ends = rng.integers(n, size=300)
    cells = states[ends] + rng.normal(0, [0.01, 0.01, 0.5], (300, 3))
    seen = towards(circle(states), states, ends, cells)(cells)
    assert np.isfinite(seen).all() and seen.std(axis=0).min() > 0.01
    assert np.abs(np.corrcoef(seen.T, cells[:, 2])[:2, 2]).max() > 0.99
    assert abs(np.corrcoef(seen.T)[0, 1]) < 0.2
