"""What the order of states demands of the rule of one gene. Letters: G genes, T states, E candidate regulators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perturbrl.landscape.infer.order import Branch
from perturbrl.landscape.infer.trajectory import Binary


@dataclass(frozen=True)
class Demands:
    """The states [T, G] at which a gene's rule must have the values ``value`` [T].

    ``end`` [T]: the state ends a branch; ``change`` [T]: the gene changes there.
    """

    states: Binary
    value: Binary
    end: Binary
    change: Binary


@dataclass(frozen=True)
class Rule:
    """A rule over candidate regulators: all (``and``) or any (``or``) of the activators, and none of the repressors.

    ``edges`` are places among the candidates, ``signs`` their signs. Without activators only repressors count; without
    edges the rule is the constant ``constant``.
    """

    edges: tuple[int, ...]
    signs: tuple[int, ...]
    form: str
    constant: bool = True

    def _of(self, sign: int) -> tuple[int, ...]:
        return tuple(e for e, s in zip(self.edges, self.signs, strict=True) if s == sign)

    def value(self, on: Binary) -> Binary:
        """Return the rule's values [T] for candidates ``on`` [T, E]."""
        activators, repressors = ([on[:, e] for e in self._of(sign)] for sign in (1, -1))
        value = np.full(len(on), self.constant)
        if activators:
            value = np.all(activators, axis=0) if self.form == "and" else np.any(activators, axis=0)
        return value & ~np.any(repressors, axis=0) if repressors else value

    def without(self, edge: int) -> Rule:
        """Return the rule without the candidate ``edge``."""
        rest = [(e, sign) for e, sign in zip(self.edges, self.signs, strict=True) if e != edge]
        return Rule(tuple(e for e, _ in rest), tuple(sign for _, sign in rest), self.form, self.constant)

    def support(self, on: Binary, value: Binary) -> tuple[int, ...]:
        """Return for each edge at how many states [T] the rule is right, and would be wrong without the edge."""
        right = self.value(on) == value
        return tuple(int((right & (self.without(edge).value(on) != value)).sum()) for edge in self.edges)

    def text(self, names: Sequence[str]) -> str:
        """Return the rule as an expression of ``and``, ``or`` and ``not`` over the candidates' names."""
        activators, repressors = ([names[e] for e in self._of(sign)] for sign in (1, -1))
        if not self.edges:
            return str(self.constant)
        together = f" {self.form} ".join(activators)
        if self.form == "or" and len(activators) > 1 and repressors:
            together = f"({together})"
        none = " or ".join(repressors)
        barred = f"not ({none})" if len(repressors) > 1 else f"not {none}"
        return " and ".join(part for part in (together, barred if repressors else "") if part)


def demands(branches: Sequence[Branch], gene: int, lag: int) -> Demands:
    """Return the values that the order of states demands of the rule of ``gene``.

    Where the gene changes from a state to the next, its rule must already have the new value. At every other state it
    must have the gene's present value, but for the ``lag`` states before a change, where the gene may already wait, and
    for a state from which the gene changes in another branch. A run of the asynchronous network, one gene at a time,
    then can take every step that was observed, and the last state of each branch is steady for the gene.
    """
    changed: dict[bytes, tuple[Binary, bool]] = {}
    steady: dict[bytes, tuple[Binary, bool]] = {}
    for branch in branches:
        level = branch.states[:, gene]
        changes = np.flatnonzero(level[1:] != level[:-1])
        waiting = {
            int(w) for t in changes for w in range(t - 1, t - 1 - lag, -1) if w >= 0 and (level[w:t] == level[t]).all()
        }
        for t, state in enumerate(branch.states):
            if t in changes:
                changed[state.tobytes()] = state, bool(level[t + 1])
            elif t not in waiting:
                steady[state.tobytes()] = state, bool(level[t])
    wanted = {**steady, **changed}
    ends = {branch.states[-1].tobytes() for branch in branches}
    return Demands(
        np.array([state for state, _ in wanted.values()]).reshape(len(wanted), -1),
        np.array([value for _, value in wanted.values()], dtype=bool),
        np.array([key in ends for key in wanted], dtype=bool),
        np.array([key in changed for key in wanted], dtype=bool),
    )
