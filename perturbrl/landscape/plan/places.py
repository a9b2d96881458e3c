"""What the words after --from and --to mean: a fate of the network, an attractor, or a type of labelled cells.

Letters: n states, G genes, A attractors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from perturbrl.errors import UserError, did_you_mean, one_of, require
from perturbrl.landscape.attractors import Attractor, attractors
from perturbrl.landscape.fate_task import Fate
from perturbrl.landscape.network import Network
from perturbrl.landscape.plan.cells import LabelledCells
from perturbrl.landscape.plan.outcomes import Question, question
from perturbrl.landscape.plan.settings import PlanConfig

START = ("start", "progenitor")
"""Names of the network's own start state."""


@dataclass(frozen=True, eq=False)
class Places:
    """The named fates of a network, its attractors under their names, and sentences on how they were named."""

    fates: tuple[Fate, ...]
    attractors: tuple[tuple[str, Attractor], ...]
    notes: tuple[str, ...]


def ask(
    network: Network, source: str, target: str, config: PlanConfig, cells: LabelledCells | None = None
) -> tuple[Question, tuple[str, ...]]:
    """Return the question of how to get from ``source`` to ``target``, and sentences on what was understood.

    Raises
    ------
    UserError
        A name that nothing has, the same place twice, too few cells, or a target that no attractor is.
    """
    known = places(network, cells)
    fate = _target(known, [Fate.named(network, stage) for stage in network.stages], target, cells)
    start, name, n_cells, notes = _start(network, known, source, config, cells)
    same = plain(name) == plain(fate.name)
    already = bool(fate.contains(start).all())
    require(not same, "--to", f"{target!r} is where the cells come from; name another fate")
    require(not already, "--to", f"every start state of {source!r} is in {target!r} already; there is nothing to do")
    return question(network, start, name, fate, known.fates, n_cells), (*notes, *known.notes)


def places(network: Network, cells: LabelledCells | None) -> Places:
    """Return the fates that can be told apart: the network's own, or its attractors, by the cells most like them."""
    every = attractors(network)
    if network.fates:
        fates = tuple(Fate.named(network, name) for name in network.fates)
        named = tuple((_first(fates, attractor, k), attractor) for k, attractor in enumerate(every, start=1))
        return Places(fates, named, ())
    names = [f"attractor {k}" for k in range(1, len(every) + 1)]
    notes: tuple[str, ...] = ()
    if cells is not None:
        names, notes = _by_cells(every, cells)
    named = tuple(zip(names, every, strict=True))
    fates = tuple(
        Fate(name, torch.cat([_pattern(a) for other, a in named if other == name])) for name in dict.fromkeys(names)
    )
    return Places(fates, named, notes)


def plain(name: str) -> str:
    """Return a name for comparison: lower case, no punctuation, no plural ``s``."""
    return re.sub(r"[^a-z0-9]", "", name.lower()).removesuffix("s")


def _first(fates: Sequence[Fate], attractor: Attractor, number: int) -> str:
    inside = (fate.name for fate in fates if bool(fate.contains(attractor.states).all()))
    return next(inside, f"attractor {number}")


def _pattern(attractor: Attractor) -> Tensor:
    """Return the patterns [K, G] of an attractor: its states, or what they share where they are too many to list."""
    states = attractor.states.to(torch.int8)
    if len(states) == attractor.n_states:
        return states
    return torch.where((states == states[0]).all(0), states[0], torch.tensor(-1, dtype=torch.int8))[None]


def _by_cells(every: Sequence[Attractor], cells: LabelledCells) -> tuple[list[str], tuple[str, ...]]:
    """Return a name for each attractor: the type of cells under which its measured genes are the likeliest.

    Each gene is on with the share of a type's cells in which it is on, independently of the others (naive Bayes, with
    one cell added on and one off).
    """
    types = sorted(set(cells.labels))
    shares = torch.stack([(cells.of(t).double().sum(0) + 1) / ((cells.labels == t).sum() + 2) for t in types])
    names, notes = [], []
    for k, attractor in enumerate(every, start=1):
        on = attractor.states.double()[:, None]
        likelihood = (on * shares.log() + (1 - on) * (1 - shares).log())[..., cells.measured].sum(-1).mean(0)
        best = int(likelihood.argmax())
        agree = (on[:, 0] * shares[best] + (1 - on[:, 0]) * (1 - shares[best]))[:, cells.measured].mean()
        names.append(types[best])
        notes.append(f"Attractor {k} is called {types[best]}: {agree:.0%} of its genes are as in these cells.")
    return names, tuple(notes)


def _target(known: Places, stages: Sequence[Fate], name: str, cells: LabelledCells | None) -> Fate:
    by_name = {plain(fate.name): fate for fate in (*stages, *known.fates)}
    if plain(name) in by_name:
        return by_name[plain(name)]
    if match := re.fullmatch(r"attractor (\d+)", name.strip().lower()):
        number = int(match[1])
        there = f"the network has {len(known.attractors)} attractors"
        require(1 <= number <= len(known.attractors), "--to", f"there is no {name!r}; {there}")
        return Fate(name.strip().lower(), _pattern(known.attractors[number - 1][1]))
    fates = one_of(fate.name for fate in known.fates)
    labels = {} if cells is None else {plain(label): str(label) for label in cells.labels}
    if cells is not None and plain(name) in labels:
        every = [attractor for _, attractor in known.attractors]
        likely = [a for a, label in zip(every, _by_cells(every, cells)[0], strict=True) if label == labels[plain(name)]]
        if likely:
            return Fate(labels[plain(name)], torch.cat([_pattern(attractor) for attractor in likely]))
        raise UserError(
            f"--to: no attractor of the network is like the cells {name!r}, so none can stay there; fates are {fates}"
        )
    guess = did_you_mean(name, [fate.name for fate in known.fates])
    raise UserError(f"--to: {name!r} is no fate of the network{guess}; choose {fates}, or 'attractor K'")


def _start(
    network: Network, known: Places, name: str, config: PlanConfig, cells: LabelledCells | None
) -> tuple[Tensor, str, int | None, tuple[str, ...]]:
    """Return start states [n, G], their name, the number of cells that they are (None: no cells), and sentences."""
    if cells is not None:
        labels = {plain(label): str(label) for label in cells.labels}
        if plain(name) not in labels:
            guess = did_you_mean(name, labels.values())
            raise UserError(f"--from: {cells.name} has no cells {name!r}{guess}; types are {one_of(labels.values())}")
        return _start_cells(cells, labels[plain(name)], config)
    if plain(name) in {plain(word) for word in START} and (network.start or network.fates):
        start = torch.tensor([[gene in network.start for gene in network.genes]])
        return start.to(torch.uint8), "progenitor", None, ()
    by_name = {plain(each): each for each, _ in known.attractors}
    number = re.fullmatch(r"attractor (\d+)", name.strip().lower())
    if number and 1 <= int(number[1]) <= len(known.attractors):
        return known.attractors[int(number[1]) - 1][1].states, name.strip().lower(), None, ()
    if plain(name) not in by_name:
        guess = did_you_mean(name, by_name.values())
        where = "no attractor of the network is in it" if name in network.stages else "it is no fate of the network"
        raise UserError(
            f"--from: {name!r}: {where}{guess}; choose {one_of([*by_name.values(), START[1]])}, or give --cells"
        )
    wanted = by_name[plain(name)]
    inside = [attractor for each, attractor in known.attractors if each == wanted]
    n_states = sum(len(attractor.states) for attractor in inside)
    sentence = f"Start: the {len(inside)} attractors of {wanted}, {n_states} states, equally likely."
    return torch.cat([a.states for a in inside]), wanted, None, (sentence,) if len(inside) > 1 else ()


def _start_cells(cells: LabelledCells, label: str, config: PlanConfig) -> tuple[Tensor, str, int, tuple[str, ...]]:
    states = cells.of(label)
    n = len(states)
    require(n >= config.least_cells, "--from", f"{cells.name} has {n} cells {label!r}; {config.least_cells} are needed")
    different = len(torch.unique(states, dim=0))
    notes = [f"Start: {n} cells {label}, {different} different states."]
    if n < config.few_cells:
        notes.append(f"{n} cells are few: the intervals are wide.")
    return states, label, n, tuple(notes)


def markers(q: Question) -> tuple[tuple[str, bool], ...]:
    """Return the genes that a state must have on or off to be in the target; of several patterns, what they share."""
    patterns = q.target.patterns
    fixed = ((patterns == patterns[0]).all(0) & (patterns[0] >= 0)).tolist()
    return tuple((gene, bool(patterns[0, g] == 1)) for g, gene in enumerate(q.network.genes) if fixed[g])


def narrowed(q: Question, genes: Sequence[str]) -> tuple[str, ...]:
    """Return ``genes``, in the order of the network, or all its genes if none are named; ``UserError`` for others."""
    for gene in genes:
        guess = did_you_mean(gene, q.network.genes)
        require(gene in q.network.genes, "--genes", f"{gene!r} is not a gene of the network{guess}")
    return tuple(gene for gene in q.network.genes if not genes or gene in genes)


def with_network(q: Question, network: Network) -> Question:
    """Return the same question of another network with the same genes."""
    return replace(q, network=network)


def shares_on(q: Question) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return for each gene [G] the share of the start in which it is on."""
    return (q.weights[:, None] * q.start.double()).sum(0).numpy()
