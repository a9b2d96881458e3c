"""Exact control sets of an asynchronous Boolean network, by AEON: genes to fix so that a target is surely reached.

AEON works on symbolic sets of states and perturbations (Brim, Pastva, Safranek, Smijakova, "Temporary and permanent
control of partially specified Boolean networks", BioSystems 223, 2023), so the number of genes says little about the
time: between two attractors 11 to 27 genes took less than 0.5 s in each mode, 53 (MAPK, inputs off) 3 s in one step and
more than 12 s in the other modes. A set is a way to reach the target with probability 1 whatever the order of updates;
fixing a gene at the value that it has counts as a perturbation.

Modes: ``one_step`` puts the source into another state and lets go; ``temporary`` holds the genes until the network has
settled, then lets go; ``permanent`` holds them for good. These lead from a state to an attractor. ``phenotype`` holds
genes for good so that every attractor lies within the target, from the source or, without one, from any state.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perturbrl.errors import UserError, choice
from perturbrl.landscape import symbolic
from perturbrl.landscape.control import aeon_solver
from perturbrl.landscape.network import Network
from perturbrl.landscape.state_graph import network_name

MODES = ("one_step", "temporary", "permanent", "phenotype")
TIME_LIMIT = 60.0

State = Mapping[str, bool | int]


@dataclass(frozen=True)
class Problem:
    """Reach ``target`` from ``source``, in a ``mode``, by at most ``max_size`` genes (None: any number).

    ``source`` has the value of every gene. ``target`` too, for an attractor: one of its states. For ``phenotype`` it
    has the values of some genes, or is several such patterns, of which one must hold; ``source`` may be None.
    """

    source: State | None
    target: State | Sequence[State]
    mode: str = "temporary"
    max_size: int | None = None


@dataclass(frozen=True)
class ControlSets:
    """The solution of a ``problem``: every set of genes and values that is sure to reach the target.

    ``sets`` maps a size to the number of sets of this size, up to the largest size asked for. ``smallest`` lists those
    of the least size (at most ``aeon_solver.MOST_LISTED``), sorted.
    """

    problem: Problem
    sets: Mapping[int, int]
    smallest: tuple[Mapping[str, bool], ...]

    @property
    def size(self) -> int | None:
        """The least number of genes; None if there is no set."""
        return len(self.smallest[0]) if self.smallest else None


def control_sets(
    network: Network,
    source: State | None,
    target: State | Sequence[State],
    mode: str = "temporary",
    *,
    max_size: int | None = None,
    controllable: Sequence[str] = (),
    time_limit: float | None = TIME_LIMIT,
) -> ControlSets:
    """Return all control sets of one problem; see ``Problem`` for the arguments and ``solve`` for the errors."""
    problem = Problem(source, target, mode, max_size)
    return solve(network, [problem], controllable=controllable, time_limit=time_limit)[0]


def solve(
    network: Network,
    problems: Sequence[Problem],
    *,
    controllable: Sequence[str] = (),
    time_limit: float | None = TIME_LIMIT,
) -> tuple[ControlSets, ...]:
    """Return the control sets of several problems on one network.

    Parameters
    ----------
    network, problems
        The network, and what is asked. ``max_size`` makes phenotype problems faster, others only shorter to read.
    controllable
        The genes that may be fixed; empty: all.
    time_limit
        Seconds for all problems together; None computes in this process and does not end before it is done.

    Raises
    ------
    UserError
        A state that is none of the network, an unknown mode, or a network that is too big for ``time_limit``. (A
        target that is no attractor has no control sets.)
    """
    checked = [_request(network, problem) for problem in problems]
    for gene in controllable:
        choice(gene, network.genes, "controllable")
    request = {"model": symbolic.model(network).to_aeon(), "controllable": [*controllable] or None, "problems": checked}
    answers = aeon_solver.solve(request) if time_limit is None else _in_child(network, request, time_limit)
    return tuple(_control_sets(problem, answer) for problem, answer in zip(problems, answers, strict=True))


def _request(network: Network, problem: Problem) -> dict[str, Any]:
    choice(problem.mode, MODES, "mode")
    target: Any
    if problem.mode == "phenotype":
        patterns = [problem.target] if isinstance(problem.target, Mapping) else [*problem.target]
        target = [_values(network, pattern, "target", whole=False) for pattern in patterns]
    else:
        if problem.source is None or not isinstance(problem.target, Mapping):
            raise UserError(f"mode={problem.mode} needs one source state and one target state; phenotype needs neither")
        target = _values(network, problem.target, "target", whole=True)
    source = None if problem.source is None else _values(network, problem.source, "source", whole=True)
    limit = len(network.genes) if problem.max_size is None else min(problem.max_size, len(network.genes))
    return {"mode": problem.mode, "source": source, "target": target, "max_size": limit}


def _values(network: Network, state: State, name: str, *, whole: bool) -> dict[str, bool]:
    if not state:
        raise UserError(f"{name}: names no gene; every state would do")
    for gene in state:
        choice(gene, network.genes, name)
    if missing := [gene for gene in network.genes if whole and gene not in state]:
        raise UserError(
            f"{name}: no value of {missing[0]!r}; a state has a value of each of {len(network.genes)} genes"
        )
    return {gene: bool(value) for gene, value in state.items()}


def _in_child(network: Network, request: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
    command = [sys.executable, "-I", str(Path(aeon_solver.__file__))]
    where = f"network {network_name(network)!r}"
    try:
        done = subprocess.run(
            command, input=json.dumps(request), capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{where}: exact control of {len(network.genes)} genes is not done after {seconds:g} s;"
            " name fewer controllable genes, give a longer time limit, or use search"
        ) from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["out of memory"])[-1]
        raise UserError(f"{where}: exact control failed: {reason}; use search")
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def _control_sets(problem: Problem, answer: dict[str, Any]) -> ControlSets:
    sets = {int(size): int(count) for size, count in answer["sets"].items()}
    ordered = sorted(tuple(sorted(found.items())) for found in answer["smallest"])
    return ControlSets(problem, sets, tuple(dict(found) for found in ordered))
