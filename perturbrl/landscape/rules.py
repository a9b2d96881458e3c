"""The rules of a Boolean network as tensors: the value of every rule, or of one rule for each cell, of many cells.

Letters: N cells, G genes, R the largest number of regulators of a gene that has a truth table here.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from perturbrl.landscape.network import Network, evaluate, truth_table

MOST_REGULATORS = 10
"""Genes of more regulators are evaluated as expressions: their truth tables would be large."""
ROWS = 16384  # cells evaluated at a time, so that what is computed on the way stays small


class Rules:
    """Truth tables of the genes, one after the other: as many entries as the rules need, whatever the largest is.

    ``regulators`` [G, R] int64, padded by gene 0; ``weights`` [G, R] int64: 2^k, 0 where padded; ``offset`` [G]: where
    a gene's table starts in ``tables``.
    """

    def __init__(self, network: Network, device: torch.device | str = "cpu") -> None:
        self.network = network
        rules = [*network.rules.values()]
        sizes = [len(names) for names in network.regulators]
        self.wide = [g for g, size in enumerate(sizes) if size > MOST_REGULATORS]
        most = max((size for size in sizes if size <= MOST_REGULATORS), default=0)
        regulators, weights = np.zeros((2, len(rules), most), dtype=np.int64)
        tables: list[tuple[bool, ...]] = []
        position = {gene: g for g, gene in enumerate(network.genes)}
        for g, (rule, names) in enumerate(zip(rules, network.regulators, strict=True)):
            tables.append(truth_table(rule, names) if g not in self.wide else (False,))
            if g not in self.wide:
                regulators[g, : len(names)] = [position[name] for name in names]
                weights[g, : len(names)] = 2 ** np.arange(len(names))[::-1]
        offset = np.cumsum([0, *map(len, tables[:-1])])
        self.regulators, self.weights, self.offset = (
            torch.from_numpy(a).to(device) for a in (regulators, weights, offset)
        )
        self.tables = torch.from_numpy(np.concatenate(tables).astype(np.uint8)).to(device)

    def values(self, states: Tensor) -> Tensor:
        """Return the value of every rule at ``states`` [N, G] uint8, [N, G] uint8."""
        value = torch.empty_like(states)
        for start in range(0, len(states), ROWS):
            rows = slice(start, start + ROWS)
            value[rows] = self._values(states[rows])
        return value

    def evaluate_wide_(self, value: Tensor, states: Tensor, gene: Tensor) -> None:
        """Put into ``value`` [N] that of the rule of ``gene`` [N] where it has no table; ``states`` [N, G or more]."""
        for g in self.wide:
            cells = (gene == g).nonzero()[:, 0]
            value[cells] = self._expression(g, states[cells])

    def _values(self, states: Tensor) -> Tensor:
        entry = self.offset.expand(states.shape).clone()
        for names, weight in zip(self.regulators.T, self.weights.T, strict=True):
            entry.addcmul_(states[:, names], weight)
        value = self.tables[entry]
        for g in self.wide:
            value[:, g] = self._expression(g, states)
        return value

    def _expression(self, g: int, states: Tensor) -> Tensor:
        genes = self.network.genes
        columns = {name: states[:, genes.index(name)].bool() for name in self.network.regulators[g]}
        value: Tensor = evaluate(self.network.rules[genes[g]], columns)
        return value.to(torch.uint8)


def hold(state: Tensor, held: Tensor | None) -> Tensor:
    """Return ``state`` [..., G] uint8 with the genes that ``held`` clamps (see ``BooleanDynamics.image``) at 0 or 1."""
    return state if held is None else torch.where(held.isnan(), state, (held > 0).to(state.dtype))
