"""Boolean gene regulatory networks and their rules.

Letters: G genes, R the largest number of regulators of a gene.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, reduce
from operator import and_, or_
from typing import Any

import numpy as np

from perturbrl.errors import UserError, did_you_mean, one_of

Edge = tuple[str, str]
Markers = tuple[tuple[str, ...], tuple[str, ...]]
MOST_IN_TABLE = 20
"""The most regulators of a gene whose rule can be written as a truth table (of 10^6 rows)."""


@dataclass(frozen=True)
class Network:
    """A Boolean network with a start, named fates and the strengths of its edges.

    ``rules`` maps each gene to an expression of ``and``, ``or``, ``not``, True, False and gene names; a gene that
    reads itself alone is an input. ``start`` is the set of genes that are on in the progenitor. ``fates`` and
    ``stages`` (on the way there) map a label to the genes that must be on, and off, in it. ``thresholds`` maps an
    edge (target, regulator) to the regulator's level at half effect (1 is fully on); every edge not named there has
    ``default_threshold``.
    """

    rules: Mapping[str, str]
    start: frozenset[str]
    fates: Mapping[str, Markers]
    stages: Mapping[str, Markers]
    thresholds: Mapping[Edge, float]
    default_threshold: float
    name: str = ""

    @cached_property
    def genes(self) -> tuple[str, ...]:
        """The names of the G genes, in the order of ``rules``."""
        return tuple(self.rules)

    @cached_property
    def regulators(self) -> tuple[tuple[str, ...], ...]:
        """For each gene, the genes that its rule reads, in the order of ``genes``."""
        return tuple(regulators(rule, self.genes, f"gene {gene}: ") for gene, rule in self.rules.items())

    @cached_property
    def truth_tables(self) -> tuple[tuple[bool, ...], ...]:
        """For each gene, its rule over all 2^r states of its r regulators, the first regulator varying slowest."""
        return tuple(truth_table(rule, names) for rule, names in zip(self.rules.values(), self.regulators, strict=True))

    def threshold(self, target: str, regulator: str) -> float:
        """Return the level of ``regulator`` that has half its full effect on ``target``."""
        return self.thresholds.get((target, regulator), self.default_threshold)


def regulators(rule: str, genes: tuple[str, ...], where: str = "") -> tuple[str, ...]:
    """Return the genes that a rule reads, in the order of ``genes``; ``where`` starts the message of an error.

    Raises
    ------
    UserError
        The rule is not an expression of ``and``, ``or``, ``not`` and parentheses over ``genes``.
    """
    read = {node.id for node in ast.walk(parse(rule)) if isinstance(node, ast.Name)}
    if unknown := sorted(read - set(genes)):
        few = one_of(genes) if len(genes) <= 20 else f"{one_of(genes[:20])}, ... ({len(genes)} genes)"
        raise UserError(
            f"{where}rule {rule!r}: {unknown[0]!r} is not a gene of the network"
            f"{did_you_mean(unknown[0], genes)}; genes are {few}"
        )
    return tuple(gene for gene in genes if gene in read)


def truth_table(rule: str, names: tuple[str, ...]) -> tuple[bool, ...]:
    """Return the rule's value over all 2^r states of ``names``, the first name varying slowest.

    Raises
    ------
    UserError
        More than ``MOST_IN_TABLE`` names.
    """
    n = len(names)
    if n > MOST_IN_TABLE:
        raise UserError(f"rule {rule[:40]!r}...: reads {n} genes; a truth table holds at most {MOST_IN_TABLE}")
    rows = np.arange(2**n)
    values = {name: (rows >> (n - 1 - k) & 1).astype(bool) for k, name in enumerate(names)}
    return tuple(np.broadcast_to(evaluate(rule, values), rows.shape).tolist())


def evaluate(rule: str, values: Mapping[str, Any]) -> Any:
    """Return a rule's value where each gene has that of ``values``: arrays or tensors of bool, of one shape.

    The value of a rule that reads no gene is a plain bool.
    """
    return _value(parse(rule), values)


@cache
def parse(rule: str) -> ast.expr:
    """Return the syntax tree of a rule; raise ``UserError`` where it is none."""
    try:
        tree = ast.parse(rule.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError, ValueError):
        raise UserError(f"rule {rule!r}: not an expression of 'and', 'or', 'not', parentheses and gene names") from None
    allowed = (ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.Name, ast.Load)
    for node in ast.walk(tree):
        if not isinstance(node, allowed) and not (isinstance(node, ast.Constant) and isinstance(node.value, bool)):
            kind = type(node).__name__
            raise UserError(f"rule {rule!r}: {kind} is not allowed; use 'and', 'or', 'not', True, False and gene names")
    return tree


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp):
        return _value(node.operand, values) ^ True
    assert isinstance(node, ast.BoolOp)
    operation = and_ if isinstance(node.op, ast.And) else or_
    return reduce(operation, (_value(part, values) for part in node.values))
