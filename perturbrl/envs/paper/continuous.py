"""The continuous environment of Tables I-III (arXiv 2510.13018, released code).

Letters: S runs, B cells, G features, N cells of the table, D uniform numbers a step consumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl import registry
from perturbrl.bounds import OneOf, PerRun, PositiveFloat, PositiveInt, Probability, require_shared
from perturbrl.config import require
from perturbrl.data.schema import CellTable
from perturbrl.envs.base import ActionSpace, Step
from perturbrl.envs.checkpoint import Checkpointed
from perturbrl.envs.paper import crispr
from perturbrl.envs.paper.pairs import CellPairs
from perturbrl.memory import require_memory

TIME_LIMITS = ("terminated", "truncated")


@dataclass(frozen=True)
class PaperEnvConfig:
    """Settings of one run; see conf/env/paper.yaml for units."""

    name: str
    horizon: PositiveInt
    step_size: PerRun[PositiveFloat]
    clip: PerRun[PositiveFloat]
    perturb_prob: PerRun[Probability]
    max_perturb: PerRun[PositiveInt]
    time_limit: PerRun[Annotated[str, OneOf(*TIME_LIMITS)]]
    threshold_rate: Probability

    @property
    def max_event_genes(self) -> int:
        """The most genes that one CRISPR event draws, ``max_perturb`` in the config."""
        return self.max_perturb


class PaperEnv(Checkpointed):
    """Move a cell toward an unseen later cell, against CRISPR noise.

    reset: s is a cell, t a cell of larger pseudotime (itself when none is larger), then one CRISPR event on s.
    step: s <- clip(s + step_size clip(a, -1, 1), -clip, clip); with probability ``perturb_prob`` a CRISPR event on s;
    reward = MSE(previous s, t) - MSE(s, t). At the first step the previous s is the cell before any event, so that the
    first reward pays for the event of the reset, and the rewards of an episode sum to the whole drop in MSE.
    t is not observed. The event comes after the clip: an observation may exceed ``clip``, up to x 2^max_event_genes.

    With ``threshold_rate`` r > 0 each cell has a threshold for each feature: tau <- (1 - r) tau + r (s - t)^2 after a
    step, from 0 on, and the reward is less by the mean of tau over features: a feature that stays far from its target
    costs more the longer it does. Thresholds outlive episodes and are not observed. This is our reading of "adaptive
    thresholds per modality can optionally penalize deviations for particularly sensitive genes" (section IV): the study
    releases a moving average for each feature (r = 0.1) and its subtraction, but never updates it, so it is 0.

    All episodes run in step, so the clock is a number of the host and ``step`` never waits for the device. The
    table is held once, [N, G]. Observations are new tensors at each step: valid as long as the caller keeps them, but
    the environment steps on from the last one, so do not write into it.

    The 8 uniforms of a step: event (size, two keys) | of the next episode: cell, target, event (size, two keys).
    ``reset`` reads the second part only.
    """

    saved: tuple[str, ...] = ("row", "target_row", "cells", "error")

    def __init__(
        self,
        configs: Sequence[PaperEnvConfig],
        table: CellTable,
        cells: NDArray[np.int64],
        n_envs: int,
        device: torch.device | str,
    ) -> None:
        check(configs, n_envs)
        # cells, targets, work and copies of both; genes and factors of an event, and a few words more for each
        largest_event = max(c.max_event_genes for c in configs)
        numbers = 6 * (table.n_features + largest_event)
        where = f"env.max_perturb={largest_event} in {n_envs} cells of {table.n_features} features"
        require_memory(4.0 * len(configs) * n_envs * numbers, where, "step fewer cells, or perturb fewer genes")
        self.device = torch.device(device)
        self.n_runs, self.n_envs, self.obs_dim = len(configs), n_envs, table.n_features
        self.horizon = configs[0].horizon
        self.n_uniforms = 2 + 2 * crispr.N_UNIFORMS
        self.action_space = ActionSpace("box", self.obs_dim)
        self.can_truncate = any(c.time_limit == "truncated" for c in configs)
        self._x = torch.as_tensor(table.x, device=self.device)
        self._pairs = CellPairs(table, cells, self.device)
        genes, probs = [c.max_event_genes for c in configs], [c.perturb_prob for c in configs]
        self._step_events = crispr.CrisprEvents(genes, probs, self.obs_dim, self.device)
        self._reset_events = crispr.CrisprEvents(genes, [1.0] * self.n_runs, self.obs_dim, self.device)
        self._step_size = self._per_run([c.step_size for c in configs])
        self._high = self._per_run([c.clip for c in configs])[..., None]
        self._low = -self._high
        shape = (self.n_runs, n_envs)
        self._never = torch.zeros(shape, dtype=torch.bool, device=self.device)
        self._truncates = (self._per_run([float(c.time_limit == "truncated") for c in configs]) > 0) | self._never
        self._t = 0
        self._row = torch.zeros(shape, dtype=torch.int64, device=self.device)
        self._target_row = torch.zeros_like(self._row)
        self._target = torch.zeros((*shape, self.obs_dim), device=self.device)
        self._cells = torch.zeros_like(self._target)
        self._work = torch.zeros_like(self._target)
        self._error = torch.zeros(shape, device=self.device)
        self._threshold_rate = configs[0].threshold_rate
        if self._threshold_rate > 0:
            self.saved = (*self.saved, "threshold")
            self._threshold = torch.zeros_like(self._target)

    def reset(self, u: Tensor) -> Tensor:
        """Start every episode anew from ``u`` [S, B, D]; return observations [S, B, G]."""
        u = u[..., crispr.N_UNIFORMS :]
        self._t = 0
        row, target_row = self._pairs.draw(u[..., 0], u[..., 1])
        self._aim(row, target_row)
        cells = self._x[row]
        self._error = self._mse(cells)
        self._cells = self._reset_events.apply_(cells, u[..., 2 : 2 + crispr.N_UNIFORMS])
        return self._cells

    def step(self, action: Tensor, u: Tensor) -> Step:
        """Advance every cell by ``action`` [S, B, G], clipped to [-1, 1]; ``u`` [S, B, D] as in the class."""
        cells = self._moved(action)
        torch.minimum(torch.maximum(cells, self._low, out=cells), self._high, out=cells)
        self._cells = self._step_events.apply_(cells, u[..., : crispr.N_UNIFORMS])
        error = self._mse(cells)
        reward = self._error.sub_(error)
        self._error = error
        if self._threshold_rate > 0:  # ``_work`` holds the squared deviations whose mean is the error
            self._threshold = torch.lerp(self._threshold, self._work, self._threshold_rate)
            reward.sub_(self._threshold.mean(-1))
        self._add_reward_(reward, u)
        self._t += 1
        if self._t < self.horizon:
            return Step(cells, reward, self._never.clone(), self._never.clone(), cells)
        return Step(self.reset(u), reward, ~self._truncates, self._truncates.clone(), cells)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """See ``Checkpointed.load_state``."""
        super().load_state(state)
        self._aim(self._row, self._target_row)

    def _moved(self, action: Tensor) -> Tensor:
        return torch.clamp(action, -1.0, 1.0).mul_(self._step_size[..., None]).add_(self._cells)

    def _add_reward_(self, reward: Tensor, u: Tensor) -> None:
        """Add in place to ``reward`` [S, B] what a variant of the task pays beyond the drop in MSE."""

    def _aim(self, row: Tensor, target_row: Tensor) -> None:
        self._row, self._target_row = row, target_row
        torch.index_select(self._x, 0, target_row.flatten(), out=self._target.view(-1, self.obs_dim))

    def _mse(self, cells: Tensor) -> Tensor:
        return torch.sub(cells, self._target, out=self._work).square_().mean(-1)

    def _per_run(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device)[:, None]


def check(configs: Sequence[PaperEnvConfig], n_envs: int) -> None:
    """Raise ``UserError`` for no cells, or for settings that S runs must share; ``configs`` has one entry for each."""
    require(n_envs >= 1, "n_envs", f"{n_envs} cells cannot be stepped together; give at least 1")
    require_shared(configs, "env")


@registry.envs.register("paper", PaperEnvConfig)
def build(
    configs: Sequence[PaperEnvConfig],
    table: CellTable,
    cells: NDArray[np.int64],
    n_envs: int,
    device: torch.device | str,
) -> PaperEnv:
    """Build S = len(configs) runs x ``n_envs`` cells; episodes start from, and aim at, the rows ``cells`` of ``table``.

    Raises
    ------
    UserError
        Two horizons, no cells, or a cell without pseudotime.
    """
    return PaperEnv(configs, table, cells, n_envs, device)
