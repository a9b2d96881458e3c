"""The study's older, discrete environment (released T-cell and paul15 notebooks).

Letters: S runs, B cells, G features.
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
from perturbrl.bounds import NonNegativeFloat, OneOf, PerRun
from perturbrl.data.schema import CellTable
from perturbrl.envs.base import ActionSpace
from perturbrl.envs.paper.continuous import PaperEnv, PaperEnvConfig

REWARD_GENES = ("episode", "step")


@dataclass(frozen=True)
class PaperDiscreteConfig(PaperEnvConfig):
    """Settings of one run; see conf/env/paper_discrete.yaml for units."""

    reward_gene: PerRun[Annotated[str, OneOf(*REWARD_GENES)]]
    reward_gene_weight: PerRun[NonNegativeFloat]


class PaperDiscreteEnv(PaperEnv):
    """As ``PaperEnv``, but an action moves one gene, and one random gene is paid for apart.

    Action a of 0..3G-1 moves gene a // 3 by step_size x (a % 3 - 1). The reward adds
    reward_gene_weight x ((x_g - t_g)^2 - (s_g - t_g)^2), with x the unperturbed cell, s the new state, t the target.
    The sources say only "improvement of one randomly chosen reward gene against the original cell": the squared error
    (the unit of the MSE beside it) is our reading, and ``reward_gene`` says whether g is drawn once an episode or
    at every step. Uniforms: those of ``PaperEnv``, then one for g at each step and one for g of the next episode.
    """

    saved = (*PaperEnv.saved, "gene")

    def __init__(
        self,
        configs: Sequence[PaperDiscreteConfig],
        table: CellTable,
        cells: NDArray[np.int64],
        n_envs: int,
        device: torch.device | str,
    ) -> None:
        super().__init__(configs, table, cells, n_envs, device)
        self.n_uniforms += 2
        self.action_space = ActionSpace("discrete", 3 * self.obs_dim)
        self._weight = self._per_run([c.reward_gene_weight for c in configs])
        self._each_step = self._per_run([float(c.reward_gene == "step") for c in configs]) > 0
        self._gene = torch.zeros_like(self._row)

    def reset(self, u: Tensor) -> Tensor:
        """Start every episode anew from ``u`` [S, B, D]; return observations [S, B, G]."""
        self._gene = self._draw_gene(u[..., -1])
        return super().reset(u)

    def _moved(self, action: Tensor) -> Tensor:
        gene = torch.div(action, 3, rounding_mode="floor")
        change = (action - 3 * gene - 1) * self._step_size
        return self._cells.scatter_add(-1, gene[..., None], change[..., None])

    def _add_reward_(self, reward: Tensor, u: Tensor) -> None:
        gene = torch.where(self._each_step, self._draw_gene(u[..., -2]), self._gene)[..., None]
        target = self._target.gather(-1, gene)
        before = self._x[self._row[..., None], gene] - target
        after = self._cells.gather(-1, gene) - target
        reward.add_((before.square_() - after.square_())[..., 0] * self._weight)

    def _draw_gene(self, u: Tensor) -> Tensor:
        return (u * self.obs_dim).long()


@registry.envs.register("paper_discrete", PaperDiscreteConfig)
def build(
    configs: Sequence[PaperDiscreteConfig],
    table: CellTable,
    cells: NDArray[np.int64],
    n_envs: int,
    device: torch.device | str,
) -> PaperDiscreteEnv:
    """Build S = len(configs) runs x ``n_envs`` cells; arguments and errors as for ``paper``."""
    return PaperDiscreteEnv(configs, table, cells, n_envs, device)
