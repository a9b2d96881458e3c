"""What a plan says: plain data, without torch, so that a report can print it and a file can hold it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from perturbrl.errors import UserError
from perturbrl.files import write_text

Change = tuple[str, bool]
Perturbation = tuple[Change, ...]
"""Genes with the value that each is given, in the order of the network."""

NOTHING = "nothing"
ELSEWHERE = "no named fate"
ARROW, BAR = "->", "-|"
_SHARE, _TEST = "share: ", "stable: "


def label(perturbation: Perturbation) -> str:
    """Return the name of a set: ``Gata1_oe+Pu1_ko``, as in a screen, or ``nothing``."""
    return "+".join(f"{gene}_{'oe' if on else 'ko'}" for gene, on in perturbation) or NOTHING


def parse(text: str, location: str = "perturbation") -> Perturbation:
    """Return the set with the name ``text``: the inverse of ``label``; raise ``UserError`` for any other text."""
    if text == NOTHING:
        return ()
    pairs = [part.rpartition("_") for part in text.split("+")]
    if not all(gene and kind in ("oe", "ko") for gene, _, kind in pairs):
        raise UserError(f"{location}: {text!r} is not a set of perturbations such as Gata1_oe+Pu1_ko")
    return tuple((gene, kind == "oe") for gene, _, kind in pairs)


@dataclass(frozen=True)
class Stability:
    """How a set fares where the simulation or the network is another.

    ``schemes`` maps a way of updating to the probability under it. ``deletions`` and ``flips`` are the shares of edges
    without which, or with whose sign turned, the set still works. ``needed`` are the edges that it does not work
    without, as ``A -> B`` or ``A -| B``.
    """

    schemes: Mapping[str, float] = field(default_factory=dict)
    deletions: float | None = None
    flips: float | None = None
    needed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """One set of perturbations.

    ``probability`` of ending in the target, between ``low`` and ``high``; ``cost`` in the same unit, ``net`` their
    difference, by which sets are ranked. ``outcomes`` are the shares that end in each fate. ``paths`` lead from the
    perturbed genes to the markers of the target that they bring about, each as text.
    """

    rank: int
    perturbation: Perturbation
    probability: float
    low: float
    high: float
    cost: float
    outcomes: Mapping[str, float]
    stability: Stability | None = None
    paths: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The set as text."""
        return label(self.perturbation)

    @property
    def net(self) -> float:
        """Probability minus cost."""
        return self.probability - self.cost

    def off_target(self, source: str, target: str) -> float:
        """Return the share that ends neither in the target nor where it came from."""
        return max(0.0, 1.0 - self.outcomes.get(target, 0.0) - self.outcomes.get(source, 0.0))


@dataclass(frozen=True)
class Plan:
    """A ranked list of sets that take cells of ``source`` to ``target``.

    ``nothing`` is what happens without a perturbation. ``n_sets`` were tried, all sets of at most ``max_perturb`` genes
    if ``complete``. ``n_cells`` is the number of start cells (None: states of the network, no cells), ``n_starts`` the
    number of different start states. ``notes`` are sentences on what was read, guessed or left out.
    """

    network: str
    n_genes: int
    source: str
    target: str
    markers: tuple[str, ...]
    method: str
    duration: str
    max_perturb: int
    n_sets: int
    complete: bool
    n_cells: int | None
    n_starts: int
    level: float
    nothing: Candidate
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()

    @property
    def reached(self) -> bool:
        """Whether any set reaches the target at all."""
        return any(candidate.probability > 0 for candidate in self.candidates)

    def rank(self, perturbation: Perturbation) -> int | None:
        """Return the rank of a set, None if it is not listed."""
        wanted = frozenset(perturbation)
        return next((c.rank for c in self.candidates if frozenset(c.perturbation) == wanted), None)


@dataclass(frozen=True)
class Recipe:
    """A published way to change the fate of cells: what was perturbed, what was ``observed``, and where."""

    network: str
    source: str
    target: str
    perturbation: Perturbation
    observed: str
    publication: str


@dataclass(frozen=True)
class RecipeRank:
    """How a network ranks a recipe among the ``n_sets`` of at most as many genes; ``ties`` others are as good.

    ``probability`` of the target, ``nothing`` without a perturbation; ``best`` is the set of rank 1.
    """

    recipe: Recipe
    probability: float
    nothing: float
    rank: int
    ties: int
    n_sets: int
    best: str
    best_probability: float


def csv_text(plan: Plan) -> str:
    """Return the candidates as CSV, doing nothing first; ``read_csv`` reads it back."""
    rows = [_row(candidate) for candidate in (plan.nothing, *plan.candidates)]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _row(c: Candidate) -> dict[str, Any]:
    row: dict[str, Any] = {
        **{"rank": c.rank, "perturbation": c.name, "n_genes": len(c.perturbation)},
        **{"probability": c.probability, "low": c.low, "high": c.high, "cost": c.cost, "net": c.net},
        **{f"{_SHARE}{name}": share for name, share in c.outcomes.items()},
    }
    if c.stability is not None:
        row |= {f"{_TEST}{name}": value for name, value in c.stability.schemes.items()}
        row |= {"edges_deleted": c.stability.deletions, "edges_flipped": c.stability.flips}
        row["needs"] = "; ".join(c.stability.needed)
    return row | {"paths": "; ".join(c.paths)}


def read_csv(path: Path) -> tuple[Candidate, ...]:
    """Return the candidates of a file of ``csv_text``, doing nothing first.

    Raises
    ------
    UserError
        The file cannot be read, a column is missing, or a row holds something else.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    for column in ("rank", "perturbation", "probability", "low", "high", "cost"):
        if not rows or column not in rows[0]:
            raise UserError(f"{path}: has no column {column!r}; a plan.csv of `perturbrl fate plan` is needed")
    return tuple(_candidate(row, f"{path}, row {number}") for number, row in enumerate(rows, start=2))


def _candidate(row: Mapping[str, str], where: str) -> Candidate:
    def number(key: str) -> float:
        try:
            return float(row[key])
        except (TypeError, ValueError):
            raise UserError(f"{where}: {key} is {row[key]!r}; a number is needed") from None

    def texts(key: str) -> tuple[str, ...]:
        return tuple(part for part in (row.get(key) or "").split("; ") if part)

    stability = None
    if row.get("edges_deleted") or any(key.startswith(_TEST) and row[key] for key in row):
        schemes = {key.removeprefix(_TEST): number(key) for key in row if key.startswith(_TEST) and row[key]}
        edits = [number(key) if row.get(key) else None for key in ("edges_deleted", "edges_flipped")]
        stability = Stability(schemes, edits[0], edits[1], texts("needs"))
    outcomes = {key.removeprefix(_SHARE): number(key) for key in row if key.startswith(_SHARE) and row[key]}
    perturbation = parse(row["perturbation"], where)
    probability, low, high, cost = (number(key) for key in ("probability", "low", "high", "cost"))
    rank, paths = int(number("rank")), texts("paths")
    return Candidate(rank, perturbation, probability, low, high, cost, outcomes, stability, paths)


def write(plan: Plan, folder: Path) -> tuple[Path, Path]:
    """Write ``plan.csv`` and ``plan.json`` below ``folder``, and return their paths."""
    table, whole = folder / "plan.csv", folder / "plan.json"
    write_text(table, csv_text(plan))
    content = {f.name: getattr(plan, f.name) for f in fields(plan) if f.name not in ("nothing", "candidates")}
    content["candidates"] = [_row(candidate) for candidate in (plan.nothing, *plan.candidates)]
    write_text(whole, json.dumps(content, indent=2) + "\n")
    return table, whole


def ranked(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return the candidates by net probability, then the fewest genes, then by name, with ranks from 1."""
    order = sorted(candidates, key=lambda c: (-round(c.net, 9), len(c.perturbation), c.name))
    return tuple(replace(candidate, rank=rank) for rank, candidate in enumerate(order, start=1))
