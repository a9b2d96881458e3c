"""The returns of many plans on the same cells with the same noise, simulated together.

Cell i of every plan starts in the same state and has the same key in each decision (common random numbers), so the
difference between two plans is measured with less noise than each of them. Plans that begin alike share what is
simulated. A plan's returns do not depend on the plans beside it.

Letters: P plans, n cells of each plan, T decisions, L numbers that describe a cell, G genes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from perturbrl.errors import UserError
from perturbrl.landscape.attractors import attractors
from perturbrl.landscape.control.plans import Decision, Plan, gene_of
from perturbrl.landscape.evolution import evolution
from perturbrl.landscape.fate_task import Fate, FateTask
from perturbrl.landscape.state_graph import Floats, network_name
from perturbrl.mixing import draw_keys

BLOCK = 1 << 15  # cells simulated together


@dataclass
class _Cells:
    """Cells of some beginnings of plans: [B, L] cells, [B, G] held, [B] progress and returns; B = beginnings x n."""

    cells: Tensor
    held: Tensor
    progress: Tensor
    returns: Tensor

    def rows(self, index: Tensor) -> _Cells:
        return _Cells(self.cells[index], self.held[index], self.progress[index], self.returns[index])


class PlanSimulator:
    """Simulates plans of ``task``; every call with the same ``seed`` has the same cells and noise."""

    def __init__(self, task: FateTask, stops: Callable[[], Fate] | None = None) -> None:
        """Simulate ``task``; ``stops`` are the states of the attractors that cells run to, found if None."""
        self.task = task
        self._evolution = evolution(task, stops or self._listed_attractors)
        self.cell_decisions = 0  # evolutions of one cell that were simulated so far

    def returns(self, plans: Sequence[Plan], n_cells: int, seed: int, first: int = 0) -> Floats:
        """Return the discounted return of each plan in cells ``first`` to ``first`` + ``n_cells`` - 1, [P, n]."""
        generator = torch.Generator().manual_seed(seed)
        # Keys of all cells up to the last one, so that a cell is the same in every call.
        keys = torch.stack([draw_keys(self.task.n_decisions, generator) for _ in range(first + n_cells)], dim=1)[
            :, first:
        ]
        result = np.empty((len(plans), n_cells))
        per_block = max(1, BLOCK // n_cells)
        order = sorted(range(len(plans)), key=lambda i: plans[i])
        for start in range(0, len(order), per_block * 8):
            rows = order[start : start + per_block * 8]
            result[rows] = self._block([plans[i] for i in rows], keys, first)
        return result

    def _block(self, plans: Sequence[Plan], keys: Tensor, first: int) -> Floats:
        """Return the returns of sorted ``plans``, by the tree of their beginnings."""
        task, n_cells = self.task, keys.shape[1]
        start = task.start[(torch.arange(n_cells) + first) % len(task.start)]
        cells = self._evolution.start(start)
        free = torch.full(start.shape, torch.nan)
        now = _Cells(cells, free, torch.zeros(n_cells, dtype=torch.int64), torch.zeros(n_cells, dtype=torch.float64))
        beginnings: list[Plan] = [()]
        for t in range(task.n_decisions):
            longer = list(dict.fromkeys(plan[: t + 1] for plan in plans))
            position = {plan: i for i, plan in enumerate(beginnings)}
            parents = [position[plan[:-1]] for plan in longer]
            parts = []
            per_part = max(1, BLOCK // n_cells)
            for i in range(0, len(longer), per_part):
                rows = (torch.tensor(parents[i : i + per_part])[:, None] * n_cells + torch.arange(n_cells)).flatten()
                parts.append(self._decide(now.rows(rows), [plan[-1] for plan in longer[i : i + per_part]], keys[t], t))
            now = _Cells(
                torch.cat([part.cells for part in parts]),
                torch.cat([part.held for part in parts]),
                torch.cat([part.progress for part in parts]),
                torch.cat([part.returns for part in parts]),
            )
            beginnings = longer
        position = {plan: i for i, plan in enumerate(beginnings)}
        table: Floats = now.returns.reshape(len(beginnings), n_cells).numpy()
        return table[[position[plan] for plan in plans]]

    def _decide(self, now: _Cells, chosen: Sequence[Decision], keys: Tensor, t: int) -> _Cells:
        """Return the cells after decision ``t``, in which each block of n cells gets its actions of ``chosen``."""
        task, n_cells = self.task, len(keys)
        alive = (now.progress < len(task.goals)).nonzero()[:, 0]
        if not len(alive):
            return now
        before = self._evolution.genes(now.cells)
        values = torch.full(before.shape, torch.nan)
        for block, actions in enumerate(chosen):
            rows = slice(block * n_cells, (block + 1) * n_cells)
            for action in actions:
                _, value = task.perturbation(torch.full((n_cells,), action), before[rows])
                values[rows, gene_of(task, action)] = value.float()
        key = keys.repeat(len(chosen))
        self.cell_decisions += len(alive)
        cells, held = now.cells.clone(), now.held.clone()
        cells[alive] = self._evolution.run(cells[alive], values[alive], held[alive], key[alive])
        if task.duration == "permanent":
            held = torch.where(values.isnan(), held, values)
        after = self._evolution.genes(cells)
        n_perturbed = torch.tensor([len(actions) for actions in chosen]).repeat_interleave(n_cells)
        return self._paid(now, _Cells(cells, held, now.progress, now.returns), before, after, n_perturbed, t)

    def _paid(self, now: _Cells, new: _Cells, before: Tensor, after: Tensor, n_perturbed: Tensor, t: int) -> _Cells:
        task = self.task
        alive = now.progress < len(task.goals)
        reached = torch.stack([fate.contains(after) for fate in task.goals])
        goal = now.progress.clamp(max=len(task.goals) - 1)
        reached_now = reached.gather(0, goal[None])[0] & alive
        is_target = goal == len(task.goals) - 1
        progress = now.progress + reached_now
        ends = (progress == len(task.goals)) | (t == task.n_decisions - 1)
        reward = task.decision_reward(n_perturbed, reached_now, is_target).double()
        reward = reward + task.shaping_reward(before, after, now.progress, progress, ends).double()
        return _Cells(new.cells, new.held, progress, now.returns + task.discount**t * reward * alive)

    def _listed_attractors(self) -> Fate:
        found = attractors(self.task.network)
        if large := [a.n_states for a in found if len(a.states) < a.n_states]:
            name = network_name(self.task.network)
            raise UserError(
                f"network {name!r}: an attractor of {large[0]} states is too large to stop at; choose between=updates"
            )
        return Fate("attractors", torch.cat([a.states for a in found]).to(torch.int8))
