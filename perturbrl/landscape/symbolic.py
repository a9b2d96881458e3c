"""Networks as biodivine_aeon sees them: sets of states as decision diagrams, attractors exact.

Letters: G genes.
"""

from __future__ import annotations

import ast
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import biodivine_aeon as aeon
import numpy as np
import torch
from torch import Tensor

from perturbrl.errors import UserError
from perturbrl.landscape.network import Network, parse, truth_table

T = TypeVar("T")


def model(network: Network, held: Tensor | None = None) -> aeon.BooleanNetwork:
    """Return a network in the form of biodivine_aeon; its variables have the names of the genes.

    ``held`` [G] are clamps as of ``perturb.clamp``: a gene that is not NaN becomes a constant.
    """
    clamps = dict(
        zip(network.genes, [float("nan")] * len(network.genes) if held is None else held.tolist(), strict=True)
    )
    if reserved := [gene for gene in network.genes if gene.lower() in ("true", "false")]:
        raise UserError(f"network {network.name!r}: {reserved[0]!r} cannot be the name of a gene; rename it")
    lines = ["targets,factors"]
    for gene, rule in network.rules.items():
        is_free = clamps[gene] != clamps[gene]
        lines.append(f"{gene},{_text(parse(rule)) if is_free else str(clamps[gene] > 0).lower()}")
    _ = network.regulators  # refuses a rule that reads an unknown gene, which AEON would take for an input
    # A rule may read a gene that has no effect in it. The library would take that for a contradiction.
    return aeon.BooleanNetwork.from_bnet("\n".join(lines) + "\n").remove_regulation_constraints()


def free_inputs(network: Network, held: Tensor | None = None) -> tuple[str, ...]:
    """Return the inputs, genes that keep any value of theirs whatever the others are, that ``held`` [G] leaves free."""
    own = [gene for gene, names in zip(network.genes, network.regulators, strict=True) if names == (gene,)]
    inputs = [gene for gene in own if truth_table(network.rules[gene], (gene,)) == (False, True)]
    free = (
        set(network.genes) if held is None else {g for g, h in zip(network.genes, held.tolist(), strict=True) if h != h}
    )
    return tuple(gene for gene in inputs if gene in free)


def attractor_sets(
    network: Network, held: Tensor | None, most: int, seconds: float
) -> tuple[aeon.AsynchronousGraph, list[aeon.VertexSet]]:
    """Return the asynchronous graph of a network and the states of each of its attractors, as sets.

    Raises
    ------
    UserError
        There are more than ``most`` attractors, or they are not found within ``seconds`` (main thread only).
    """
    graph = aeon.AsynchronousGraph(model(network, held))
    inputs = free_inputs(network, held)
    advice = f"hold its {len(inputs)} free inputs ({inputs[0]}, ...)" if inputs else "hold some genes, or simulate"
    where = f"network {network.name!r} of {len(network.genes)} genes"
    try:
        found = limited(lambda: aeon.Attractors.attractors({"graph": graph, "solution_count": most + 1}), seconds)
    except TimeoutError:
        raise UserError(
            f"{where}: too large for the exact solver, which found no answer in {seconds:g} seconds; {advice}"
        ) from None
    if len(found) > most:
        raise UserError(f"{where}: has more than {most} attractors; {advice}")
    return graph, [part.vertices() for part in found]


def limited(work: Callable[[], T], seconds: float) -> T:
    """Return ``work()``, a call of biodivine_aeon; raise ``TimeoutError`` after ``seconds`` (main thread only)."""
    late = []

    def stop(*_: object) -> None:
        late.append(True)
        raise TimeoutError

    try:
        with _alarm(stop, seconds):
            return work()
    except (KeyboardInterrupt, TimeoutError):  # the library turns what a handler raises into KeyboardInterrupt
        if late:
            raise TimeoutError from None
        raise


@contextmanager
def _alarm(stop: Callable[..., None], seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def states(part: aeon.VertexSet, graph: aeon.AsynchronousGraph, network: Network, most: int) -> Tensor:
    """Return the states of a set in increasing order, [n, G] uint8; a random sample if above ``most``."""
    if int(part.cardinality()) <= most:
        vertices = [vertex.values() for vertex in part]
    else:
        vertices = [vertex.values() for vertex in islice(part.sample_items(seed=0), most)]
    order = [graph.network_variable_names().index(gene) for gene in network.genes]
    rows = np.array(vertices, dtype=np.uint8).reshape(len(vertices), len(order))[:, order]
    return torch.from_numpy(rows[np.lexsort(rows.T[::-1])])


def smallest(part: aeon.VertexSet, graph: aeon.AsynchronousGraph, network: Network) -> tuple[int, ...]:
    """Return the smallest state of a set, its genes as binary digits, the first the highest."""
    digits = []
    for gene in network.genes:
        off = part.intersect(graph.mk_subspace_vertices({gene: False}))
        digits.append(int(off.is_empty()))
        part = part if digits[-1] else off
    return tuple(digits)


def is_cycle(part: aeon.VertexSet, graph: aeon.AsynchronousGraph) -> bool:
    """Whether every state of an attractor has one successor: no two genes can change in the same state."""
    changing = graph.mk_empty_vertices()
    for variable in graph.network_variables():
        can = graph.var_can_post(variable, graph.mk_unit_colored_vertices()).vertices().intersect(part)
        if not can.intersect(changing).is_empty():
            return False
        changing = changing.union(can)
    return True


def contains(part: aeon.VertexSet, graph: aeon.AsynchronousGraph, network: Network, rows: Tensor) -> Tensor:
    """Return which of the states ``rows`` [n, G] are in a set, [n] bool."""
    diagram: Any = part.to_bdd()
    order = [network.genes.index(name) for name in graph.network_variable_names()]
    return torch.tensor([bool(diagram(row)) for row in rows[:, order].tolist()], dtype=torch.bool)


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Constant):
        return str(node.value).lower()
    if isinstance(node, ast.UnaryOp):
        return f"!({_text(node.operand)})"
    assert isinstance(node, ast.BoolOp)
    sign = "&" if isinstance(node.op, ast.And) else "|"
    return sign.join(f"({_text(part)})" for part in node.values)
