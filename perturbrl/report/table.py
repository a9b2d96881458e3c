"""The table model: what is known of a table (``Table``, ``Row``), and what is printed of it (``Section``, ``Grid``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, TypeVar

import pandas as pd

from perturbrl.report.published import AGENTS
from perturbrl.stats import Claim, Interval, mean_interval

UNTITLED = ("schedule", "preset")
_NO_VALUE = mean_interval([])


@dataclass(frozen=True, eq=False)
class Row:
    """One method of a table; ``agent`` is empty for a row that no training made.

    ``units`` [units of replication, metrics] has seeds as index (or splits, where several were drawn), ``name`` is
    what the files of an evaluation call the row, ``runs`` are (directory, seed, status) of all runs, diverged ones
    included. ``coverage`` is the part of the test conditions for which the method has a prediction, ``missing`` the
    number of its runs that have no evaluation and so are not in ``runs`` or ``units``. ``alike`` are rows with the same
    values everywhere, which this row stands for too.
    """

    label: str
    name: str
    agent: str
    kind: str
    units: pd.DataFrame = field(repr=False)
    runs: tuple[tuple[str, int, str], ...] = ()
    mark: str = ""
    coverage: float = 1.0
    alike: tuple[Row, ...] = ()
    missing: int = 0

    @property
    def n(self) -> int:
        """Number of units of replication."""
        return len(self.units)

    @property
    def diverged(self) -> int:
        """Number of runs that diverged."""
        return sum(status == "diverged" for _, _, status in self.runs)

    @cached_property
    def cells(self) -> dict[str, Interval]:
        """Mean over units and its t interval, of every metric."""
        return {str(metric): mean_interval(self.units[metric]) for metric in self.units}

    def cell(self, metric: str) -> Interval:
        """Return mean and interval of one metric; no value where no unit has one."""
        return self.cells.get(metric, _NO_VALUE)


R_co = TypeVar("R_co", bound=Row, covariant=True)


@dataclass(frozen=True, eq=False)
class Table(Generic[R_co]):
    """Runs that may be compared, as rows; ``runs`` are their lines of ``Collection.runs``."""

    title: str
    slug: str
    rows: tuple[R_co, ...]
    runs: pd.DataFrame

    @property
    def agents(self) -> tuple[R_co, ...]:
        """The rows of trained agents."""
        return tuple(row for row in self.rows if row.agent)

    @property
    def counts(self) -> str:
        """The number of units of replication behind each agent's row."""
        return counted((row.label, str(row.n)) for row in self.agents)


@dataclass(frozen=True)
class Cell:
    """One printed cell: the value, and half of its interval (empty where there is none)."""

    value: str
    half: str = ""

    def __str__(self) -> str:
        """Spell value and interval on one line."""
        return f"{self.value} ± {self.half}" if self.half else self.value


@dataclass(frozen=True)
class Line:
    """One printed line. ``kind`` is that of a row, or published, difference, later or head."""

    label: str
    kind: str
    cells: tuple[Cell, ...]
    mark: str = ""

    @property
    def below(self) -> bool:
        """Whether the line belongs to the agent above it."""
        return self.kind in ("published", "difference", "later")


@dataclass(frozen=True)
class Grid:
    """One printed table; ``spans`` are headings over several columns: (heading, number of columns)."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    note: str = ""
    spans: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Statement:
    """What may be stated of one agent: ``claim`` is None where nothing could be compared.

    ``exploratory`` says why the statement is no more than exploratory, empty where it was declared before training.
    """

    agent: Row
    claim: Claim | None
    text: str
    exploratory: str = ""

    @property
    def word(self) -> str:
        """``better``, ``worse`` or ``no evidence``; then ``(exploratory)`` where it is no more."""
        word = self.claim.word if self.claim else "no evidence"
        return f"{word} (exploratory)" if self.exploratory and word != "no evidence" else word


@dataclass(frozen=True)
class Section:
    """All that is printed of a table, in any format. ``values`` are the lines of its CSV, in full precision.

    ``summary`` stands above the grids and ``result`` right below; ``notes`` say how to read the numbers, ``remarks``
    are those of the evaluations (not on the console and not in LaTeX). ``short`` is for the console alone.
    """

    title: str
    slug: str
    grids: tuple[Grid, ...]
    values: Sequence[Sequence[object]] = ()
    summary: str = ""
    claims: tuple[Statement, ...] = ()
    result: str = ""
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    short: str = ""


def counted(counts: Iterable[tuple[str, str]]) -> str:
    """Spell what each row has: once if all have the same, else by row."""
    named = dict(counts)
    same = len(set(named.values())) == 1
    return next(iter(named.values())) if same else "; ".join(f"{label} {count}" for label, count in named.items())


def groups(runs: pd.DataFrame, key: Sequence[str]) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """Yield the runs of each table: alike in the columns ``key`` and in the settings of their evaluation.

    The mapping names the values of ``key`` and ``settings``: those that titles do not show and that tell two tables
    apart.
    """
    whole = runs.groupby(list(key), sort=True)
    rest = [column for column in key if column not in UNTITLED]
    for values, alike in whole:
        named = dict(zip(key, map(str, values), strict=True))
        near = runs[(runs[rest] == alike.iloc[0][rest]).all(axis=1)]
        apart = [f"{k}={named[k]}" for k in UNTITLED if k in named and near[k].nunique() > 1]
        settings = alike["settings"]
        usual = settings[settings != ""].mode()  # a run that diverged may never have been evaluated
        settings = settings.mask(settings == "", usual.iloc[0]) if len(usual) else settings
        common = set.intersection(*(set(str(text).split(",")) for text in settings.unique()))
        for setting, part in alike.groupby(settings, sort=True):
            different = [one for one in str(setting).split(",") if one not in common]
            yield {**named, "settings": ",".join([*apart, *different])}, part


def agent_groups(runs: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Return (agent, label, its runs) in the order of the rows: the paper's agents, then the others by name."""
    made = []
    for (agent, label, policy), part in runs.groupby(["agent", "label", "policy"]):
        several = runs.loc[runs["label"] == label, "policy"].nunique() > 1
        made.append((str(agent), f"{label} [{policy}]" if several else str(label), part))
    place = {agent: k for k, agent in enumerate(AGENTS)}
    return sorted(made, key=lambda group: (place.get(group[0], len(AGENTS)), group[0], group[1]))


def members(runs: pd.DataFrame) -> tuple[tuple[str, int, str], ...]:
    """Return (directory, seed, status) of each run."""
    return tuple(zip(runs["run"], (int(seed) for seed in runs["seed"]), runs["status"], strict=True))
