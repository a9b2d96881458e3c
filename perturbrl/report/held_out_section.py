"""What is printed of a table on held-out perturbations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from perturbrl.metrics_info import COMPARABILITY, CONTROL, HELD_OUT, MetricInfo
from perturbrl.report import missing
from perturbrl.report.claims import ALPHA, Family, alpha_of, exploratory, statements
from perturbrl.report.held_out import HeldOutTable, full_title, names_of
from perturbrl.report.held_out_genes import gene_note
from perturbrl.report.table import Cell, Grid, Line, Row, Section
from perturbrl.report.text import DASH, NBSP, count, spell
from perturbrl.stats import Interval, mean_interval

ARROWS = {"up": f"{NBSP}↑", "down": f"{NBSP}↓", "neither": ""}
VALUES = ("row", "kind", "coverage", "statistic", "metric", "units", "mean", "low", "high")
STATISTICS = ("", "calibrated/", "median/", "resistant/")


def section(table: HeldOutTable, family: Family | None = None) -> Section:
    """Return what is printed of a table: claims first (``family``: those of the whole report), then the grids."""
    family = family or Family.of([table])
    return Section(
        table.title,
        table.slug,
        tuple(grids(table)),
        tuple(_values(table)),
        summary=header(table),
        claims=tuple(statements(table, family)),
        notes=(family.rule(alpha_of(table)),) if table.agents else (),
        remarks=tuple(_remarks(table)),
    )


def grids(table: HeldOutTable) -> list[Grid]:
    """Return the printed tables of one data set and split: headline raw and calibrated, strata, comparability, RL."""
    interval = "Mean ± half-width of the 95 % t interval over " + ("held-out sets" if table.splits > 1 else "seeds")
    held_out = table.conditions.groupby("condition")["run"].agg(lambda runs: len({table.tested.sets[r] for r in runs}))
    if table.splits > 1 and (held_out > 1).any():
        interval += (
            " (too narrow where sets share conditions, as here: claims and differences use the crossed interval)"
        )
    headlines = table.columns.ranking
    headline = _grid(
        "Headline",
        table,
        headlines,
        note=f"{interval}. ↑ higher is better, ↓ lower is better. Dynamic range: part of the way from the training "
        "mean to perfection that a replicate of half the cells covers; near 0 or below, noise hides the effects in so "
        "few cells. [k %]: the part of the test conditions for which a method has a prediction; conditions "
        "without one get the training mean (an oracle leaves them out).",
    )
    made = [
        replace(headline, lines=(Line("dynamic range", "head", _dynamic_ranges(table)), *headline.lines)),
        _grid(
            "Headline, calibrated",
            table,
            headlines,
            "calibrated/",
            note="(u - b) / (r - b): 0 is the training mean b, 1 a replicate r of half the cells (technical "
            "duplicate); higher is better, also above 1. A dash: the replicate is no better than the training mean.",
        ),
        _grid(
            "Resistant perturbations",
            table,
            headlines,
            "resistant/",
            note="The half of the test conditions that the training mean explains least.",
        ),
        _strata(table),
        _grid(
            "Comparability",
            table,
            {name: info for name, info in COMPARABILITY.items() if name not in headlines},
            note="The study's ten names and the field's usual columns, on held-out perturbations. Dominated by what "
            "all perturbations share: not a headline.",
        ),
        _control(table),
        _exploratory(table),
    ]
    return [grid for grid in made if grid is not None and any(c.value != DASH for x in grid.lines for c in x.cells)]


def _left_out(table: HeldOutTable) -> str:
    """Say which headline columns cannot rank here, and why; and which metric stands for the declared one."""
    reasons: dict[str, list[str]] = {}
    for name, why in table.columns.left_out.items():
        reasons.setdefault(why, []).append(HELD_OUT[name].title)
    text = "".join(f" Left out: {', '.join(names)}: {why}." for why, names in reasons.items())
    declared = table.declared.get("metric")
    if declared in table.columns.left_out:
        text += f" Claims are about {table.primary.title}, not {HELD_OUT[str(declared)].title}, by the same rule."
    return text


def header(table: HeldOutTable) -> str:
    """Return what every table's reader has to know first: how many tests, how deep, how much is shared."""
    summaries = list(table.summaries.values())

    def span(key: str, digits: int = 0) -> str:
        values = [v for s in summaries if isinstance(v := s.get("header", {}).get(key), int | float)]
        if not values:
            return DASH
        low, high = (f"{v:.{digits}f}" for v in (min(values), max(values)))
        return low if low == high else f"{low} to {high}"

    kinds = ", ".join(sorted({str(s["split"]["kind"]) for s in summaries}))
    shas = sorted({str(s["split"]["sha256"])[:10] for s in summaries})
    controls = sorted({str(s["n_control_cells"]) for s in summaries if "n_control_cells" in s})
    shown = ", ".join(shas[:5]) + (f" and {len(shas) - 5} more" if len(shas) > 5 else "")
    distinct = table.conditions["condition"].nunique()
    runs, sets = count(len(table.runs), "run"), count(table.splits, "distinct held-out set")
    tested = count(distinct, "distinct test condition") if distinct else "an unknown number of distinct test conditions"
    text = (
        f"Split: {kinds}; {runs} on {sets} (splits: sha256 {shown}), {tested} in all.{_held_out(summaries)} "
        f"Test conditions: {span('n_test')}, median {span('median_cells')} cells; "
        f"systematic variation {span('systematic_variation', 2)}; "
        f"without differential genes and so not in the DE columns: {span('n_excluded_de')}; part of "
        f"the genes that is differential (AUPRC-DE of chance): {span('de_prevalence', 2)}. "
        f"{'Splits' if table.splits > 1 else 'Seeds'} of each agent: {table.counts}.{gene_note(summaries)}"
    )
    text += f" Control cells of each prediction: {', '.join(controls)}." if controls else ""
    return text + _left_out(table) + _alike(table)


def _held_out(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Name what is held out, of every split once, up to five."""
    named = list(dict.fromkeys(text for s in summaries if (text := s["split"].get("held_out_names"))))
    more = f" | and {len(named) - 5} other splits" if len(named) > 5 else ""
    return f" Held out: {' | '.join(named[:5])}{more}." if named else ""


def _alike(table: HeldOutTable) -> str:
    groups = [" = ".join(names_of(row)) for row in table.rows if row.alike]
    return f" Rows with the same values, shown as one: {'; '.join(groups)}." if groups else ""


def _remarks(table: HeldOutTable) -> Iterator[str]:
    """Yield what the evaluations remarked, each once, with the number of runs that it holds for."""
    yield from missing.notes(table)
    if table.tested.note:
        yield table.tested.note
    remarks = Counter(str(flag) for summary in table.summaries.values() for flag in summary.get("flags", []))
    for flag, n in sorted(remarks.items()):
        yield f"{flag} ({n} of {len(table.summaries)} runs)"


def _values(table: HeldOutTable) -> Iterator[tuple[object, ...]]:
    yield VALUES
    for row in table.every_row:
        for prefix in STATISTICS:
            for metric in (*HELD_OUT, *(() if prefix else CONTROL)):
                cell = row.cell(prefix + metric)
                if cell.n:
                    statistic = prefix.rstrip("/") or "raw"
                    about = (row.label, row.kind, row.coverage, statistic, metric, cell.n)
                    yield (*about, cell.mean, cell.low, cell.high)


def _grid(
    title: str,
    table: HeldOutTable,
    metrics: Mapping[str, MetricInfo],
    prefix: str = "",
    *,
    note: str,
    rows: Sequence[Row] | None = None,
) -> Grid:
    # calibrated scores have one scale: more is better, and three decimals
    calibrated = prefix == "calibrated/"
    heads = tuple(info.title + ("" if calibrated else ARROWS[info.better]) for info in metrics.values())
    digits = [3 if calibrated else info.digits for info in metrics.values()]
    lines = [
        _line(row, [row.cell(prefix + m) for m in metrics], digits) for row in (table.rows if rows is None else rows)
    ]
    return Grid(title, heads, tuple(lines), note)


def _line(row: Row, intervals: Sequence[Interval], digits: Sequence[int]) -> Line:
    label = full_title(row)
    cells = []
    for interval, decimals in zip(intervals, digits, strict=True):
        cell = _cell(interval, decimals)
        if not cell.half.strip("0.,") and (not row.agent or not decimals):
            cell = Cell(cell.value)  # a row that no seed changes, a number of steps
        cells.append(cell)
    return Line(label, row.kind, tuple(cells), row.mark)


def _cell(interval: Interval, digits: int) -> Cell:
    half = "" if interval.half is None else spell(interval.half, digits, group=",")
    return Cell(spell(interval.mean, digits, group=","), half)


def _dynamic_ranges(table: HeldOutTable) -> tuple[Cell, ...]:
    ranges = [summary.get("header", {}).get("drf") or {} for summary in table.summaries.values()]
    cells = []
    for name, info in table.columns.ranking.items():
        values = [r[name] for r in ranges if r.get(name) is not None]
        cells.append(Cell(spell(sum(values) / len(values), info.digits, group=",") if values else DASH))
    return tuple(cells)


def _control(table: HeldOutTable) -> Grid:
    """Return what the task pays; where cells were simulated, every row's distance to the simulator's own means."""
    rows = tuple(row for row in table.rows if {"return", "regret"} & set(row.units))
    note = "Return above doing nothing; normalised: 0 is doing nothing, 1 the truth; share: of what the "
    note += "best allowed actions earn. On test conditions, and on training conditions. Kept apart from prediction."
    metrics = dict(CONTROL)
    if any("regret" in row.units for row in rows):
        note += " Regret: the part of the squared true change that is missed; 0 the simulator's own means, 1 no change."
    else:
        metrics.pop("regret")
    return _grid("Control", table, metrics, note=note, rows=rows)


def _strata(table: HeldOutTable) -> Grid | None:
    """Return the primary metric within each stratum of test conditions, where there are several."""
    names = sorted(table.conditions["stratum"].unique())
    if len(names) < 2:
        return None
    lines = []
    for row in table.rows:
        means = table.of(row).groupby(["stratum", "unit"])["value"].mean()
        intervals = [mean_interval(means.loc[name] if name in means.index else []) for name in names]
        lines.append(_line(row, intervals, [table.primary.digits] * len(names)))
    note = "The same numbers within each kind of test condition."
    return Grid(f"{table.primary.title} by stratum", tuple(names), tuple(lines), note)


def _exploratory(table: HeldOutTable) -> Grid | None:
    from scipy.stats import false_discovery_control

    compared = exploratory(table, list(table.columns.ranking))
    if not compared:
        return None
    adjusted = dict(zip(compared, false_discovery_control([p for _, p in compared.values()]), strict=True))
    lines = []
    for row in table.agents:
        cells = []
        for metric, info in table.columns.ranking.items():
            interval, _ = compared.get((row.label, metric), (mean_interval([]), 1.0))
            cell = _cell(interval, info.digits)
            if interval.excludes(0.0) and adjusted[row.label, metric] <= ALPHA:
                cell = replace(cell, value=f"{cell.value}*")
            cells.append(cell)
        lines.append(Line(row.label, "agent", tuple(cells), row.mark))
    return Grid(
        "Differences to the best simple baseline of each column",
        tuple(info.title for info in table.columns.ranking.values()),
        tuple(lines),
        "Exploratory. Positive: better. Intervals are crossed over units and test conditions. "
        "* at a false discovery rate of 5 % (Benjamini & Hochberg over this table).",
    )
