"""Value iteration over all states of a Boolean network: the exact policy, value and regret of every state.

Bellman's equation (Puterman, Markov Decision Processes, 1994, sections 4.5 and 6.3) for a fate task, backwards from
the last decision, or to the fixed point for a discounted task without end. The choice of up to m genes is a sequence
of single choices (``choices.best_flips``), so a decision costs n_updates + m G passes over 2^G states, not the
number of sets. Genes that stay held make the value depend on the set that is held, and then sets are enumerated.

CPU seconds and peak memory of 10 decisions of up to 3 genes that run to an attractor (``benchmarks/bench_control.py``,
generated networks, one core of an AMD EPYC): 11 genes 0.05, 12 0.03, 15 0.3, 18 4 (0.6 GB), 20 16 (1.2 GB). A network
that lingers takes longer: a random one of 20 genes with two cycles took 150 s on a busy machine (1.5 GB).

Letters: G genes, N = 2^G states, T decisions, K goals (stages and target), B cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from math import comb

import numpy as np
import torch
from numpy.typing import NDArray

from perturbrl.errors import UserError
from perturbrl.landscape.control import choices
from perturbrl.landscape.control.choices import Choice
from perturbrl.landscape.control.expectation import Expectation
from perturbrl.landscape.control.policy import ExactPolicy, Held, Rule, Table, Values, as_choice
from perturbrl.landscape.fate_task import FateTask
from perturbrl.landscape.state_graph import Floats, network_name, unpack

MOST_VALUES = 1 << 27  # values of states (times sets of held genes) computed for one decision: 1 GiB


def value_iteration(task: FateTask, *, stationary: bool = False, tolerance: float = 1e-9) -> ExactPolicy:
    """Return the optimum of ``task`` for every state.

    Parameters
    ----------
    task
        A Boolean task of at most ``state_graph.MOST_GENES`` genes.
    stationary
        Solve the discounted task without end (``n_decisions`` is then not read), to within ``tolerance`` of the
        optimal value (Puterman 1994, theorem 6.3.1). Else the best policy for ``n_decisions`` depends on the decision.

    Raises
    ------
    UserError
        Hill dynamics, too many genes or sets of held genes, ``stationary`` without a discount below 1 or with
        permanent perturbations.
    """
    return Solver(task).optimum(stationary=stationary, tolerance=tolerance)


class Solver:
    """Everything that the optimum and the policies beside it have in common for one task."""

    def __init__(self, task: FateTask) -> None:
        self.task = task
        self.expectation = Expectation(task)
        self.n_states = self.expectation.graph.n_states
        self.controllable = [task.network.genes.index(gene) for gene in task.controllable_genes]
        self.keeps_held = task.duration == "permanent"
        self.by_state = task.duration == "flip"
        n_held = task.max_perturb * (task.n_decisions if self.keeps_held else 1)
        n_sets = sum(comb(len(self.controllable), size) for size in range(min(n_held, len(self.controllable)) + 1))
        if not self.by_state and n_sets * self.n_states > MOST_VALUES:
            raise UserError(
                f"network {network_name(task.network)!r}: {n_sets} sets of held genes x {self.n_states} states are too"
                f" many for the exact solver (at most {MOST_VALUES}); lower task.max_perturb or task.n_decisions, or"
                " use exhaustive or search"
            )

    def optimum(self, *, stationary: bool = False, tolerance: float = 1e-9) -> ExactPolicy:
        """See ``value_iteration``."""
        if stationary:
            return self._stationary(tolerance)
        tables = [self._zeros()]
        best: list[list[Mapping[Held, Choice]]] = []
        for t in reversed(range(self.task.n_decisions)):
            table, choice = self._decision(tables[0], self._held_sets(t), t == self.task.n_decisions - 1)
            tables.insert(0, table)
            best.insert(0, choice)
        return ExactPolicy(self.task, tables, best)

    def one_step(self) -> ExactPolicy:
        """Return the policy that maximises the expected reward of the present decision, whatever follows."""
        table, choice = self._decision(self._zeros(), self._held_sets(self.task.n_decisions - 1), False)
        return ExactPolicy(self.task, [table], [choice])

    def _stationary(self, tolerance: float) -> ExactPolicy:
        if self.task.discount >= 1 or self.keeps_held:
            raise UserError(
                "stationary: needs task.discount below 1 and a duration other than permanent; got"
                f" discount={self.task.discount:g}, duration={self.task.duration}"
            )
        table, limit = self._zeros(), tolerance * (1 - self.task.discount) / (2 * self.task.discount)
        while True:
            new, choice = self._decision(table, [0], False)
            change = max(float(np.abs(a[0] - b[0]).max()) for a, b in zip(new, table, strict=True))
            table = new
            if change <= limit:
                return ExactPolicy(self.task, [table], [choice])

    def _decision(
        self, following: Sequence[Table], held: Sequence[Held], final: bool
    ) -> tuple[list[Table], list[Mapping[Held, Choice]]]:
        """Return the best values and choices of one decision for each goal, given the values that follow it."""
        rows = [self._best(goal, following, held, final) for goal in range(len(self.task.goals))]
        tables: list[Table] = [{mask: value for mask, (value, _) in row.items()} for row in rows]
        return tables, [{mask: choice for mask, (_, choice) in row.items()} for row in rows]

    def evaluate(self, rule: Rule) -> Values:
        """Return what the policy ``rule`` is worth in every state, exactly."""
        states = torch.from_numpy(self._states)
        tables: list[list[Table]] = [self._zeros()]
        for t in reversed(range(self.task.n_decisions)):
            row: list[Table] = []
            for goal in range(len(self.task.goals)):
                plans = {held: as_choice(rule.plan(states, goal, t, held), states) for held in self._held_sets(t)}
                row.append(self._followed(goal, tables[0], plans, t == self.task.n_decisions - 1))
            tables.insert(0, row)
        return Values(self.task, tables)

    def evaluate_random(self) -> Values:
        """Return what uniformly drawn actions are worth in every state, exactly; genes must not stay held."""
        if not self.by_state:
            raise UserError(f"task.duration={self.task.duration}: random actions have exact values for flip only")
        task, tables = self.task, [self._zeros()]
        for t in reversed(range(task.n_decisions)):
            row: list[Table] = []
            for goal in range(len(task.goals)):
                after = self.expectation.free(self._payoff(goal, tables[0], 0, t == task.n_decisions - 1))
                mean = choices.mean_over_random_sets(
                    after, task.cost, task.max_perturb, self.controllable, flips=task.moves == "flip"
                )
                row.append({0: mean + self._shaping(goal, False)[0]})
            tables.insert(0, row)
        return Values(task, tables)

    def _zeros(self) -> list[Table]:
        zero = np.zeros(self.n_states)
        return [dict.fromkeys(self._held_sets(self.task.n_decisions), zero) for _ in self.task.goals]

    def _held_sets(self, decision: int) -> list[Held]:
        """Return the sets of genes that may be held when a decision begins."""
        if not self.keeps_held:
            return [0]
        most = min(decision * self.task.max_perturb, len(self.controllable))
        sets = choices.gene_sets(self.controllable, most)
        return [sum(1 << g for g in chosen) for chosen in sets]

    def _best(
        self, goal: int, following: Sequence[Table], held: Sequence[Held], final: bool
    ) -> dict[Held, tuple[Floats, Choice]]:
        """Return the best value and choice of every state for each set ``held``; ``final``: of the last decision."""
        task, before = self.task, self._shaping(goal, False)[0]
        if self.by_state:
            after = self.expectation.free(self._payoff(goal, following, 0, final))
            value, choice = choices.best_flips(after, task.cost, task.max_perturb, self.controllable)
            return {0: (value + before, choice)}
        sets = choices.gene_sets(self.controllable, task.max_perturb)
        worth: dict[Held, Floats] = {}
        result = {}
        for mask in held:
            for chosen in sets:
                self._add_worth(worth, mask | sum(1 << g for g in chosen), goal, following, final)
            value, choice = choices.best_holds(worth, mask, task.cost, sets, flips=task.moves == "flip")
            result[mask] = (value + before, choice)
        return result

    def _followed(self, goal: int, following: Sequence[Table], plans: Mapping[Held, Choice], final: bool) -> Table:
        """Return the values of the choices ``plans`` of every state, for each set of held genes."""
        states = np.arange(self.n_states, dtype=np.uint32)
        worth: dict[Held, Floats] = {}
        result = {}
        for held, choice in plans.items():
            after = choices.perturbed(states, choice)
            value = self._shaping(goal, False)[0] - self.task.cost * unpack(
                choice.genes, self.expectation.graph.n_genes
            ).sum(1)
            for mask in [0] if self.by_state else np.unique(choice.genes).tolist():
                rows = slice(None) if self.by_state else choice.genes == mask
                self._add_worth(worth, held | mask, goal, following, final)
                value[rows] += worth[held | mask][after[rows]]
            result[held] = value
        return result

    def _add_worth(
        self, worth: dict[Held, Floats], held: Held, goal: int, following: Sequence[Table], final: bool
    ) -> None:
        """Put into ``worth`` what perturbed states are worth while the genes ``held`` are held."""
        if held in worth:
            return
        payoff = self._payoff(goal, following, held if self.keeps_held else 0, final)
        genes = [g for g in range(self.expectation.graph.n_genes) if held >> g & 1]
        expectation = self.expectation
        worth[held] = (
            expectation.held(payoff, genes) if self.task.duration != "flip" and genes else expectation.free(payoff)
        )

    def _payoff(self, goal: int, following: Sequence[Table], held: Held, final: bool) -> Floats:
        """Return what the last state [N] of a decision is worth: its reward without cost, and what follows it."""
        task, last = self.task, goal == len(self.task.goals) - 1
        reached = self._reached[goal]
        onward = np.zeros(self.n_states) if last else following[goal + 1][held]
        flags = torch.from_numpy(reached), torch.tensor(last)
        reward = task.decision_reward(torch.zeros(self.n_states), *flags).double().numpy()
        shaping = self._shaping(goal, final)[1]
        return reward + shaping + task.discount * np.where(reached, onward, following[goal][held])

    def _shaping(self, goal: int, final: bool) -> tuple[Floats, Floats]:
        """Return the two terms [N] of the shaping reward: of the state before a decision, and of that after it."""
        if self.task.shaping == "none":
            return np.zeros(self.n_states), np.zeros(self.n_states)
        states = torch.from_numpy(self._states)
        nowhere, start = torch.zeros_like(states), torch.full((self.n_states,), goal)
        reached = torch.from_numpy(self._reached[goal])
        following = start + reached
        ends = (following == len(self.task.goals)) | final
        # Every shaping is a sum of two such terms.
        base = self.task.shaping_reward(nowhere, nowhere, start, following, ends).double().numpy()
        before = self.task.shaping_reward(states, nowhere, start, following, ends).double().numpy() - base
        return before, self.task.shaping_reward(nowhere, states, start, following, ends).double().numpy()

    @cached_property
    def _states(self) -> NDArray[np.uint8]:
        return unpack(np.arange(self.n_states), self.expectation.graph.n_genes)

    @cached_property
    def _reached(self) -> list[NDArray[np.bool_]]:
        return [fate.contains(torch.from_numpy(self._states)).numpy() for fate in self.task.goals]
