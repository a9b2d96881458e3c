"""The printed tables on held-out perturbations, each a grid of spelled cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perturbrl.report.counterfactual.claims import ALPHA, exploratory
from perturbrl.report.counterfactual.gather import Row, Table
from perturbrl.report.counterfactual.names import COLUMNS, COMPARABILITY, HEADLINE, RL, SPELLED, Column
from perturbrl.report.names import DASH, MINUS
from perturbrl.report.render import Cell
from perturbrl.stats import Interval, mean_interval

NBSP = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Line:
    """One printed line; ``kind`` as of a row, or ``head``."""

    label: str
    kind: str
    cells: tuple[Cell, ...]
    mark: str = ""


@dataclass(frozen=True)
class Grid:
    """One printed table; ``note`` says how to read it."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    note: str


def grids(table: Table) -> list[Grid]:
    """Return the printed tables of one data set and split: headline raw and calibrated, strata, comparability, RL."""
    range_line = Line("dynamic range", "head", _ranges(table))
    interval = "Mean ± half-width of the 95 % t interval over " + ("splits" if table.splits > 1 else "seeds")
    made = [
        _grid(
            "Headline",
            table,
            HEADLINE,
            "",
            f"{interval}. ↑ higher is better, ↓ lower is better. Dynamic range: part of the way from the training mean "
            "to perfection that a replicate of the experiment covers; near 0 or below, the metric tells no skill here. "
            "[k %]: the part of the test conditions that a method can say anything of; the rest get the training mean "
            "(an oracle leaves them out).",
            (range_line,),
        ),
        _grid(
            "Headline, calibrated",
            table,
            HEADLINE,
            "calibrated/",
            "(u - b) / (r - b): 0 is the training mean b, 1 a replicate r (technical duplicate); more is better. "
            "A dash: the replicate is no better than the training mean.",
        ),
        _grid(
            "Resistant perturbations",
            table,
            HEADLINE,
            "resistant/",
            "The half of the test conditions that the training mean explains least.",
        ),
    ]
    if (strata := _strata(table)) is not None:
        made.append(strata)
    made.append(
        _grid(
            "Comparability",
            table,
            COMPARABILITY,
            "",
            "The study's ten names and the field's usual columns, on held-out perturbations. Dominated by what all "
            "perturbations share: not a headline.",
        )
    )
    made.append(_control(table))
    if (compared := _exploratory(table)) is not None:
        made.append(compared)
    return made


def header(table: Table) -> str:
    """Return what every table's reader has to know first: how many tests, how deep, how much is shared."""
    keys = ("n_test", "median_cells", "systematic_variation", "n_excluded_de", "de_prevalence")
    values = {key: _said(table, key) for key in keys}
    kinds = ", ".join(sorted({str(said["split"]["kind"]) for said in table.said.values()}))
    shas = sorted({str(said["split"]["sha256"])[:10] for said in table.said.values()})
    controls = sorted({str(said["n_control_cells"]) for said in table.said.values() if "n_control_cells" in said})
    shown = ", ".join(shas[:5]) + (f" and {len(shas) - 5} more" if len(shas) > 5 else "")
    text = (
        f"Split: {kinds}, {table.splits} drawn (sha256 {shown}). Test conditions: {_span(values['n_test'])}, median "
        f"{_span(values['median_cells'])} cells; systematic variation {_span(values['systematic_variation'], 2)}; "
        f"without differential genes and so not in the DE columns: {_span(values['n_excluded_de'])}; part of "
        f"the genes that is differential (AUPRC-DE of chance): {_span(values['de_prevalence'], 2)}."
    )
    return text + (f" Control cells of each prediction: {', '.join(controls)}." if controls else "")


def flags(table: Table) -> list[str]:
    """Return what the evaluations remarked, each once, with the number of runs that it holds for."""
    count: dict[str, int] = {}
    for said in table.said.values():
        for flag in said.get("flags", []):
            count[str(flag)] = count.get(str(flag), 0) + 1
    return [f"{flag} ({n} of {len(table.said)} runs)" for flag, n in sorted(count.items())]


def _grid(
    title: str,
    table: Table,
    columns: Mapping[str, Column],
    prefix: str,
    note: str,
    above: tuple[Line, ...] = (),
    only: Sequence[Row] | None = None,
) -> Grid:
    arrows = {"up": f"{NBSP}↑", "down": f"{NBSP}↓", "neither": ""}
    plain = prefix == "calibrated/"
    heads = tuple(c.title + ("" if plain else arrows[c.better]) for c in columns.values())
    lines = [
        _line(row, [(row.cell(prefix + m), Column(c.title) if plain else c) for m, c in columns.items()])
        for row in (table.rows if only is None else only)
    ]
    return Grid(title, heads, (*above, *lines), note)


def _line(row: Row, cells: Sequence[tuple[Interval, Column]]) -> Line:
    label = SPELLED.get(row.label, row.label)
    if row.coverage < 1:
        label += f" [{100 * row.coverage:.0f} %]"
    spelled = []
    for interval, column in cells:
        half = "" if interval.half is None else _cell(interval.half, column).value
        if not half.strip("0.,") and (not row.agent or not column.digits):
            half = ""  # a row that no seed changes, a number of steps
        spelled.append(Cell(_cell(interval.mean, column).value, half))
    return Line(label, row.kind, tuple(spelled), row.mark)


def _cell(value: float, column: Column) -> Cell:
    if not math.isfinite(value):
        return Cell(DASH)
    return Cell(f"{round(value, column.digits) + 0.0:,.{column.digits}f}".replace("-", MINUS))


def _control(table: Table) -> Grid:
    """Return what the task pays; where cells were simulated, every row's distance to the simulator's own means."""
    rows = tuple(row for row in table.rows if {"return", "regret"} & set(row.units))
    note = "Return above doing nothing; normalised: 0 is doing nothing, 1 the truth. Kept apart from prediction."
    columns = dict(RL)
    if any("regret" in row.units for row in rows):
        note += " Regret: the part of the squared true change that is missed; 0 the simulator's own means, 1 no change."
    else:
        columns.pop("regret")
    return _grid("Control", table, columns, "", note, only=rows)


def _strata(table: Table) -> Grid | None:
    """Return the primary metric within each stratum of test conditions, where there are several."""
    names = sorted(table.conditions["stratum"].unique())
    if len(names) < 2:
        return None
    column = COLUMNS[table.primary]
    lines = []
    for row in table.rows:
        part = table.of(row)
        means = part.groupby(["stratum", "unit"])["value"].mean()
        cells = [(mean_interval(means.loc[n] if n in means.index else []), column) for n in names]
        lines.append(_line(row, cells))
    note = "The same numbers within each kind of test condition."
    return Grid(f"{column.title} by stratum", tuple(names), tuple(lines), note)


def _exploratory(table: Table) -> Grid | None:
    from scipy.stats import false_discovery_control

    found = exploratory(table, list(HEADLINE))
    places = [(label, metric) for label, cells in found.items() for metric in cells]
    if not places:
        return None
    p = [found[agent][metric][1] for agent, metric in places]
    adjusted = dict(zip(places, false_discovery_control(p), strict=True))
    lines = []
    for row in table.agents:
        cells = []
        for metric, column in HEADLINE.items():
            if metric not in found[row.label]:
                cells.append(Cell(DASH))
                continue
            interval, _ = found[row.label][metric]
            star = "*" if adjusted[row.label, metric] <= ALPHA and interval.excludes(0.0) else ""
            half = "" if interval.half is None else _cell(interval.half, column).value
            cells.append(Cell(_cell(interval.mean, column).value + star, half))
        lines.append(Line(row.label, "agent", tuple(cells), row.mark))
    return Grid(
        "Differences to the best simple baseline of each column",
        tuple(c.title for c in HEADLINE.values()),
        tuple(lines),
        "Exploratory. Positive: better. * at a false discovery rate of 5 % (Benjamini & Hochberg over this table).",
    )


def _said(table: Table, key: str) -> list[float]:
    """Values of the header ``key`` of all runs, those that are numbers."""
    return [v for said in table.said.values() if isinstance(v := said.get("header", {}).get(key), int | float)]


def _ranges(table: Table) -> tuple[Cell, ...]:
    parts = [said.get("header", {}).get("drf") or {} for said in table.said.values()]
    return tuple(_cell(_mean([p[m] for p in parts if p.get(m) is not None]), c) for m, c in HEADLINE.items())


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values)) if values else math.nan


def _span(values: Sequence[float], digits: int = 0) -> str:
    if not values:
        return DASH
    low, high = (f"{v:.{digits}f}" for v in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
