"""Predict a perturbation: change control cells until they look like the cells that were perturbed.

Letters: S runs, B cells, G genes, A action size, P conditions of the part, O numbers of an observation.
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
from perturbrl.bounds import OneOf, PerRun, PositiveFloat, PositiveInt, require_shared
from perturbrl.config import require
from perturbrl.envs.base import ActionSpace, Step
from perturbrl.envs.checkpoint import Checkpointed
from perturbrl.envs.counterfactual import projections as geometry
from perturbrl.envs.counterfactual import rewards
from perturbrl.envs.counterfactual.dynamics import Dynamics
from perturbrl.envs.counterfactual.parts import part_of
from perturbrl.envs.counterfactual.populations import Populations, populations
from perturbrl.envs.counterfactual.residual import ResidualName, residual_changes
from perturbrl.errors import UserError
from perturbrl.screens.schema import PerturbationTable


@dataclass(frozen=True)
class CounterfactualEnvConfig:
    """Settings of one run; see conf/env/counterfactual.yaml for units."""

    name: str
    horizon: PositiveInt
    state: Annotated[str, OneOf(*geometry.STATES)]
    state_size: PositiveInt
    action: Annotated[str, OneOf(*geometry.ACTIONS)]
    action_size: PositiveInt
    step_size: PerRun[PositiveFloat]
    reward: Annotated[str, OneOf(*rewards.REWARDS)]
    mates: PositiveInt
    residual: Annotated[str, ResidualName()]
    max_train_targets: PerRun[PositiveInt]
    pool: PositiveInt


class CounterfactualEnv(Checkpointed):
    """Turn a control cell into what it would be, had it been perturbed.

    reset: a condition and a control cell of its context, both drawn evenly. step: the change of the cell grows by
    ``step_size * reach * clip(a, -1, 1)`` along the A directions of ``env.action``. reward: the drop of the distance
    (``env.reward``) to the observed cells of the condition, which are never seen; so the rewards of an episode sum to
    the whole drop from the unchanged cell, and doing nothing earns 0 (with ``env.residual``: what the baseline earns,
    paid at the first step). An episode ends after ``horizon`` steps.

    Start cells, conditions and observed cells are those of one part of the split: that of ``cells``. The clock is a
    number of the host. Two uniforms a step, for the next episode: condition, cell. With ``reward=energy`` cells stand
    in groups of ``mates`` that share the condition drawn for the first of them.
    """

    can_truncate = False
    n_uniforms = 2
    saved = ("condition", "cell", "change", "error")

    def __init__(
        self,
        configs: Sequence[CounterfactualEnvConfig],
        table: PerturbationTable,
        cells: NDArray[np.int64],
        n_envs: int,
        device: torch.device | str,
    ) -> None:
        check(configs, table, n_envs)
        first = configs[0]
        self.device = torch.device(device)
        self._table, self._controls = table, cells
        self.n_runs, self.n_envs = len(configs), n_envs
        train = part_of(table, table.split.control_train, first.pool)
        part = part_of(table, cells, first.pool)
        plan = geometry.fit(table, train, first.state, first.action, first.state_size, first.action_size)
        residual = residual_changes(table, first.residual)
        self.part = part
        self.dynamics = Dynamics(
            table, plan, residual, train.conditions, [c.step_size for c in configs], first.horizon, self.device
        )
        self.mates = min(first.mates, n_envs) if first.reward == "energy" else 1
        require(
            n_envs % self.mates == 0,
            "env.mates",
            f"{n_envs} cells cannot stand in groups of {self.mates}; give a divisor",
        )
        begin = residual[part.conditions]
        goals = rewards.Goals(table, part, plan, begin, self.device)
        self.distance = rewards.build(first.reward, goals, self.mates)
        self.obs_dim, self.slices = self.dynamics.obs_dim, self.dynamics.slices
        self.action_space = ActionSpace("box", self.dynamics.action_size)
        self._goal = torch.as_tensor((part.effect - begin) @ plan.change, dtype=torch.float32, device=self.device)
        self._states = self.dynamics.states(table.screen.x[part.cells])
        self._index = torch.as_tensor(part.conditions, device=self.device)
        self._first = torch.as_tensor(part.first, device=self.device)
        self._count = torch.as_tensor(part.count, device=self.device)
        # only training is bounded: the conditions of validation and test stay the same
        most = [c.max_train_targets if part.name == "train" else int(part.n_targets.max()) for c in configs]
        allowed = np.searchsorted(part.n_targets, most, side="right")
        for config, n in zip(configs, allowed, strict=True):
            fewest = f"the fewest targets of a training condition are {part.n_targets.min()}"
            require(
                n > 0, "env.max_train_targets", f"{config.max_train_targets} leaves no condition to train on: {fewest}"
            )
        self._allowed = torch.as_tensor(allowed, device=self.device)[:, None]
        shape = (self.n_runs, n_envs)
        self._never = torch.zeros(shape, dtype=torch.bool, device=self.device)
        self._t = 0
        self._condition = torch.zeros(shape, dtype=torch.int64, device=self.device)
        self._cell = torch.zeros_like(self._condition)
        self._change = torch.zeros((*shape, self.dynamics.action_size), device=self.device)
        self._error = torch.zeros(shape, device=self.device)

    def reset(self, u: Tensor) -> Tensor:
        """Start every episode anew from ``u`` [S, B, 2]; return observations [S, B, O]."""
        groups = u[..., 0].reshape(self.n_runs, -1, self.mates)
        drawn = groups[..., :1].expand(-1, -1, self.mates).reshape(u.shape[:2])
        self._t = 0
        self._condition = (drawn * self._allowed).long()
        self._cell = self._first[self._condition] + (u[..., 1] * self._count[self._condition]).long()
        self._change = torch.zeros_like(self._change)
        self._error = self.distance.start(self._cell, self._condition)
        return self._observe()

    def step(self, action: Tensor, u: Tensor) -> Step:
        """Advance every cell by ``action`` [S, B, A], clipped to [-1, 1]; ``u`` [S, B, 2] as in ``reset``."""
        self._change = self.dynamics.advance(self._change, action)
        error = self.distance.after(self._cell, self._condition, self._change)
        reward, self._error = self._error - error, error
        self._t += 1
        obs = self._observe()
        if self._t < self.dynamics.horizon:
            return Step(obs, reward, self._never.clone(), self._never.clone(), obs)
        return Step(self.reset(u), reward, ~self._never, self._never.clone(), obs)

    @property
    def condition(self) -> Tensor:
        """The condition of ``part`` that each cell is to reach, [S, B] int64."""
        return self._condition

    @property
    def cell(self) -> Tensor:
        """Which of ``part.cells`` each cell started as, [S, B] int64."""
        return self._cell

    @property
    def goal(self) -> Tensor:
        """Where the mean of each condition of ``part`` lies, beyond what it begins with: coordinates [P, A]."""
        return self._goal

    def populations(self, most: int) -> Populations:
        """Return the cells of this part of the split, at most ``most`` of each condition and context.

        An environment that was built for the training part has no others to give.
        """
        return populations(self._table, self._controls, self.dynamics, self._allowed, most)

    def demonstration(self) -> Tensor:
        """Return the best next action of each cell, [S, B, A]: to the mean of its population, as near as actions lead.

        What is left to go, by least squares on the directions, is shared out evenly over the steps left, and clipped.
        With ``reward=shift`` no episode earns more: the directions are orthonormal, so that clipping each coordinate
        gives the nearest point of the box. The other rewards look beyond the mean.
        """
        return self.dynamics.towards(self._goal[self._condition], self._change, self._t)

    def best_returns(self) -> Tensor:
        """Return what an episode that has just begun earns by reaching the population exactly, [S, B]."""
        return self.distance.start(self._cell, self._condition) - self.distance.perfect[self._condition]

    def _observe(self) -> Tensor:
        return self.dynamics.observe(self._states[self._cell], self._index[self._condition], self._change, self._t)


def check(configs: Sequence[CounterfactualEnvConfig], table: object, n_envs: int) -> None:
    """Raise ``UserError`` for cells without a split of conditions, and for settings that S runs must share."""
    if not isinstance(table, PerturbationTable):
        raise UserError("env=counterfactual: needs a split that holds out perturbations; choose split=unseen_single")
    require(n_envs >= 1, "n_envs", f"{n_envs} cells cannot be stepped together; give at least 1")
    require_shared(configs, "env")


@registry.envs.register("counterfactual", CounterfactualEnvConfig)
def build(
    configs: Sequence[CounterfactualEnvConfig],
    table: PerturbationTable,
    cells: NDArray[np.int64],
    n_envs: int,
    device: torch.device | str,
) -> CounterfactualEnv:
    """Build S = len(configs) runs x ``n_envs`` cells, for the part of the split whose control cells are ``cells``.

    Raises
    ------
    UserError
        Cells of another part or none; a table without held-out perturbations.
    """
    return CounterfactualEnv(configs, table, cells, n_envs, device)
