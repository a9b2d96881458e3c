"""Tables of ``env=fate``: how often, how fast and at what cost cells are brought to their target; and by stage.

Letters: T decisions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from perturbrl import paths
from perturbrl.files import ONE_THREAD
from perturbrl.metrics_info import FATES
from perturbrl.report import layout, style
from perturbrl.report.collect import Collection
from perturbrl.report.layout import Drawn
from perturbrl.report.paper import KEY
from perturbrl.report.style import Picture
from perturbrl.report.table import Cell, Grid, Line, Row, Section, Table, agent_groups, groups, members
from perturbrl.report.text import natural, slug, spell
from perturbrl.stats import mean_interval

COLUMNS = list(FATES)
REFERENCES = {
    "optimum": "optimum (exact)",
    "one_step_best": "best single decision",
    "greedy": "greedy: the target's own genes",
    "random": "random choices",
    "do_nothing": "do nothing (floor)",
}
SHOWN_TIMES = 5  # columns of the table by stage
ALL_DRAWN = 6


@dataclass(frozen=True, eq=False)
class FateTable(Table[Row]):
    """Runs on one network and task; ``stages`` has columns label, row, goal, decision, pseudotime, share."""

    stages: pd.DataFrame

    @property
    def goals(self) -> tuple[str, ...]:
        """The stages in order, and the target."""
        return tuple(dict.fromkeys(self.stages["goal"]))


def build_tables(collection: Collection) -> list[FateTable]:
    """Make one table for each group of runs that differ in nothing but agent and seed."""
    frames = dict(iter(collection.frame.groupby("run", sort=False)))
    made = [
        _table(k, runs, pd.concat([frames[run] for run in runs["run"]])) for k, runs in groups(collection.fates, KEY)
    ]
    made.sort(key=lambda table: natural(table.title))
    slugs = [table.slug for table in made]
    return [replace(t, slug=f"{t.slug}-{k}") if slugs.count(t.slug) > 1 else t for k, t in enumerate(made)]


def _table(key: dict[str, str], runs: pd.DataFrame, frame: pd.DataFrame) -> FateTable:
    wide = frame.pivot_table(index=["run", "row"], columns="metric", values="value", dropna=False, sort=False)
    wide = wide.reindex(columns=COLUMNS).reset_index("row").join(runs.set_index("run")[["seed", "status"]])
    agents = [
        _agent(agent, label, wide[wide["row"] == "policy"].loc[part["run"]], part)
        for agent, label, part in agent_groups(runs)
    ]
    others = dict(iter(wide[wide["row"] != "policy"].groupby("row")))
    # runs of one seed share what needs no policy: one number a seed
    references = [
        Row(REFERENCES[name], name, "", "floor", others[name].groupby("seed")[COLUMNS].mean())
        for name in REFERENCES
        if name in others
    ]
    details = [part for part in (key["task"], key["name"], *key["settings"].split(",")) if part]
    title = f"Fates ({runs.iloc[0]['source']}): {' · '.join(details)}"
    labels = {run: row.label for row in agents for run, _, _ in row.runs}
    return FateTable(title, slug(["fates", *key.values()]), (*references, *agents), runs, _stages(labels))


def _agent(agent: str, label: str, part: pd.DataFrame, runs: pd.DataFrame) -> Row:
    complete = part[part["status"] == "complete"]
    diverged = len(part) - len(complete)
    mark = f"diverged ({diverged} of {len(part)} seeds)" if diverged else ""
    return Row(label, "policy", agent, "agent", complete.set_index("seed")[COLUMNS].sort_index(), members(runs), mark)


def _stages(labels: dict[str, str]) -> pd.DataFrame:
    """Read the shares by stage of all runs; those of rows without a policy from the first run that has them."""
    parts, seen = [], set[str]()
    for run, label in labels.items():
        file = Path(run) / paths.EVALUATION / paths.STAGES
        if not file.exists():
            continue  # diverged, and never evaluated
        frame = pd.read_parquet(file, **ONE_THREAD)
        frame = frame[~frame["row"].isin(seen)]
        seen |= set(frame["row"]) - {"policy"}
        parts.append(frame.assign(label=frame["row"].map({**REFERENCES, "policy": label})))
    columns = ["label", "row", "goal", "decision", "pseudotime", "share"]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)


def section(table: FateTable) -> Section:
    """Return what is printed of a table."""
    lines = tuple(Line(row.label, row.kind, tuple(_cell(row, m) for m in COLUMNS), row.mark) for row in table.rows)
    grids = [Grid("", tuple(info.title for info in FATES.values()), lines), *_by_stage(table)]
    exact = any(row.name == "optimum" for row in table.rows)
    notes = [
        "Means over pairs of source and target, all rows on the same draws; an episode that does not reach its target "
        "counts with all its decisions. Returns are without shaping.",
        "± half-width of the 95 % t interval over seeds.",
    ]
    notes += (
        [] if exact else ["No optimum: the network or task is too large for the exact solver (protocol.exact_genes)."]
    )
    return Section(table.title, table.slug, tuple(grids), tuple(_values(table)), notes=tuple(notes))


def _cell(row: Row, metric: str) -> Cell:
    interval, digits = row.cell(metric), FATES[metric].digits
    half = "" if interval.half is None or not row.agent else spell(interval.half, digits)
    return Cell(spell(interval.mean, digits), half)


def _by_stage(table: FateTable) -> Iterator[Grid]:
    """Yield for each goal the share of cells that passed it, at some times of the episode."""
    if len(table.goals) < 2:
        return
    times = sorted(table.stages["decision"].unique())
    chosen = sorted({times[round(k * (len(times) - 1) / SHOWN_TIMES)] for k in range(1, SHOWN_TIMES + 1)})
    for goal in table.goals:
        part = table.stages[table.stages["goal"] == goal]
        lines = []
        for row in table.rows:
            mine = part[part["label"] == row.label].groupby("decision")["share"]
            shares = {t: mean_interval(mine.get_group(t)) for t in chosen if t in mine.groups}
            cells = [_share(shares[t].mean, shares[t].half) if t in shares else Cell("") for t in chosen]
            lines.append(Line(row.label, row.kind, tuple(cells)))
        columns = tuple(f"pseudotime {t / times[-1]:.2f}" for t in chosen)
        yield Grid(f"Share of cells that passed: {goal}", columns, tuple(lines))


def _share(mean: float, half: float | None) -> Cell:
    return Cell(spell(mean, 3), "" if half is None else spell(half, 3))


def _values(table: FateTable) -> Iterator[tuple[object, ...]]:
    yield ("row", "kind", "seeds", "diverged", "metric", "mean", "low", "high")
    for row in table.rows:
        for metric in COLUMNS:
            cell = row.cell(metric)
            yield (row.label, row.kind, row.n, row.diverged, metric, cell.mean, cell.low, cell.high)


def draw(tables: Sequence[FateTable], folder: Path) -> dict[str, list[Picture]]:
    """Draw the figure of each table that has values by stage; returns the figures by slug."""
    some = [table for table in tables if len(table.stages)][:ALL_DRAWN]
    folder.mkdir(parents=True, exist_ok=True)
    return {t.slug: style.draw({"stages": partial(_figure, t)}, folder / t.slug) for t in some}


def _figure(table: FateTable) -> Drawn:
    """Draw the share of cells that passed each goal against pseudotime, a panel for each goal."""
    looks = style.styles([(row.agent, row.label) for row in table.agents])
    drawn = [
        (r.label, {"color": look["color"], "ls": look["dash"], "lw": 2.2})
        for r, look in zip(table.agents, looks, strict=True)
    ]
    dashes = iter(style.DASHES * 2)
    drawn += [(r.label, {"color": style.MUTED, "ls": next(dashes), "lw": 1.5}) for r in table.rows if not r.agent]
    handles = [layout.key(label, **look) for label, look in drawn]
    figure, tiles = layout.tiles(len(table.goals), 3, (4.2, 3.2), handles, left=0.75, share=True)
    for (ax, leftmost, lowest), goal in zip(tiles, table.goals, strict=True):
        part = table.stages[table.stages["goal"] == goal]
        for label, look in drawn:
            mean = part[part["label"] == label].groupby("pseudotime")["share"].mean()
            ax.plot(mean.index, mean.to_numpy(), drawstyle="steps-post", **look)
        ax.set_ylim(-0.03, 1.03)
        y, x = "share of cells" if leftmost else "", "pseudotime (share of the decisions)" if lowest else ""
        layout.name(ax, goal, x=x, y=y)
    return Drawn(figure, "Goals passed along pseudotime", "Share of episodes that passed each goal; mean over seeds.")
