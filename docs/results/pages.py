"""The generated parts of README.md, docs/results.md and docs/results_counterfactual.md, from the files of docs/results.

A part stands between ``<!-- results NAME -->`` and ``<!-- /results -->``. What is not between such lines is written by
hand. ``updated`` gives a page back as it is, unless a value has changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import yaml
from results.collect import ABOUT, HERE, TRIED, TRIED_METRICS, read_csv

from perturbrl.files import read_json
from perturbrl.metrics_info import (
    BEST_ACTIONS,
    CONTROL,
    HEADLINE,
    HELD_OUT,
    PAPER,
    PAPER_COLUMNS,
    PRIMARY,
    MetricInfo,
    row_info,
)
from perturbrl.report.text import DASH, MINUS, spell

ROOT = HERE.parents[1]
PAGES = (ROOT / "README.md", HERE.parent / "results.md", HERE.parent / "results_counterfactual.md")
PART = re.compile(r"^<!-- results ([\w/ -]+) -->\n.*?^<!-- /results -->$", re.MULTILINE | re.DOTALL)
LIMITS = (0.05, 0.10)
AGENTS = {"ppo": "PPO", "trpo": "TRPO", "trpo_ppo": "TRPO→PPO"}
README_ROWS = {"do_nothing": "doing nothing", "random_uniform": f"random actions, U({MINUS}1, 1)", **AGENTS}
README_COLUMNS = ("accuracy", "f1", "auprc", "mse", "r2", "pearson", "mean_abs_action", "return_gain")
FLOOR = "no_change"  # of every table on held-out perturbations, beside the best simple baseline
LIMITING = {
    "replicate of half the cells": "technical_duplicate",
    "best allowed actions": BEST_ACTIONS,
}  # see test cells
START = "bilinear"  # env.residual of the experiment
ARROWS = {"up": " ↑", "down": " ↓", "neither": ""}
Values = Mapping[tuple[str, str], Mapping[str, str]]
"""(row, metric) -> a line of a CSV file."""


def updated(page: str) -> str:
    """Return a page with every generated part made again."""
    return PART.sub(lambda match: f"<!-- results {match[1]} -->\n{part(match[1])}\n<!-- /results -->", page)


def names(page: str) -> list[str]:
    """Return the names of the generated parts of a page."""
    return [match[1] for match in PART.finditer(page)]


def part(name: str) -> str:
    """Return one generated part, without the lines around it.

    Raises
    ------
    KeyError
        There is no part of that name.
    """
    kind, _, study = name.partition("/")
    if name in SUMMARIES:
        return "\n".join(SUMMARIES[name]())
    return "\n".join({"paper": paper_study, "held_out": held_out_study}[kind](study))


def within(values: Values) -> tuple[int, tuple[int, ...]]:
    """Return the number of published values that a table has beside ours, and how many lie within each limit."""
    gaps = [abs(float(v["difference"])) for (_, m), v in values.items() if m in PAPER and v.get("difference")]
    return len(gaps), tuple(sum(gap <= limit + 1e-12 for gap in gaps) for limit in LIMITS)


def readme_table() -> Iterator[str]:
    """Yield Table I of the landscape with fewer columns, and its stamp."""
    about, tables = study_about("paper/landscape"), study_tables("paper", "landscape")
    table = next(iter(tables.values()))
    infos = [PAPER_COLUMNS[m] for m in README_COLUMNS]
    titles = [info.title.replace("|", "\\|") for info in infos[:-1]] + ["return, relative to doing nothing"]
    yield _pipes([f"{about['seeds']} seed{'s' * (about['seeds'] > 1)}, 30 test cells", *titles])
    yield _rule(len(titles))
    for row, title in README_ROWS.items():
        cells = [_cell(table.get((row, info.name)), info, signed=info.name == "return_gain") for info in infos]
        label = title if row not in AGENTS else f"{title}, {_steps(table, row)} steps"
        bold = row == "do_nothing"
        yield _pipes([f"**{label}**", *(f"**{c}**" if c else "" for c in cells)] if bold else [label, *cells])
        if row in AGENTS:
            shown = [_plain(table.get((row, info.name)), "published", info) for info in infos]
            yield _pipes(["*published*", *(f"*{value}*" if value else "" for value in shown)])
    yield ""
    yield f"*{_stamp(about)}*"


def readme_counts() -> Iterator[str]:
    """Yield how many published values ours lies close to, in each of the three tables of the landscape."""
    tables = study_tables("paper", "landscape")
    counts = [within(table) for table in tables.values()]
    numbers = [match[1] if (match := re.match(r"Table (\w+)", title)) else title for title in tables]
    cells = _and(sorted({str(n) for n, _ in counts}))
    near, wide = (_and([str(found[k]) for _, found in counts]) for k in range(len(LIMITS)))
    yield (
        f"- Ours is within {LIMITS[0]:.2f} of the published value for {near} of {cells} values in Tables "
        f"{_and(numbers)}, and within {LIMITS[1]:.2f} for {wide}."
    )


def paper_study(name: str) -> Iterator[str]:
    """Yield the tables of one data set under the paper's protocol."""
    about = study_about(f"paper/{name}")
    yield f"`{about['command']}` — {_stamp(about)} All values: [results/paper/{name}.csv](results/paper/{name}.csv)."
    infos = list(PAPER_COLUMNS.values())
    notes = {table["title"]: table["notes"] for table in about["tables"]}
    for title, table in study_tables("paper", name).items():
        yield from ("", f"### {title}", "")
        yield _pipes(["", *(info.title.replace("|", "\\|") for info in infos)])
        yield _rule(len(infos))
        for row, kind in _rows(table):
            label = f"**{row}**" if kind == "agent" else f"{row} (floor)" if row == "do_nothing" else row
            cells = [_cell(table.get((row, i.name)), i, signed=i.name == "return_gain") for i in infos]
            yield _pipes([label, *cells])
            for key in ("published", "difference"):
                shown = [_plain(table.get((row, i.name)), key, i, signed=key == "difference") for i in infos]
                if any(shown):
                    yield _pipes([f"*{key}*", *shown])
        compared, found = within(table)
        yield ""
        if compared:
            near, wide = found
            yield f"- Of {compared} published values, ours lies within 0.05 of {near} and within 0.10 of {wide}."
        yield from (f"- {note}" for note in notes.get(title, ()))


def overview() -> Iterator[str]:
    """Yield one line for each data set and split of held-out perturbations."""
    yield _pipes(
        ["data and split", "metric", "best simple baseline", "its score", *AGENTS.values(), *LIMITING, "claim"]
    )
    yield "|:--|:--|:--|" + "--:|" * (1 + len(AGENTS) + len(LIMITING)) + ":--|"
    for name, study in studies()["held_out"].items():
        if not (HERE / "held_out" / f"{name}.csv").exists():
            continue
        table = next(iter(study_tables("held_out", name).values()))
        about = study_about(f"held_out/{name}")["tables"][0]
        info, best = _primary(table, about)
        words = sorted({claim["word"] for claim in about["claims"]}) if best else ["none possible"]
        scores = [_cell(table.get((row, info.name)), info) for row in (best, *AGENTS, *LIMITING.values())]
        baseline = row_info(best).title if best else "none: no ranks"
        yield _pipes([study["title"], info.title, baseline, *(score or DASH for score in scores), ", ".join(words)])


def held_out_study(name: str) -> Iterator[str]:
    """Yield the headline of one data set and split: floors, the best simple baseline, limits, the agents."""
    about = study_about(f"held_out/{name}")
    yield from (f"    {about['command']}", "")
    files = f"All rows and metrics: [results/held_out/{name}.csv](results/held_out/{name}.csv)."
    for said, table in zip(about["tables"], study_tables("held_out", name).values(), strict=True):
        yield f"- {said['summary']} {_stamp(about)} {files}"
        if said["claims"]:
            yield f"- {' '.join(claim['text'] for claim in said['claims'])}"
        infos = _columns(said)
        yield from ("", _pipes(["", *(info.title + ARROWS[info.better] for info in infos)]), _rule(len(infos)))
        _, best = _primary(table, said)
        shown = [row for row in (FLOOR, best, *LIMITING.values()) if any(key[0] == row for key in table)]
        for row in dict.fromkeys(shown):
            yield _pipes([row_info(row).title, *(_cell(table.get((row, i.name)), i) or DASH for i in infos)])
        for row, kind in _rows(table):
            if kind == "agent":
                yield _pipes([f"**{row}**", *(_cell(table.get((row, i.name)), i) or DASH for i in infos)])


def _columns(about: Mapping[str, Any]) -> list[MetricInfo]:
    """Return the headline metrics that the report chose for a table."""
    return [HELD_OUT[name] for name in about.get("columns") or HEADLINE if name in HELD_OUT]


def _primary(table: Values, about: Mapping[str, Any]) -> tuple[MetricInfo, str]:
    """Return the metric that ranks the rows of a table, and the simple baseline that is best by it (empty: none)."""
    columns = _columns(about)
    info = HELD_OUT[PRIMARY] if HELD_OUT[PRIMARY] in columns else columns[0]
    return info, _best(table, info)


def returns() -> Iterator[str]:
    """Yield what is earned on training and on test conditions: by what episodes begin with, by agents, at best."""
    rows = {START: f"the prediction they begin with ({START})", **AGENTS, BEST_ACTIONS: "best allowed actions"}
    yield _pipes(["return on training / on test conditions", *rows.values()])
    yield _rule(len(rows))
    for name, study in studies()["held_out"].items():
        if not (HERE / "held_out" / f"{name}.csv").exists():
            continue
        table = next(iter(study_tables("held_out", name).values()))
        earned = [_earned(table, row) for row in rows]
        if any(earned):
            yield _pipes([study["title"], *(both or DASH for both in earned)])


def _earned(table: Values, row: str) -> str:
    both = [table.get((row, metric)) for metric in ("train_return_normalised", "return_normalised")]
    spelled = [spell(float(line["mean"]), 2) if line and line["mean"] else "" for line in both]
    return " / ".join(number or DASH for number in spelled) if any(spelled) else ""


def tried() -> Iterator[str]:
    """Yield the variants of the held-out task and their scores on validation conditions."""
    study = studies()["tried"]
    titles = [(HELD_OUT.get(metric) or CONTROL[metric]).title for metric in TRIED_METRICS]
    columns = [f"{title}, {one['title']}" for one in study["sets"].values() for title in titles]
    yield _pipes(["", *columns])
    yield _rule(len(columns))
    found = {(row["set"], row["variant"]): row for row in read_csv(TRIED)}
    starts = {f"start_{name}": f"*{title}*" for name, title in study["start"].items()}
    for variant, title in (starts | {name: about["title"] for name, about in study["variants"].items()}).items():
        rows = [found.get((name, variant)) for name in study["sets"]]
        if any(rows):
            yield _pipes(
                [title, *(spell(float(r[m])) if r and r.get(m) else DASH for r in rows for m in TRIED_METRICS)]
            )


SUMMARIES = {
    "readme/table": readme_table,
    "readme/counts": readme_counts,
    "held_out/overview": overview,
    "held_out/returns": returns,
    "held_out/tried": tried,
}


@cache
def studies() -> Any:
    """Return the list of studies."""
    return yaml.safe_load((HERE / "studies.yaml").read_text(encoding="utf-8"))


def study_about(name: str) -> dict[str, Any]:
    """Return command, stamp and sentences of a study, as ``collect`` wrote them."""
    about: dict[str, Any] = read_json(ABOUT)[name]
    return about


def study_tables(kind: str, name: str) -> dict[str, Values]:
    """Return the raw values of a study by the title of their table."""
    tables: dict[str, dict[tuple[str, str], Mapping[str, str]]] = {}
    for line in read_csv(HERE / kind / f"{name}.csv"):
        if line.get("statistic", "raw") == "raw":
            tables.setdefault(line["table"], {})[line["row"], line["metric"]] = line
    return tables


def _rows(table: Values) -> list[tuple[str, str]]:
    """Return (row, kind) in the order of the file."""
    return list(dict.fromkeys((row, line["kind"]) for (row, _), line in table.items()))


def _best(table: Values, info: MetricInfo) -> str:
    """Return the simple baseline with the best mean; empty where none has one."""
    simple = {row: line for (row, metric), line in table.items() if metric == info.name and line["kind"] == "simple"}
    scored = [row for row, line in simple.items() if line["mean"]]
    return max(scored, key=lambda row: info.sign * float(simple[row]["mean"]), default="")


def _cell(line: Mapping[str, str] | None, info: MetricInfo, *, signed: bool = False) -> str:
    """Spell a mean and half of its interval; a floor that no seed changes has no interval."""
    if line is None or not line["mean"]:
        return ""
    value = spell(float(line["mean"]), info.digits, signed=signed, group=",")
    if not line["low"]:
        return value
    half = (float(line["high"]) - float(line["low"])) / 2
    still = not half or (line["kind"] != "agent" and not spell(half, info.digits).strip("0."))
    return value if still else f"{value} ± {spell(half, info.digits, group=',')}"


def _plain(line: Mapping[str, str] | None, column: str, info: MetricInfo, *, signed: bool = False) -> str:
    value = (line or {}).get(column)
    return spell(float(value), info.digits, signed=signed) if value else ""


def _steps(table: Values, row: str) -> str:
    steps = table.get((row, "steps"))
    return f"{float(steps['mean']):,.0f}".replace(",", " ") if steps else DASH


def _stamp(about: Mapping[str, Any]) -> str:
    seeds = about["seeds"]
    interval = "mean ± half-width of the 95 % t interval" if seeds > 1 else "no interval"
    return (
        f"{seeds} seed{'s' * (seeds > 1)}, {interval}; commit {about['commit']}, {about['processor']}, {about['date']}."
    )


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "|:--|" + "--:|" * columns
