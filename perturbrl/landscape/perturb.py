"""What perturbations do to the regulators of simulated cells, as tensors. Names: see ``interventions``.

Letters: P perturbations, N cells, G regulators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from perturbrl.landscape.interventions import (
    CONTROL,
    FLIP,
    KNOCK_DOWN,
    KNOCK_OUT,
    OVER_EXPRESSION,
    Intervention,
    parse,
    require_genes,
)
from perturbrl.landscape.network import Network

FOR_GOOD = 2**31 - 1
"""Steps of an intervention that does not end."""


@dataclass(frozen=True)
class Course:
    """What is done to P kinds of cells and for how long; every tensor is [P, G].

    ``clamps``: the level at which mRNA and protein are held, NaN where the gene is free. ``share``: the part of what
    the regulators ask for that is expressed, 1 but in knock-downs. ``steps`` int64: for how many steps either lasts;
    0 sets the whole gene, chromatin too, once.
    """

    clamps: Tensor
    share: Tensor
    steps: Tensor

    def rows(self, index: Tensor) -> Course:
        """Return the kinds ``index``."""
        return Course(self.clamps[index], self.share[index], self.steps[index])

    @staticmethod
    def held(clamps: Tensor) -> Course:
        """Return clamps [P, G] that are held for good."""
        return Course(clamps, torch.ones_like(clamps), torch.full_like(clamps, FOR_GOOD, dtype=torch.int64))


def course(network: Network, names: Sequence[str], level: float) -> Course:
    """Return what the perturbations ``names`` do, each row one of the P names.

    An over-expression without a level of its own holds the gene at ``level`` (1 is a gene that is fully on).

    Raises
    ------
    UserError
        A name is no perturbation, or of a gene that the network does not have.
    """
    column = {gene: k for k, gene in enumerate(network.genes)}
    out = Course.held(torch.full((len(names), len(column)), torch.nan))
    for row, name in enumerate(names):
        parts = parse(name)
        require_genes(parts, network.genes, f"perturbation: {name!r}")
        for part in parts:
            cell = row, column[part.gene]
            if part.kind == KNOCK_DOWN:
                assert part.dose is not None
                out.share[cell] = 1.0 - part.dose
            else:
                out.clamps[cell] = _level(part, part.gene in network.start, level)
            if part.steps is not None or part.kind == FLIP:
                out.steps[cell] = part.steps or 0
    return out


def _level(part: Intervention, on_at_start: bool, level: float) -> float:
    if part.kind == FLIP:
        return 0.0 if on_at_start else 1.0
    levels = {KNOCK_OUT: 0.0, OVER_EXPRESSION: level if part.dose is None else part.dose}
    return levels[part.kind]


def clamp(network: Network, name: str, level: float) -> Tensor:
    """Return the clamps [G] of a perturbation by name, NaN where a gene is free, whatever its duration.

    A knock-out holds the gene at 0, an over-expression at ``level`` (1 is a gene that is fully on).
    """
    return course(network, (name,), level).clamps[0]


def single_perturbations(network: Network) -> tuple[str, ...]:
    """Return the names of the control and of every single knock-out and over-expression: 1 + 2 G names."""
    return CONTROL, *(f"{gene}_{kind}" for kind in (KNOCK_OUT, OVER_EXPRESSION) for gene in network.genes)


def double_perturbations(network: Network) -> tuple[str, ...]:
    """Return the names of ``single_perturbations`` and of every pair of two genes: 1 + 2 G + 2 G (G - 1) names."""
    singles = single_perturbations(network)
    pairs = combinations(sorted(singles[1:]), 2)
    return *singles, *(f"{a}+{b}" for a, b in pairs if a.rpartition("_")[0] != b.rpartition("_")[0])
