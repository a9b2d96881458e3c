"""What a decision's evolution does to a function of the state: exact expectations for Boolean networks.

Letters: G genes, N = 2^G states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from perturbrl.errors import UserError
from perturbrl.landscape.fate_task import FateTask
from perturbrl.landscape.state_graph import Floats, Ints, StateGraph, bottoms, state_graph

Operator = Callable[[Floats], Floats]

_SETTLED = 1e-11  # of the largest value: what the updates that are left may still change


class Expectation:
    """Expectations over the evolution that ``task`` lets follow a perturbation."""

    def __init__(self, task: FateTask) -> None:
        if task.dynamics != "boolean":
            raise UserError(f"task.dynamics={task.dynamics}: exact values need boolean; use exhaustive or search")
        self.task = task
        self.graph = state_graph(task.network)

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
        return self._run(self._free_update, values, n_updates)

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
        """The states at which an evolution to an attractor of the unperturbed network ends."""
        if self.task.between != "attractor" or self.task.duration == "permanent":
            return np.empty(0, np.int64)
        if self.task.update == "asynchronous":
            return np.concatenate(bottoms(self.graph))
        image = np.arange(self.graph.n_states) ^ self.graph.changes
        states = np.unique(image)
        while len(after := np.unique(image[states])) < len(states):
            states = after
        return states
