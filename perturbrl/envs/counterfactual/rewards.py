"""Distances from a changed control cell to the observed population of a condition; a reward is a drop of one.

All are in units of the mean effect of training conditions (||mu_p - mu_0||^2, for ``energy`` its square root), so that
a return of 1 is about what it takes to undo a typical effect. Letters: S runs, B cells, G genes, A action size,
P conditions, n start cells, M cells of a population, Z components; c are the coordinates of a change, [S, B, A].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl.config import choice
from perturbrl.envs.counterfactual.parts import SplitPart
from perturbrl.envs.counterfactual.projections import Geometry
from perturbrl.screens.schema import PerturbationTable

REWARDS = ("shift", "mse", "energy", "ot")
Array = NDArray[np.float64]


class Distance(Protocol):
    """``cell`` and ``condition`` [S, B] int64 index the start cells and conditions of a part."""

    perfect: Tensor
    """What is left when a prediction has reached the population, [P]."""

    def start(self, cell: Tensor, condition: Tensor) -> Tensor:
        """Return the distance of unchanged control cells, [S, B]."""
        ...

    def after(self, cell: Tensor, condition: Tensor, change: Tensor) -> Tensor:
        """Return the distance once the baseline's change (if any) and ``change`` [S, B, A] have been added, [S, B]."""
        ...


@dataclass(frozen=True, eq=False)
class Goals:
    """What a distance is made from; ``residual`` [P, G] is the change that episodes begin with."""

    table: PerturbationTable
    part: SplitPart
    geometry: Geometry
    residual: Array
    device: torch.device

    def tensor(self, values: Array) -> Tensor:
        """Return ``values`` as float32 on the device."""
        return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32, device=self.device)


def build(kind: str, goals: Goals, mates: int) -> Distance:
    """Return one of the four distances; ``mates`` is the size of a group of ``energy``.

    Raises
    ------
    UserError
        An unknown ``env.reward``.
    """
    choice(kind, REWARDS, "env.reward")
    if kind == "energy":
        return Energy(goals, mates)
    distances: dict[str, Callable[[Goals], Distance]] = {"shift": Shift, "mse": MeanSquares, "ot": Matched}
    return distances[kind](goals)


class Shift:
    """||(mu_0 + change) - mu_p||^2: all control cells, moved alike, against the mean of the population.

    Free of the noise of single cells: what a policy is paid for is the effect alone.
    """

    def __init__(self, goals: Goals) -> None:
        part, geometry = goals.part, goals.geometry
        gap = goals.residual - part.effect
        inside = gap @ geometry.change
        self._gap = goals.tensor(inside)
        self._outside = goals.tensor(((gap**2).sum(1) - (inside**2).sum(1)) / geometry.norm)
        self._start = goals.tensor((part.effect**2).sum(1) / geometry.norm)
        self._norm = geometry.norm
        self.perfect = torch.zeros_like(self._start)

    def start(self, cell: Tensor, condition: Tensor) -> Tensor:
        """See ``Distance``."""
        return self._start[condition]

    def after(self, cell: Tensor, condition: Tensor, change: Tensor) -> Tensor:
        """See ``Distance``."""
        return (self._gap[condition] + change).square().sum(-1) / self._norm + self._outside[condition]


class MeanSquares:
    """||x - mu_p||^2 of the changed cell x itself, the MSE times G: noise of the cell included."""

    def __init__(self, goals: Goals) -> None:
        part, geometry = goals.part, goals.geometry
        x = goals.table.screen.x[part.cells].astype(np.float64)
        goal = part.truth - goals.residual
        self._norm = geometry.norm
        self._cells = goals.tensor(x @ geometry.change)
        self._goal = goals.tensor(goal @ geometry.change)
        self._start = goals.tensor(_squares(x, part.truth) / self._norm)
        self._before = goals.tensor(_squares(x, goal) / self._norm)
        self.perfect = torch.zeros(len(part.conditions), device=goals.device)

    def start(self, cell: Tensor, condition: Tensor) -> Tensor:
        """See ``Distance``."""
        return self._start[cell, condition]

    def after(self, cell: Tensor, condition: Tensor, change: Tensor) -> Tensor:
        """See ``Distance``."""
        gap = self._cells[cell] - self._goal[condition]
        return self._before[cell, condition] + (change * (2 * gap + change)).sum(-1) / self._norm


class _InComponents:
    """Positions of start cells, populations and changes in the principal components."""

    def __init__(self, goals: Goals) -> None:
        x, basis = goals.table.screen.x, goals.geometry.latent
        self.cells = goals.tensor(x[goals.part.cells] @ basis)
        self.residual = goals.tensor(goals.residual @ basis)
        self.change = goals.tensor(goals.geometry.change.T @ basis)
        self.populations = [np.asarray(x[rows] @ basis) for rows in goals.part.population]

    def moved(self, cell: Tensor, condition: Tensor, change: Tensor) -> Tensor:
        return self.cells[cell] + self.residual[condition] + change @ self.change


class Matched:
    """||z - z'||^2 to the cell of the population that optimal transport matches with the start cell.

    The plan is exact: among as many cells of the population as there are start cells (repeated where there are fewer),
    the assignment of least total squared distance, in principal components.
    """

    def __init__(self, goals: Goals) -> None:
        part = goals.part
        self._place = _InComponents(goals)
        self._norm = goals.geometry.norm
        starts = self._place.cells.double().cpu().numpy()
        goal = torch.zeros(len(part.conditions), len(part.cells), starts.shape[1], device=goals.device)
        for i, population in enumerate(self._place.populations):
            context = slice(int(part.first[i]), int(part.first[i] + part.count[i]))
            goal[i, context] = goals.tensor(matched(starts[context], population))
        self._goal = goal
        self.perfect = torch.zeros(len(part.conditions), device=goals.device)

    def start(self, cell: Tensor, condition: Tensor) -> Tensor:
        """See ``Distance``."""
        return (self._place.cells[cell] - self._goal[condition, cell]).square().sum(-1) / self._norm

    def after(self, cell: Tensor, condition: Tensor, change: Tensor) -> Tensor:
        """See ``Distance``."""
        moved = self._place.moved(cell, condition, change)
        return (moved - self._goal[condition, cell]).square().sum(-1) / self._norm


def matched(cells: Array, population: Array) -> Array:
    """Return for each of ``cells`` [n, Z] the one of ``population`` [M, Z] that optimal transport matches, [n, Z]."""
    from scipy.optimize import linear_sum_assignment  # a tenth of a second that other rewards need not wait

    others = population[np.arange(len(cells)) * len(population) // len(cells)]
    if len(population) < len(cells):
        others = population[np.arange(len(cells)) % len(population)]
    cost = (cells**2).sum(1)[:, None] + (others**2).sum(1) - 2 * cells @ others.T
    return np.asarray(others[linear_sum_assignment(cost)[1]])


class Energy:
    """One cell's share of the energy distance (Szekely and Rizzo 2013) between predicted and observed populations.

    2 mean_y |z - y| - mean_z' |z - z'|, with z' the other predicted cells of the condition in the run (leave one out:
    a cell is not compared with itself). Cells of a run stand in groups of ``mates`` that share a condition; the mean of
    a group is the U-statistic 2 E|X - Y| - E|X - X'|. ``perfect`` is E|Y - Y'| over different cells.
    """

    def __init__(self, goals: Goals, mates: int) -> None:
        self._place = _InComponents(goals)
        self._norm = float(np.sqrt(goals.geometry.norm))
        self._mates = mates
        populations = self._place.populations
        most = max(len(p) for p in populations)
        # short populations are filled up with zero weights
        padded = [np.pad(p, ((0, most - len(p)), (0, 0))) for p in populations]
        self._population = goals.tensor(np.stack(padded))
        self._weight = goals.tensor(np.stack([(np.arange(most) < len(p)) / len(p) for p in populations]))
        self.perfect = goals.tensor(np.array([_within(p) / self._norm for p in populations]))

    def start(self, cell: Tensor, condition: Tensor) -> Tensor:
        """See ``Distance``."""
        return self._share(self._place.cells[cell], condition)

    def after(self, cell: Tensor, condition: Tensor, change: Tensor) -> Tensor:
        """See ``Distance``."""
        return self._share(self._place.moved(cell, condition, change), condition)

    def _share(self, z: Tensor, condition: Tensor) -> Tensor:
        runs, cells, size = z.shape
        groups = z.reshape(-1, self._mates, size)
        group = condition.reshape(-1, self._mates)[:, 0]
        to_population = (_distances(groups, self._population[group]) * self._weight[group][:, None]).sum(-1)
        among = _distances(groups, groups)
        among.diagonal(dim1=-2, dim2=-1).zero_()
        return ((2 * to_population - among.sum(-1) / max(self._mates - 1, 1)) / self._norm).reshape(runs, cells)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # with differences, not with a product: a run in a population must be that run alone to the last bit
    return (a.unsqueeze(2) - b.unsqueeze(1)).square().sum(-1).sqrt()


def _within(y: Array) -> float:
    if len(y) < 2:
        return 0.0
    from scipy.spatial.distance import pdist

    return float(pdist(y).mean())


def _squares(x: Array, goal: Array) -> Array:
    length = np.asarray(x.multiply(x).sum(axis=1)) if hasattr(x, "multiply") else (x**2).sum(axis=1, keepdims=True)
    return np.asarray(length + (goal**2).sum(axis=1) - 2 * (x @ goal.T))
