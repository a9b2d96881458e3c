"""What a decision's evolution does to a function of the state: exact expectations for Boolean networks.

Letters: G genes, N = 2^G states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from perturbrl.errors import UserError
from perturbrl.landscape.fate_task import FateTask
from perturbrl.landscape.state_graph import Floats, Hitting, Ints, StateGraph, bottoms, state_graph

Operator = Callable[[Floats], Floats]

_SETTLED = 1e-11  # of the largest value: what the updates that are left may still change


class Expectation:
    """Expectations over the evolution that ``task`` lets follow a perturbation."""

    def __init__(self, task: FateTask) -> None:
        if task.dynamics != "boolean":
            raise UserError(f"task.dynamics={task.dynamics}: exact values need boolean; use exhaustive or search")
        self.task = task
        self.graph = state_graph(task.network)
        self._arrivals: dict[int, bool] = {}

    def free(self, values: Floats) -> Floats:
        """Return the expectation of ``values`` [N] of the last state, for each state [N] after a perturbation."""
        return self._released(values, self.task.n_updates)

    def held(self, values: Floats, genes: Sequence[int]) -> Floats:
        """Return the same if ``genes`` keep the values that the perturbed state gives them, as long as the task says.

        With ``duration=held`` they are released after ``hold_updates`` updates, with ``permanent`` never.
        """
        update = self._update(self.graph.frozen(genes))
        if self.task.duration == "permanent":
            return self._run(update, values, self.task.n_updates)
        values = self._released(values, self.task.n_updates - self.task.hold_updates)
        for _ in range(self.task.hold_updates):
            values = update(values)
        return values

    def _released(self, values: Floats, n_updates: int) -> Floats:
        if self._only_fixed_points and self._arrives(n_updates):
            result, error = self._hitting.expectation(values)
            if error <= _SETTLED * n_updates * float(np.abs(values).max(initial=0.0)):
                return result
        return self._run(self._free_update, values, n_updates)

    @cached_property
    def _only_fixed_points(self) -> bool:
        """Whether every evolution that is stopped ends in a fixed point, which it can then not leave."""
        fixed = not self.graph.n_active[self._stop].any()
        return self.task.update == "asynchronous" and bool(len(self._stop)) and fixed

    @cached_property
    def _hitting(self) -> Hitting:
        return Hitting(self.graph, self._stop)

    def _arrives(self, n_updates: int) -> bool:
        """Return whether every state is in an attractor after ``n_updates``, but for a negligible probability."""
        if n_updates not in self._arrivals:
            moving = np.ones(self.graph.n_states)
            moving[self._stop] = 0.0
            for _ in range(n_updates):
                if moving.max() <= _SETTLED:
                    break
                moving = self._free_update(moving)
            self._arrivals[n_updates] = bool(moving.max() <= _SETTLED)
        return self._arrivals[n_updates]

    def _run(self, update: Operator, values: Floats, n_updates: int) -> Floats:
        """Return the expectation of ``values`` after ``n_updates``, or of the attractor's state that a cell stops in.

        A cell stops at the first such state. An update is an average, so what n more updates change is at most n times
        what the last one changed.
        """
        settled = _SETTLED * float(np.abs(values).max(initial=0.0))
        now = values
        for left in reversed(range(n_updates)):
            after = update(now)
            after[self._stop] = values[self._stop]
            change = float(np.abs(after - now).max())
            now = after
            if change * left <= settled:
                break
        return now

    @cached_property
    def _free_update(self) -> Operator:
        return self._update(self.graph)

    def _update(self, graph: StateGraph) -> Operator:
        if self.task.update == "synchronous":
            image = np.arange(graph.n_states) ^ graph.changes
            return lambda values: values[image]
        matrix = graph.update_matrix(np.arange(graph.n_states))
        return lambda values: np.asarray(matrix @ values)

    @cached_property
    def _stop(self) -> Ints:
        """The states of the asynchronous network's attractors, at which an evolution to an attractor ends."""
        if self.task.between != "attractor" or self.task.duration == "permanent":
            return np.empty(0, np.int64)
        return np.concatenate(bottoms(self.graph))
