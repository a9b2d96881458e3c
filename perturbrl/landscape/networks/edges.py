"""Networks from a list of signed edges, one a row: a gene is on where an activator of it is on and no repressor.

A list says who regulates whom, not how regulators combine. ``(a or b) and not (c or d)`` is the usual choice where that
is all one knows (one activator suffices, one repressor vetoes): Mendoza and Xenarios, Theoretical Biology and Medical
Modelling 3:13, 2006, and the networks of BoolODE (Pratapa et al., Nature Methods 17:147, 2020). A gene that only
repressors regulate is on where none of them is; a gene that nothing regulates is an input.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from perturbrl.errors import UserError, one_of
from perturbrl.landscape.network import Network
from perturbrl.landscape.networks.files import identifiers, read_text

COLUMNS = (("source", "target", "sign"), ("tf", "target", "mor"))
"""The columns that a file needs: a plain list, or one in the manner of DoRothEA (which has ``confidence`` too)."""
CONFIDENCE = "ABC"
"""The levels of confidence that are read by default: those that DoRothEA advises."""
SIGNS = {"+": 1, "-": -1, "activation": 1, "repression": -1, "activates": 1, "represses": -1}


@dataclass(frozen=True)
class SignedEdge:
    """``source`` activates (``sign`` 1) or represses (-1) ``target``; 0 where the sign is not known."""

    source: str
    target: str
    sign: int


def read_network(path: Path, confidence: str = CONFIDENCE) -> Network:
    """Return the network of a file of edges; it has no start and no fates.

    Raises
    ------
    UserError
        As ``read_edges`` and ``from_edges``.
    """
    return from_edges(read_edges(path, confidence), path.stem, str(path))


def read_edges(path: Path, confidence: str = CONFIDENCE, *, unsigned: bool = False) -> list[SignedEdge]:
    """Return the edges of a CSV (or tab-separated .tsv) file, in its order, each once.

    Columns are ``source,target,sign`` or, as DoRothEA has them, ``tf,confidence,target,mor``; others are ignored. A
    sign is a number (of which only the sign is read), ``+``, ``-``, ``activation`` or ``repression``. Of a file with a
    column ``confidence`` only rows whose level is one of the letters ``confidence`` are read. With ``unsigned``, the
    column of signs and any of its values may be missing (``0`` and ``?`` count as missing); such an edge has sign 0.

    Raises
    ------
    UserError
        The file cannot be read, lacks a column, has no edge, or a row is not an edge.
    """
    rows = csv.reader(read_text(path).splitlines(), delimiter="\t" if path.suffix == ".tsv" else ",")
    header = [name.strip().lower().lstrip("\ufeff") for name in next(rows, [])]
    choices = [*COLUMNS, *(names[:2] for names in COLUMNS if unsigned)]
    columns = next((names for names in choices if set(names) <= set(header)), None)
    if columns is None:
        wanted = one_of(",".join(names) for names in choices)
        raise UserError(f"{path}: the columns are {','.join(header) or 'none'}; {wanted} are needed")
    edges: dict[tuple[str, str], SignedEdge] = {}
    for number, row in enumerate(rows, start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise UserError(f"{path}, row {number}: has {len(row)} cells; the header has {len(header)}")
        cell = dict(zip(header, (value.strip() for value in row), strict=True))
        if "confidence" in cell and cell["confidence"] not in [*confidence]:
            continue
        edge = _edge([*(cell[name] for name in columns), ""][:3], f"{path}, row {number}", unsigned)
        before = edges.setdefault((edge.source, edge.target), edge)
        if before.sign != edge.sign:
            raise UserError(
                f"{path}, row {number}: {edge.source} -> {edge.target} has another sign in an earlier row; keep one"
            )
    if not edges:
        levels = f" with confidence {one_of(confidence)}" if "confidence" in header else ""
        raise UserError(f"{path}: has no edge{levels}")
    return [*edges.values()]


def from_edges(edges: Iterable[SignedEdge], name: str, where: str = "edges") -> Network:
    """Return the network of edges; genes are in the order in which they are first named.

    Raises
    ------
    UserError
        Two genes become one Python name.
    """
    edges = [*edges]
    spelled = [*dict.fromkeys(gene for edge in edges for gene in (edge.source, edge.target))]
    names = identifiers(spelled, where)
    regulators: dict[int, dict[str, list[str]]] = {sign: {gene: [] for gene in spelled} for sign in (1, -1)}
    for edge in edges:
        regulators[edge.sign][edge.target].append(names[edge.source])
    rules = {names[gene]: _rule(names[gene], regulators[1][gene], regulators[-1][gene]) for gene in spelled}
    return Network(rules, frozenset(), {}, {}, {}, 0.5, name)


def _rule(gene: str, activators: list[str], repressors: list[str]) -> str:
    any_on, none_on = " or ".join(activators), f"not ({' or '.join(repressors)})"
    if not activators:
        return none_on if repressors else gene
    return f"({any_on}) and {none_on}" if repressors else any_on


def _edge(cells: list[str], where: str, unsigned: bool) -> SignedEdge:
    source, target, sign = cells
    if not source or not target:
        raise UserError(f"{where}: names no {'target' if source else 'source'}")
    if unsigned and sign in ("", "?", "0"):
        return SignedEdge(source, target, 0)
    try:
        number = float(SIGNS.get(sign.lower(), sign))
    except ValueError:
        number = 0.0
    if not (number > 0 or number < 0):
        raise UserError(f"{where}: the sign is {sign!r}; a number other than 0, {one_of(SIGNS)} is needed")
    return SignedEdge(source, target, 1 if number > 0 else -1)
