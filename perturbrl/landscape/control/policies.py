"""The rows beside an agent: optimum, one_step_best, greedy, random and do_nothing, as policies of a fate task.

A policy decides at the start of a decision from the state, the goal and what is held; ``next_action`` turns its plan
into the single choices that an environment asks for.

Letters: G genes, B cells, m the most genes of a decision.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from perturbrl.errors import choice
from perturbrl.landscape.control.exact import Solver
from perturbrl.landscape.control.plans import Plan
from perturbrl.landscape.control.policy import Held, Rule
from perturbrl.landscape.fate_task import FateTask

BASELINES = ("optimum", "one_step_best", "greedy", "random", "do_nothing")


@dataclass(frozen=True, eq=False)
class Greedy:
    """Puts up to m genes to the values that the goal wants, in the order of the network; knows no dynamics.

    The pattern of the goal is the one that fewest genes of the state disagree with.
    """

    task: FateTask

    def plan(self, states: Tensor, goal: int, decision: int, held: Held = 0) -> Tensor:
        """See ``Rule``."""
        patterns = self.task.goals[goal].patterns.to(states.device)
        on = (states > 0.5).to(patterns.dtype)
        wrong = (patterns >= 0) & (patterns != on[:, None])
        nearest = wrong.sum(-1).argmin(1)
        rows = torch.arange(len(states), device=states.device)
        wanted = wrong[rows, nearest] & _controllable(self.task, states.device)
        first = wanted & (wanted.cumsum(-1) <= self.task.max_perturb)
        return torch.where(first, patterns[nearest], -1).to(torch.int8)


@dataclass(frozen=True, eq=False)
class Random:
    """Draws each choice uniformly from the actions that are left and "done"."""

    task: FateTask
    generator: torch.Generator

    def plan(self, states: Tensor, goal: int, decision: int, held: Held = 0) -> Tensor:
        """See ``Rule``."""
        n_values = 2 if self.task.moves == "set" else 1
        free = _controllable(self.task, states.device).repeat(len(states), 1)
        going = torch.ones(len(states), dtype=torch.bool, device=states.device)
        plan = torch.full_like(states, -1, dtype=torch.int8)
        rows = torch.arange(len(states), device=states.device)
        for _ in range(self.task.max_perturb):
            weights = torch.cat([free * float(n_values), torch.ones_like(free[:, :1])], dim=1)
            gene = torch.multinomial(weights.float(), 1, generator=self.generator)[:, 0]
            going &= gene < states.shape[1]
            who = rows[going]
            gene = gene[going]
            coin = torch.randint(0, 2, (len(states),), generator=self.generator, device=states.device)[going]
            value = coin if self.task.moves == "set" else 1 - (states[who, gene] > 0.5).long()
            plan[who, gene] = value.to(torch.int8)
            free[who, gene] = False
        return plan


@dataclass(frozen=True)
class DoNothing:
    """Perturbs no gene."""

    def plan(self, states: Tensor, goal: int, decision: int, held: Held = 0) -> Tensor:
        """See ``Rule``."""
        return torch.full_like(states, -1, dtype=torch.int8)


@dataclass(frozen=True, eq=False)
class FollowPlan:
    """Perturbs what a plan says, whatever the state: the best of ``exhaustive`` or ``search`` where none is exact."""

    task: FateTask
    actions: Plan

    def plan(self, states: Tensor, goal: int, decision: int, held: Held = 0) -> Tensor:
        """See ``Rule``."""
        plan = torch.full_like(states, -1, dtype=torch.int8)
        for action in self.actions[decision]:
            gene, value = self.task.perturbation(torch.full((len(states),), action, device=states.device), states)
            plan.scatter_(1, gene[:, None], value[:, None].to(torch.int8))
        return plan


def baseline(name: str, task: FateTask, generator: torch.Generator | None = None) -> Rule:
    """Return a policy by its name of ``BASELINES``; ``random`` needs a generator.

    ``optimum`` and ``one_step_best`` are exact and need a Boolean task.
    """
    choice(name, BASELINES, "baseline")
    if name == "optimum":
        return Solver(task).optimum()
    if name == "one_step_best":
        return Solver(task).one_step()
    if name == "greedy":
        return Greedy(task)
    return DoNothing() if name == "do_nothing" else Random(task, generator or torch.Generator().manual_seed(0))


def next_action(task: FateTask, plan: Tensor, chosen: Tensor) -> Tensor:
    """Return the discrete action [B] int64 that follows ``plan`` [B, G] where the genes ``chosen`` [B, G] are chosen.

    The genes come in the order of the network; "done" once all are chosen.
    """
    left = (plan >= 0) & ~chosen
    gene = left.to(torch.uint8).argmax(-1)
    value = plan.gather(-1, gene[..., None])[..., 0].long()
    action = 2 * gene + value if task.moves == "set" else gene
    return torch.where(left.any(-1), action, task.done)


def _controllable(task: FateTask, device: torch.device) -> Tensor:
    return torch.tensor([gene in task.controllable_genes for gene in task.network.genes], device=device)
