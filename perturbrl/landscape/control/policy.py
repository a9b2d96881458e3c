"""Policies of a fate task and what they are worth, for every state of a Boolean network.

Letters: G genes, N = 2^G states, T decisions, K goals (stages and target), B cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from perturbrl.landscape.control.choices import Choice
from perturbrl.landscape.fate_task import FateTask
from perturbrl.landscape.state_graph import Floats, pack, unpack

Held = int  # a set of held genes as a bit mask
Table = Mapping[Held, Floats]


class Rule(Protocol):
    """A policy that decides from the state alone, and the goal and number of the decision."""

    def plan(self, states: Tensor, goal: int, decision: int, held: Held) -> Tensor:
        """Return what each state [B, G] gets, int8 [B, G]: -1 a gene left alone, else the value it is put to."""
        ...


@dataclass(frozen=True, eq=False)
class Values:
    """What a policy is worth: ``tables`` [T + 1][K] of the values [N] for each set of held genes.

    Row t is the discounted sum of rewards from decision t on; row T is 0. A task without end has one row.
    """

    task: FateTask
    tables: Sequence[Sequence[Table]]

    def at(self, states: Tensor, goal: int = 0, decision: int = 0, held: Held = 0) -> Floats:
        """Return the value of ``states`` [B, G], [B]."""
        return self.tables[decision][goal][held][pack(states.cpu().numpy())]

    @property
    def first(self) -> Floats:
        """The values [N] of all states at the start of an episode."""
        return self.tables[0][0][0]

    @property
    def mean(self) -> float:
        """The value of the task: the mean over its start states."""
        return float(self.at(self.task.start).mean())


@dataclass(frozen=True, eq=False)
class ExactPolicy(Values):
    """The optimum: its values, and the best choice [T][K] of every state [N] for each set of held genes."""

    choices: Sequence[Sequence[Mapping[Held, Choice]]]

    def plan(self, states: Tensor, goal: int = 0, decision: int = 0, held: Held = 0) -> Tensor:
        """Return the best perturbation of each state [B, G], int8 [B, G]: -1 left alone, else the new value."""
        # A task without end has one row, which is that of every decision.
        choice = self.choices[min(decision, len(self.choices) - 1)][goal][held]
        index = pack(states.cpu().numpy() > 0.5)
        return as_plan(Choice(choice.genes[index], choice.values[index]), states)

    def regret(self, other: Values) -> Floats:
        """Return what every state [N] loses at the start of an episode by the policy that ``other`` is worth."""
        return self.first - other.first


def as_plan(choice: Choice, like: Tensor) -> Tensor:
    """Return ``choice`` of B states as int8 [B, G]: -1 left alone, else the new value."""
    n_genes = like.shape[-1]
    genes, values = unpack(choice.genes, n_genes), unpack(choice.values, n_genes)
    return torch.from_numpy(np.where(genes == 1, values.astype(np.int8), np.int8(-1))).to(like.device)


def as_choice(plan: Tensor, states: Tensor) -> Choice:
    """Return the choice that ``plan`` [B, G] is."""
    chosen = plan.cpu().numpy()
    return Choice(pack(chosen >= 0).astype(np.uint32), pack(chosen == 1).astype(np.uint32))
