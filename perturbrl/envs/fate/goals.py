"""The goals of many tasks as tensors: each cell has its own.

Letters: N cells, G genes, K the most patterns of a fate, F different fates, R tasks, M the most goals of a task.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perturbrl.landscape.fate_task import Fate, FateTask


class Goals:
    """The stages and targets of tasks.

    ``n_goals`` [R] counts the goals of each task; ``code`` [F, G] is, for each fate and gene, the mean over patterns of
    1 where the gene must be on, -1 where off, 0 where either: what a policy sees of its goal.
    """

    def __init__(self, tasks: Sequence[FateTask], device: torch.device | str = "cpu") -> None:
        fates: list[Fate] = []
        for goal in (goal for task in tasks for goal in task.goals):
            if not any(goal is other for other in fates):
                fates.append(goal)
        most = max(len(task.goals) for task in tasks)
        rows = [[next(i for i, fate in enumerate(fates) if fate is goal) for goal in task.goals] for task in tasks]
        self.n_fates = len(fates)
        self.n_goals = torch.tensor([len(row) for row in rows], device=device)
        self._fate = torch.tensor([row + row[-1:] * (most - len(row)) for row in rows], device=device)
        self._patterns = _padded(fates).to(device)
        self.code = torch.stack([_code(fate) for fate in fates]).to(device)

    def fate(self, task: Tensor, progress: Tensor) -> Tensor:
        """Return the number of the next fate of cells with the tasks ``task``, ``progress`` goals of which are passed.

        All of them int64 [...]; where all goals are passed it is the last.
        """
        return self._fate[task, progress.clamp(max=self._fate.shape[1] - 1)]

    def distance(self, levels: Tensor, fate: Tensor) -> Tensor:
        """Return the distance (``Fate.distance``) of ``levels`` [N, G] to the fates ``fate`` [N]: [N], 0 inside."""
        patterns = self._patterns[fate]
        fixed = patterns >= 0
        wrong = (fixed & (patterns != (levels > 0.5).to(patterns.dtype)[:, None])).sum(-1)
        return (wrong / fixed.sum(-1).clamp(min=1)).amin(-1)


def _padded(fates: Sequence[Fate]) -> Tensor:
    """Return the patterns of all fates, [F, K, G]; a fate with fewer than K repeats its first."""
    most = max(len(fate.patterns) for fate in fates)
    return torch.stack([torch.cat([f.patterns, f.patterns[:1].expand(most - len(f.patterns), -1)]) for f in fates])


def _code(fate: Fate) -> Tensor:
    fixed = (fate.patterns >= 0).float()
    return ((2 * fate.patterns.float() - 1) * fixed).mean(0)
