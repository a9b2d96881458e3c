"""Steer cells to fates on an executable network.

Letters: S runs, B cells stepped together, N some of these S B cells, G genes, A actions, D uniform numbers of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl import registry
from perturbrl.bounds import require_shared
from perturbrl.data.schema import CellTable
from perturbrl.envs.base import ActionSpace, Step
from perturbrl.envs.checkpoint import Checkpointed
from perturbrl.envs.fate.config import FateEnvConfig
from perturbrl.envs.fate.goals import Goals
from perturbrl.envs.fate.observation import counts, key_of
from perturbrl.envs.fate.table import cell_table
from perturbrl.envs.fate.tasks import landscape, tasks
from perturbrl.errors import require
from perturbrl.landscape.evolution import evolution
from perturbrl.memory import require_memory

FREE = -1  # in ``chosen`` and ``held``: a gene that is neither held on (1) nor off (0)
U_TASK, U_START, U_PATH, U_ASSAY, U_FIRST_ASSAY, N_UNIFORMS = 0, 1, slice(2, 5), slice(5, 8), slice(8, 11), 11


@dataclass(frozen=True)
class Outcome:
    """What a step came to, bool [S, B]: a decision ended; it passed a stage or reached the target; it reached it."""

    decided: Tensor
    passed: Tensor
    reached: Tensor


@dataclass(frozen=True)
class Situation:
    """Cells as they are now: ``levels``, and ``chosen`` and ``held`` genes (-1, or the value), [S, B, G].

    ``task``, ``decision`` and ``progress`` [S, B]: the number of the task, and how many decisions and goals lie behind.
    """

    levels: Tensor
    chosen: Tensor
    held: Tensor
    task: Tensor
    decision: Tensor
    progress: Tensor


class FateEnv(Checkpointed):
    """One step is one choice: a gene (with ``moves=set`` and a direction), or "done", the last action.

    After "done", or when ``max_perturb`` genes are chosen, they take effect together, the cell evolves (``evolution``),
    and the decision is paid (``FateTask.decision_reward`` and shaping); every other step pays 0. The episode ends when
    the target is reached, and after ``n_decisions``. Genes already chosen in this decision are masked.

    An observation holds, in the columns ``slices``: ``state`` [G], as the assay sees it; ``chosen`` [G], 1 for on, -1
    for off, 0 for none; ``held`` [G], likewise, with ``duration=permanent``; ``goal`` [G], where there are several;
    ``clock``: the share of the decision's choices that is left and, with ``time_limit=terminated``, of the episode's
    decisions; ``mask`` [A]. Observations are new tensors at each step.

    The 11 uniforms of a step: task and start state of the next episode | key of the cell's path (3) | keys of the assay
    after the decision (3) and of the next episode's first state (3). ``reset`` reads those of the next episode.
    """

    saved = ("cells", "chosen", "held", "task", "decision", "progress", "seen")

    def __init__(self, configs: Sequence[FateEnvConfig], n_envs: int, device: torch.device | str) -> None:
        c = configs[0]
        self.config, self.device = c, torch.device(device)
        self.tasks = tasks(c)
        for config in configs[1:]:
            tasks(config)  # raises where a setting of this run does not fit
        self._first = self.tasks[0]
        self.n_runs, self.n_envs, self.n_uniforms = len(configs), n_envs, N_UNIFORMS
        self.can_truncate = c.time_limit == "truncated"
        self._goals = Goals(self.tasks, device)
        self._evolution = evolution(self._first, lambda: landscape(c).settled, device)
        self._n_genes = len(self._first.network.genes)
        self._lay_out()
        numbers = {
            "max_perturb": torch.int64,
            **dict.fromkeys(("reward", "stage_reward", "bonus", "cost"), torch.float32),
        }
        self._of_run = {
            name: torch.tensor([getattr(config, name) for config in configs], dtype=dtype, device=device)[:, None]
            for name, dtype in numbers.items()
        }
        shape = (self.n_runs, n_envs)
        require_memory(4 * self.n_runs * n_envs * (self.obs_dim + 4 * self._n_genes), "env=fate", f"{shape} cells")
        self._start = torch.cat([task.start for task in self.tasks]).to(device)
        sizes = torch.tensor([len(task.start) for task in self.tasks], device=device)
        self._n_start, self._first_start = sizes, sizes.cumsum(0) - sizes
        controllable = set(self._first.controllable_genes)
        self._may = torch.tensor([gene in controllable for gene in self._first.network.genes], device=device)
        self._t = 0
        self._cells = self._evolution.start(self._start[:1]).expand(*shape, -1).clone()
        self._chosen = torch.full((*shape, self._n_genes), FREE, dtype=torch.int8, device=device)
        self._held = self._chosen.clone()
        self._task = torch.zeros(shape, dtype=torch.int64, device=device)
        self._decision, self._progress = torch.zeros_like(self._task), torch.zeros_like(self._task)
        self._seen = torch.zeros(*shape, self._n_genes, device=device)

    def _lay_out(self) -> None:
        """Set the columns of an observation and the action space."""
        widths = {"state": self._n_genes, "chosen": self._n_genes}
        widths |= {"held": self._n_genes} if self._first.duration == "permanent" else {}
        widths |= {"goal": self._n_genes} if self._goals.n_fates > 1 else {}
        widths |= {"clock": 1 if self.can_truncate else 2, "mask": self._first.n_actions}
        ends = np.cumsum(list(widths.values())).tolist()
        self.slices = {name: slice(end - n, end) for (name, n), end in zip(widths.items(), ends, strict=True)}
        self.obs_dim = ends[-1]
        self.action_space = ActionSpace("discrete", self._first.n_actions, mask=self.slices["mask"])

    def reset(self, u: Tensor) -> Tensor:
        """Start every episode anew from ``u`` [S, B, D]; return observations [S, B, obs_dim]."""
        everywhere = torch.ones(self.n_runs, self.n_envs, dtype=torch.bool, device=self.device)
        self._begin(everywhere, u)
        return self._observation()

    def step(self, action: Tensor, u: Tensor) -> Step:
        """Take the choices ``action`` [S, B] int64, which the mask must allow; ``u`` [S, B, D] as in the class."""
        self._t += 1
        self._choose(action)
        n_chosen = (self._chosen != FREE).sum(-1)
        decided = (action == self._first.done) | (n_chosen >= self._of_run["max_perturb"])
        reward = torch.zeros(action.shape, device=self.device)
        passed, reached, over = (torch.zeros_like(decided) for _ in range(3))
        where = decided.nonzero(as_tuple=True)
        if len(where[0]):
            reward[where], passed[where], reached[where], over[where] = self._decide(where, n_chosen[where], u)
        self.outcome = Outcome(decided, passed, reached)
        truncated = over & ~reached & self.can_truncate
        terminated = (reached | over) & ~truncated
        ended = reached | over
        final = self._observation()
        if not bool(ended.any()):
            return Step(final, reward, terminated, truncated, final)
        self._begin(ended, u)
        return Step(self._observation(), reward, terminated, truncated, final)

    def observe(self) -> Tensor:
        """Return what a policy sees now, [S, B, obs_dim]: after ``load_state``, which returns nothing."""
        return self._observation()

    def situation(self) -> Situation:
        """Return copies of what a policy may know of the cells beyond its observation."""
        levels = self._levels(self._cells.flatten(0, 1)).view_as(self._chosen).clone()
        return Situation(
            levels, *(x.clone() for x in (self._chosen, self._held, self._task, self._decision, self._progress))
        )

    def _choose(self, action: Tensor) -> None:
        """Note the gene of each action that is not "done"."""
        chooses = action != self._first.done
        levels = self._levels(self._cells.flatten(0, 1)).view(*action.shape, -1)
        gene, value = self._first.perturbation(action.where(chooses, 0), levels)
        gene = gene[..., None]
        changed = torch.where(chooses[..., None], value[..., None].to(torch.int8), self._chosen.gather(-1, gene))
        self._chosen = self._chosen.scatter(-1, gene, changed)

    def _decide(self, where: tuple[Tensor, ...], n_chosen: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Let the cells at ``where`` evolve; return reward, goal and target reached, and no decision left, each [N]."""
        cells, task, progress, v = self._cells[where], self._task[where], self._progress[where], u[where]
        goal, before = self._goals.fate(task, progress), self._levels(cells)
        chosen, held = _as_clamps(self._chosen[where]), _as_clamps(self._held[where])
        cells = self._evolution.run(cells, chosen, held, key_of(v[:, U_PATH]))
        after = self._levels(cells)
        reached = self._goals.distance(after, goal) == 0
        last = progress + 1 == self._goals.n_goals[task]
        done, decision = reached & last, self._decision[where] + 1
        over = decision >= self._first.n_decisions
        reward = self._reward(where[0], n_chosen, reached, last)
        if self._first.shaping != "none":
            following = torch.where(done, 0.0, -self._goals.distance(after, self._goals.fate(task, progress + reached)))
            lure = self._lure(after, task)
            reward += self._first.shaped(-self._goals.distance(before, goal), following, lure, done | over)
        if self._first.duration == "permanent":
            self._held[where] = torch.where(chosen.isnan(), self._held[where], self._chosen[where])
        self._cells[where], self._progress[where], self._decision[where] = cells, progress + reached, decision
        self._chosen[where] = FREE
        self._seen[where] = self._assayed(after, v[:, U_ASSAY])
        return reward, reached, done, over

    def _reward(self, run: Tensor, n_chosen: Tensor, reached: Tensor, is_target: Tensor) -> Tensor:
        """As ``FateTask.decision_reward``, with the settings of the runs ``run`` [N]."""
        bonus, goal, stage, cost = (self._of_run[k][run, 0] for k in ("bonus", "reward", "stage_reward", "cost"))
        return bonus + torch.where(is_target, goal, stage) * reached - cost * n_chosen

    def _lure(self, levels: Tensor, task: Tensor) -> Tensor:
        """Return the distance to what tempts: the lure, or each task's target; [N]."""
        if self._first.lure is not None:
            return self._first.lure.distance(levels)
        return self._goals.distance(levels, self._goals.fate(task, self._goals.n_goals[task] - 1))

    def _begin(self, which: Tensor, u: Tensor) -> None:
        """Start the next episode of the cells ``which`` [S, B]."""
        where = which.nonzero(as_tuple=True)
        v = u[where]
        task = (v[:, U_TASK] * len(self.tasks)).long()
        row = self._first_start[task] + (v[:, U_START] * self._n_start[task]).long()
        cells = self._evolution.start(self._start[row])
        self._cells[where], self._task[where] = cells, task
        self._chosen[where] = self._held[where] = FREE
        self._decision[where] = self._progress[where] = 0
        self._seen[where] = self._assayed(self._levels(cells), v[:, U_FIRST_ASSAY])

    def _levels(self, cells: Tensor) -> Tensor:
        return self._evolution.genes(cells)

    def _assayed(self, levels: Tensor, u: Tensor) -> Tensor:
        c = self.config
        return levels if c.observation == "state" else counts(levels, key_of(u), c.molecules, c.capture)

    def _observation(self) -> Tensor:
        parts = {"state": self._seen, "chosen": _signs(self._chosen), "held": _signs(self._held)}
        parts["goal"] = self._goals.code[self._goals.fate(self._task, self._progress)]
        left = 1 - (self._chosen != FREE).sum(-1, keepdim=True) / self._of_run["max_perturb"][..., None]
        rest = 1 - self._decision[..., None] / self._first.n_decisions
        parts["clock"] = left if self.can_truncate else torch.cat([left, rest], -1)
        parts["mask"] = self._allowed()
        return torch.cat([parts[name] for name in self.slices], -1)

    def _allowed(self) -> Tensor:
        """Return which actions are allowed, [S, B, A] float."""
        free = (self._chosen == FREE) & self._may
        done = torch.ones_like(free[..., :1])
        if self._first.moves == "flip":
            return torch.cat([free, done], -1).float()
        directions = torch.stack([free, free], -1)
        if self._first.duration == "flip":  # to set a gene to what it is would do nothing
            on = self._levels(self._cells.flatten(0, 1)).view_as(free) > 0.5
            directions &= torch.stack([on, ~on], -1) | (self._first.dynamics == "hill")
        return torch.cat([directions.flatten(-2), done], -1).float()


def _as_clamps(values: Tensor) -> Tensor:
    return values.float().masked_fill(values == FREE, torch.nan)


def _signs(values: Tensor) -> Tensor:
    return torch.where(values == FREE, 0, 2 * values - 1).float()


@registry.envs.register("gattaca", FateEnvConfig)
@registry.envs.register("fate", FateEnvConfig)
def build(
    configs: Sequence[FateEnvConfig],
    table: CellTable,
    cells: NDArray[np.int64],
    n_envs: int,
    device: torch.device | str,
) -> FateEnv:
    """Build S = len(configs) runs x ``n_envs`` cells; ``table`` and ``cells`` are not used, the network is the task.

    Raises
    ------
    UserError
        A setting that S runs must share, no cells, or as ``tasks``.
    """
    require(n_envs >= 1, "n_envs", f"{n_envs} cells cannot be stepped together; give at least 1")
    require_shared(configs, "env")
    return FateEnv(configs, n_envs, device)


build.table = cell_table  # type: ignore[attr-defined]
