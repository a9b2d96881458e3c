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
            return _repeat(update, values, self.task.n_updates)
        values = self._released(values, self.task.n_updates - self.task.hold_updates)
        for _ in range(self.task.hold_updates):
            values = update(values)
        return values

    def _released(self, values: Floats, n_updates: int) -> Floats:
        if self._runs_on:
            return _repeat(self._free_update, values, n_updates)
        if self.task.update == "asynchronous" and self._arrives(n_updates):
            result, error = self._hitting.expectation(values)
            if error <= _SETTLED * n_updates * float(np.abs(values).max(initial=0.0)):
                return result
        return _repeat(self._change, values, n_updates)

    @property
    def _runs_on(self) -> bool:
        """Whether cells go on to the last update, wherever they are."""
        return self.task.between != "attractor" or self.task.duration == "permanent"

    def _update(self, graph: StateGraph) -> Operator:
        if self.task.update == "synchronous":
            image = np.arange(graph.n_states) ^ graph.changes
            return lambda values: values[image]
        matrix = graph.update_matrix(np.arange(graph.n_states))
        return lambda values: np.asarray(matrix @ values)

    @cached_property
    def _free_update(self) -> Operator:
        return self._update(self.graph)

    @cached_property
    def _change(self) -> Operator:
        """One change of state (``landscape.evolution`` leaves out updates that change nothing), none in attractors."""
        stops = self._stops
        if self.task.update == "synchronous":
            update = self._free_update
        else:
            matrix = self.graph.jump_matrix()

            def update(values: Floats) -> Floats:
                return np.asarray(matrix @ values)

        def change(values: Floats) -> Floats:
            after = update(values)
            after[stops] = values[stops]
            return after

        return change

    @cached_property
    def _stops(self) -> Ints:
        """The states of the asynchronous network's attractors, at the first of which a cell stops."""
        return np.concatenate(bottoms(self.graph))

    @cached_property
    def _hitting(self) -> Hitting:
        return Hitting(self.graph, self._stops)

    def _arrives(self, n_changes: int) -> bool:
        """Return whether every state is in an attractor after ``n_changes``, but for a negligible probability."""
        if n_changes not in self._arrivals:
            moving = np.ones(self.graph.n_states)
            moving[self._stops] = 0.0
            for _ in range(n_changes):
                if moving.max() <= _SETTLED:
                    break
                moving = self._change(moving)
            self._arrivals[n_changes] = bool(moving.max() <= _SETTLED)
        return self._arrivals[n_changes]


def _repeat(operator: Operator, values: Floats, n: int) -> Floats:
    """Return ``values`` after ``n`` times ``operator``, an average: n more change at most n times the last change."""
    settled = _SETTLED * float(np.abs(values).max(initial=0.0))
    for left in range(n, 0, -1):
        after = operator(values)
        change = float(np.abs(after - values).max()) if left % 8 == 0 else np.inf
        values = after
        if change * left <= settled:
            break
    return values
