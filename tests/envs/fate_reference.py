"""The fate task for one cell, in plain Python: rules by ``eval``, one update after the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from perturbrl.envs.fate.config import FateEnvConfig
from perturbrl.envs.fate.observation import key_of
from perturbrl.envs.fate.tasks import landscape, tasks
from perturbrl.landscape.fate_task import Fate
from perturbrl.mixing import pick, words


class OneFateCell:
    """One cell of ``FateEnv`` with Boolean dynamics whose state is observed."""

    def __init__(self, config: FateEnvConfig) -> None:
        self.c, self.tasks = config, tasks(config)
        self.genes = self.tasks[0].network.genes
        self.rules = [compile(rule, gene, "eval") for gene, rule in self.tasks[0].network.rules.items()]
        self.may = self.tasks[0].controllable_genes
        self.settled = landscape(config).settled if config.between == "attractor" else None
        self.several = len({id(goal) for task in self.tasks for goal in task.goals}) > 1

    def reset(self, u: Tensor) -> Tensor:
        self.task = self.tasks[int(u[0] * len(self.tasks))]
        self.state = self.task.start[int(u[1] * len(self.task.start))].tolist()
        self.chosen: dict[int, int] = {}
        self.held: dict[int, int] = {}
        self.decision, self.progress = 0, 0
        return self.obs()

    def step(self, action: int, u: Tensor) -> tuple[Tensor, float, bool, bool, Tensor]:
        n = len(self.genes)
        done = action == (n if self.c.moves == "flip" else 2 * n)
        if not done:
            gene = action if self.c.moves == "flip" else action // 2
            assert gene not in self.chosen and self.genes[gene] in self.may
            self.chosen[gene] = 1 - self.state[gene] if self.c.moves == "flip" else action % 2
        if not done and len(self.chosen) < self.c.max_perturb:
            return self.obs(), 0.0, False, False, self.obs()
        before, goal = list(self.state), self.goal()
        self.evolve(int(key_of(u[None, 2:5])))
        reward = self.c.bonus - self.c.cost * len(self.chosen)
        reached = self.contains(goal)
        last = self.progress + 1 == len(self.task.goals)
        if reached:
            reward += self.c.reward if last else self.c.stage_reward
            self.progress += 1
        self.decision += 1
        over, self.chosen = self.decision >= self.c.n_decisions, {}
        success = reached and last
        reward += self.shaping(before, goal, success, over)
        terminated = success or (over and self.c.time_limit == "terminated")
        truncated = over and not terminated
        final = self.obs()
        return (self.reset(u) if terminated or truncated else final), reward, terminated, truncated, final

    def shaping(self, before: list[int], goal: Fate, success: bool, over: bool) -> float:
        if self.c.shaping == "potential":
            after = 0.0 if success or over else -self.distance(self.state, self.goal())
            return self.c.shaping_weight * (self.c.discount * after + self.distance(before, goal))
        if self.c.shaping == "tempting":
            return self.c.shaping_weight * (1 - self.distance(self.state, self.task.lure or self.task.target))
        return 0.0

    def goal(self) -> Fate:
        return self.task.goals[min(self.progress, len(self.task.goals) - 1)]

    def distance(self, state: list[int], fate: Fate) -> float:
        shares = []
        for pattern in fate.patterns.tolist():
            fixed = [(x, p) for x, p in zip(state, pattern, strict=True) if p >= 0]
            shares.append(sum(x != p for x, p in fixed) / len(fixed))
        return min(shares)

    def contains(self, fate: Fate) -> bool:
        return self.distance(self.state, fate) == 0

    def evolve(self, key: int) -> None:
        for gene, value in self.chosen.items():
            self.state[gene] = value
        lasting = self.c.duration == "permanent"
        self.held = {**self.held, **self.chosen} if lasting else {}
        n, settles = len(self.genes), self.settled is not None and not lasting
        for t in range(self.c.n_updates):
            free = t >= (self.c.hold_updates if self.c.duration == "held" else 0)
            if settles and free and self.settled is not None and self.contains(self.settled):
                return
            holds = self.held if free else self.chosen
            state = dict(zip(self.genes, self.state, strict=True))
            values = [int(bool(eval(rule, state))) for rule in self.rules]
            if self.c.update == "synchronous":
                changing = list(range(n))
            else:
                may = [i for i in range(n) if values[i] != self.state[i]] if settles and free else list(range(n))
                changing = [may[int(pick(words(torch.tensor([key]), t), len(may)))]]
            for gene in changing:
                self.state[gene] = holds.get(gene, values[gene])

    def obs(self) -> Tensor:
        def signs(values: dict[int, int]) -> list[float]:
            return [2.0 * values[i] - 1 if i in values else 0.0 for i in range(len(self.genes))]

        parts: list[list[Any]] = [self.state, signs(self.chosen)]
        if self.c.duration == "permanent":
            parts.append(signs(self.held))
        if self.several:
            patterns = self.goal().patterns.tolist()
            parts.append(
                [sum((2 * p[i] - 1) * (p[i] >= 0) for p in patterns) / len(patterns) for i in range(len(self.genes))]
            )
        parts.append([1 - len(self.chosen) / self.c.max_perturb])
        if self.c.time_limit == "terminated":
            parts[-1].append(1 - self.decision / self.c.n_decisions)
        free = [gene in self.may and i not in self.chosen for i, gene in enumerate(self.genes)]
        if self.c.moves == "flip":
            parts.append(free)
        else:
            no_op = self.c.duration == "flip"
            parts.append([f and not (no_op and self.state[i] == d) for i, f in enumerate(free) for d in (0, 1)])
        return torch.tensor([float(x) for part in parts for x in (*part,)] + [1.0])
