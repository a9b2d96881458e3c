"""What a generator of cells predicts of conditions: a mean change and cells, from the control cells of one part.

Letters: S runs, B cells, n conditions, G genes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from perturbrl.effects.observed import ObservedEffects
from perturbrl.envs.counterfactual.task import CounterfactualEnv
from perturbrl.evaluate.counterfactual.emission import signed
from perturbrl.evaluate.counterfactual.returns import PolicyReturns
from perturbrl.evaluate.counterfactual.rollout import PredictedChanges, starts
from perturbrl.evaluate.returns import uniforms
from perturbrl.generators.cells import CellGenerator, Request
from perturbrl.rng import Streams, derive
from perturbrl.screens.schema import PerturbationTable, Rows

_CELLS = 4096  # generated at a time; also how many control cells have noise of their own


@dataclass(eq=False)
class GeneratedCells:
    """Cells that a generator makes of ``controls``, the control cells of one part of the split.

    Noise belongs to the control cell: two conditions meet the same, and so do all runs. ``factor`` [S] shrinks what is
    learned of an effect, beside what a baseline predicts (``env.residual``).
    """

    generator: CellGenerator
    env: CounterfactualEnv
    table: PerturbationTable
    controls: Rows
    seed: int
    factor: Tensor | None = None

    def changes(self, conditions: NDArray[np.int64], n_cells: int | None) -> PredictedChanges:
        """Return the mean change over at most ``n_cells`` (None: all) control cells of each condition's context."""
        learned = torch.as_tensor(self.learned(conditions, n_cells))
        if self.factor is not None:
            learned = learned * self.factor.double()[:, None, None]
        change = self.env.dynamics.residual[conditions] + learned.numpy()
        return PredictedChanges(change, np.full(self.generator.n_runs, np.nan))

    def learned(self, conditions: NDArray[np.int64], n_cells: int | None) -> NDArray[np.float64]:
        """Return the mean change [S, n, G] without what the baseline predicts, not shrunk."""
        rows = starts(self.table, self.controls, conditions, n_cells)
        sizes = [len(cells) for cells in rows]
        cell, goal = np.concatenate(rows), np.repeat(conditions, sizes)
        group = torch.as_tensor(np.repeat(np.arange(len(rows)), sizes))
        total = torch.zeros(self.generator.n_runs, len(rows), self.table.screen.x.shape[1], dtype=torch.float64)
        for k in range(0, len(cell), _CELLS):
            part = slice(k, k + _CELLS)
            total.index_add_(1, group[part], self.effects(cell[part], goal[part]).double().cpu())
        return np.asarray((total / torch.bincount(group, minlength=len(rows))[:, None]).numpy())

    def effects(self, cells: Rows, condition: NDArray[np.int64]) -> Tensor:
        """Return the learned change of control cells (rows [B]) towards conditions [B] of the screen, [S, B, G]."""
        request = self._request(cells, condition)
        perturbed = self.generator.sample(request)
        if self.generator.effect == "direct":
            control = np.array([self._means[self.table.screen.control_of(int(c))] for c in condition])
            return perturbed - self._tensor(control)
        place = np.searchsorted(self.controls, cells)
        new, first = np.unique(place, return_index=True)
        first = first[~self._is_made[new]]
        if len(first):
            made = self.generator.sample_controls(self._request(cells[first], condition[first]))
            self._unperturbed[:, torch.as_tensor(place[first])] = made.cpu()
            self._is_made[place[first]] = True
        return perturbed - self._unperturbed[:, torch.as_tensor(place)].to(perturbed.device)

    def cells(self, rows: Rows, condition: int) -> sparse.csr_matrix | None:
        """Return predicted cells of a condition [B, G] of the first run; None where they are not finite.

        Of paired effects a cell is the real control with its own difference, else the generated cell. No gene is below
        0, unless control cells have negative values of it.
        """
        parts = []
        for k in range(0, len(rows), _CELLS):
            part = rows[k : k + _CELLS]
            goal = np.full(len(part), condition, dtype=np.int64)
            change = self.effects(part, goal)[0].double().cpu().numpy()
            if self.factor is not None:
                change = float(self.factor[0]) * change
            base = self.table.screen.x[part].toarray()
            if self.generator.effect == "direct":
                base = np.tile(self._means[self.table.screen.control_of(condition)], (len(part), 1))
            parts.append(base + change + self.env.dynamics.residual[condition])
        made = np.concatenate(parts)
        if not np.isfinite(made).all():
            return None
        return sparse.csr_matrix(np.where(self._signed, made, np.maximum(made, 0.0)), dtype=np.float32)

    def returns(self) -> PolicyReturns:
        """Return what the changes earn in the task, along the directions that actions have there."""
        env = self.env
        env.reset(uniforms(Streams([self.seed], "cpu"), env, "evaluate/reset", 0, env.device))
        best, start = env.best_returns().double().cpu(), env.distance.start(env.cell, env.condition)
        rows, goal = env.part.cells[env.cell[0].cpu().numpy()], env.part.conditions[env.condition[0].cpu().numpy()]
        effects = torch.cat(
            [self.effects(rows[k : k + _CELLS], goal[k : k + _CELLS]) for k in range(0, len(rows), _CELLS)], 1
        )
        if self.factor is not None:
            effects = effects * self.factor.to(effects)[:, None, None]
        coordinates = effects @ self._tensor(env.dynamics.geometry.change)
        left = env.distance.after(env.cell, env.condition, coordinates)
        return PolicyReturns((start - left).double().cpu(), best)

    def _request(self, cells: Rows, condition: NDArray[np.int64]) -> Request:
        screen, dynamics = self.table.screen, self.env.dynamics
        control = np.array([screen.control_of(int(c)) for c in condition], dtype=np.int64)
        place = np.searchsorted(self.controls, cells) % _CELLS
        return Request(
            control=self._tensor(screen.x[cells].toarray()),
            known=dynamics.known(torch.as_tensor(condition, device=self.env.device)),
            known_control=dynamics.known(torch.as_tensor(control, device=self.env.device)),
            noise=self._noise[torch.as_tensor(place)].to(self.env.device),
        )

    @cached_property
    def _noise(self) -> Tensor:
        generator = torch.Generator().manual_seed(derive(self.seed, "evaluate", "noise"))
        return torch.randn(min(len(self.controls), _CELLS), self.table.screen.x.shape[1], generator=generator)

    @cached_property
    def _unperturbed(self) -> Tensor:
        """What the generator makes of each control cell without a perturbation, where ``_is_made``, [S, n, G]."""
        return torch.empty(self.generator.n_runs, len(self.controls), self.table.screen.x.shape[1])

    @cached_property
    def _is_made(self) -> NDArray[np.bool_]:
        return np.zeros(len(self.controls), dtype=bool)

    @cached_property
    def _means(self) -> dict[int, NDArray[np.float64]]:
        """Mean of the control cells of each control condition, [G]."""
        screen = self.table.screen
        label = screen.condition[self.controls]
        return {
            int(c): np.asarray(screen.x[self.controls[label == c]].astype(np.float64).mean(axis=0)).ravel()
            for c in np.unique(label)
        }

    @cached_property
    def _signed(self) -> NDArray[np.bool_]:
        return signed(self.table.screen.x[self.controls])

    def _tensor(self, values: NDArray[np.floating]) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32, device=self.env.device)


def shrinkage(generated: GeneratedCells, truth: ObservedEffects, n_cells: int | None) -> Tensor:
    """Return the factor of learned changes of each run, [S], by least squares on the conditions of ``truth``.

    It minimises the squared error of the mean change over used genes, and lies between 0 and 1; 1 where nothing was
    learned. ``truth`` is to be of validation conditions, from whose controls ``generated`` starts.
    """
    learned = np.where(truth.used, generated.learned(truth.conditions, n_cells), 0.0)
    missing = np.where(truth.used, truth.change - generated.env.dynamics.residual[truth.conditions], 0.0)
    size = np.square(learned).sum(axis=(1, 2))
    along = (learned * missing).sum(axis=(1, 2))
    known = np.isfinite(size) & (size > 0)
    factor = np.where(known, along / np.where(known, size, 1.0), 1.0)
    return torch.as_tensor(np.clip(factor, 0.0, 1.0))


def fixed(generator: CellGenerator) -> Tensor:
    """Return the factor of each run where it is not chosen on validation conditions, [S] float64."""
    return torch.full((generator.n_runs,), 1.0 if generator.shrinkage is None else generator.shrinkage).double()
