"""Rules as reduced ordered decision diagrams, evaluated on occupancies between 0 and 1.

R. E. Bryant, "Graph-based algorithms for Boolean function manipulation", IEEE Trans. Computers C-35:677, 1986: a node
asks one regulator, nodes that would be equal are one node, and a node whose answers are equal is none. A rule such as
``(a or b or c) and not (d or e)`` has as many nodes as regulators, where its truth table has 2^5 rows.

Letters: U binding sites, n cells, r regulators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

OFF, ON = 0, 1


@dataclass(frozen=True)
class Diagram:
    """Nodes (site, where if it is empty, where if it is occupied), children first; node k has the number k + 2.

    The numbers ``OFF`` and ``ON`` are the answers. ``root`` is where to start.
    """

    nodes: tuple[tuple[int, int, int], ...]
    root: int

    def evaluate(self, occupancy: Sequence[Tensor], answers: tuple[Tensor, Tensor]) -> Tensor:
        """Return the multilinear interpolation of the rule at ``occupancy``: U tensors of n cells; [n].

        ``answers`` are n zeros and n ones. The HillCube of Wittmann et al. 2009 (BMC Systems Biology 3:98): the sum
        over corners b of rule(b) prod_r h_r^b_r (1 - h_r)^(1 - b_r).
        """
        values = [*answers]
        for site, off, on in self.nodes:
            is_site = (off, on) == (OFF, ON)
            values.append(occupancy[site] if is_site else torch.lerp(values[off], values[on], occupancy[site]))
        return values[self.root]


def diagram(table: Sequence[bool], sites: Sequence[int]) -> Diagram:
    """Return the diagram of a truth table of 2^r rows; ``sites`` are the r regulators, the first varying slowest."""
    nodes: list[tuple[int, int, int]] = []
    known: dict[bytes, int] = {}

    def number(rows: bytes) -> int:
        if rows.count(rows[0]) == len(rows):
            return ON if rows[0] else OFF
        if rows not in known:
            # The last regulator varies fastest. Asked first, it leaves the tables of the others.
            off, on = rows[0::2], rows[1::2]
            if off == on:
                return number(off)
            node = (sites[len(rows).bit_length() - 2], number(off), number(on))
            nodes.append(node)
            known[rows] = len(nodes) + 1
        return known[rows]

    root = number(bytes(table))
    return Diagram(tuple(nodes), root)
