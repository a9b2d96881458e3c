"""Edges of a network, their signs, networks without one of them, and paths along them."""

from __future__ import annotations

import ast
from collections import deque
from dataclasses import dataclass, replace
from itertools import pairwise

from perturbrl.landscape.network import Network
from perturbrl.landscape.plan.result import ARROW, BAR
from perturbrl.landscape.regulations import regulations


@dataclass(frozen=True)
class Edge:
    """``regulator`` acts on ``target``: ``sign`` is +1, -1, or 0 where it does both."""

    regulator: str
    target: str
    sign: int

    @property
    def text(self) -> str:
        """The edge as ``A -> B`` or ``A -| B``."""
        return f"{self.regulator} {BAR if self.sign < 0 else ARROW} {self.target}"


def edges(network: Network) -> tuple[Edge, ...]:
    """Return the edges by target; regulators that change nothing, and inputs that read themselves, are left out."""
    inputs = {gene for gene, names in zip(network.genes, network.regulators, strict=True) if names == (gene,)}
    return tuple(
        Edge(each.regulator, each.target, each.sign)
        for each in regulations(network)
        if each.acts and each.target not in inputs
    )


def without(network: Network, edge: Edge) -> Network:
    """Return the network in which the target's rule has lost every mention of the regulator.

    ``A and B`` without B is ``A``. A rule that has nothing left is False, or True if it only had a repressor.
    """
    tree = _dropped(ast.parse(network.rules[edge.target].strip(), mode="eval").body, edge.regulator)
    rule = str(edge.sign < 0) if tree is None else ast.unparse(tree)
    return replace(network, rules={**network.rules, edge.target: rule})


def turned(network: Network, edge: Edge) -> Network:
    """Return the network in which the target's rule reads the opposite of the regulator."""
    tree = ast.parse(network.rules[edge.target].strip(), mode="eval")
    rule = ast.unparse(_Negate(edge.regulator).visit(tree))
    return replace(network, rules={**network.rules, edge.target: rule})


def _dropped(node: ast.expr, name: str) -> ast.expr | None:
    if isinstance(node, ast.Name):
        return None if node.id == name else node
    if isinstance(node, ast.UnaryOp):
        inner = _dropped(node.operand, name)
        return None if inner is None else ast.UnaryOp(node.op, inner)
    if isinstance(node, ast.BoolOp):
        parts = [part for part in (_dropped(value, name) for value in node.values) if part is not None]
        return ast.BoolOp(node.op, parts) if len(parts) > 1 else (parts[0] if parts else None)
    return node


class _Negate(ast.NodeTransformer):
    def __init__(self, name: str) -> None:
        self.name = name

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Put ``not`` before the name."""
        return ast.UnaryOp(ast.Not(), node) if node.id == self.name else node


def path(known: tuple[Edge, ...], gene: str, on: bool, marker: str, wanted: bool) -> tuple[Edge, ...] | None:
    """Return the shortest path of edges along which ``gene`` at ``on`` pushes ``marker`` to ``wanted``.

    No gene is passed twice. None if there is no path with this sign; an edge that acts both ways may have either.
    """
    leaving: dict[str, list[Edge]] = {}
    for edge in known:
        if edge.regulator != edge.target:
            leaving.setdefault(edge.regulator, []).append(edge)
    goal = (marker, wanted)
    seen = {(gene, on)}
    queue: deque[tuple[bool, str, tuple[Edge, ...]]] = deque([(on, gene, ())])
    while queue:
        value, at, steps = queue.popleft()
        if (at, value) == goal:
            return steps
        passed = {gene, *(edge.target for edge in steps)}
        for edge in leaving.get(at, []):
            for sign in (edge.sign,) if edge.sign else (1, -1):
                place = (edge.target, value == (sign > 0))
                if place not in seen and edge.target not in passed:
                    seen.add(place)
                    queue.append((place[1], edge.target, (*steps, edge)))
    return None


def path_text(steps: tuple[Edge, ...]) -> str:
    """Return a path as ``A -| B -> C``."""
    assert all(a.target == b.regulator for a, b in pairwise(steps))
    return steps[0].regulator + "".join(f" {BAR if e.sign < 0 else ARROW} {e.target}" for e in steps)
