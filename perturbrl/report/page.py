"""One self-contained page: what was run, the tables with their floors, and whether the proposed method won."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from string import Template

from perturbrl.report import style
from perturbrl.report.collect import Collection
from perturbrl.report.counterfactual import gather
from perturbrl.report.counterfactual import render as of_held_out
from perturbrl.report.counterfactual.grids import Grid
from perturbrl.report.names import COLUMNS, DASH, HEADINGS, METRICS, PROPOSED
from perturbrl.report.render import Cell, Line, lines
from perturbrl.report.style import Picture
from perturbrl.report.tables import NOTE, Table
from perturbrl.report.verdict import Verdict, released, true_task

# the palette on a dark ground: the same hues, lighter
_DARK = ("#56a8e0", "#f0b33a", "#2fc495", "#e39cc2", "#f0824a", "#8fd0f5")
_SHOWN_INCOMPLETE = 50
OVERVIEW = "overview"  # the key of the figure over all tables


def page(
    collection: Collection,
    tables: Sequence[Table],
    held_out: Sequence[of_held_out.Sheet],
    over: Grid | None,
    pictures: Mapping[str, Sequence[Picture]],
) -> str:
    """Return the HTML of a report, which needs nothing from outside.

    ``over`` sums up ``held_out``; ``pictures`` maps the slug of a table to its figures.
    """
    template = Template(files("perturbrl.report").joinpath("page.html").read_text(encoding="utf-8"))
    sections = [f'<section id="all">{of_held_out.grid_html(over)}</section>'] if over else []
    sections += [of_held_out.section(t, "".join(map(_figure, pictures.get(t.table.slug, ())))) for t in held_out]
    sections.append(_overview(pictures))
    sections += [_section(table, pictures.get(table.slug, ()), bool(pictures)) for table in tables]
    return template.substitute(
        light=_variables(style.PALETTE),
        dark=_variables(_DARK),
        lead=_lead(collection),
        answers=f'<div class="card">{_answers(tables)}<p class="note">{_e(NOTE)}</p></div>' if tables else "",
        contents=_contents([*(t.table for t in held_out), *tables]),
        sections="\n".join(sections),
        incomplete=_incomplete(collection),
    )


def _e(text: object) -> str:
    return html.escape(str(text), quote=True)


def _variables(colors: Sequence[str]) -> str:
    return " ".join(f"--c{k}: {color};" for k, color in enumerate(colors))


def _lead(collection: Collection) -> str:
    runs = collection.runs
    diverged = int((runs["status"] == "diverged").sum())
    seeds = runs["seed"].nunique()
    parts = [
        f"{_count(len(runs), 'run')}: {_join(runs['agent'])}",
        f"on {_join(runs['data'])} of {_join(runs['source'])}",
        _count(seeds, "seed"),
        f"schedule {_join(runs['schedule'])}",
        f"{int(runs['steps'].sum()):,} environment steps in all",
    ]
    if diverged:
        parts.append(f"{diverged} diverged")
    if collection.incomplete:
        parts.append(f"{len(collection.incomplete)} unfinished and left out")
    return _e("; ".join(parts) + ".")


def _join(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(str(v) for v in values if str(v))) or "not said"


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _answers(tables: Sequence[Table]) -> str:
    rows = []
    for table in tables:
        within = table.within
        near = f"{within.by_005} / {within.by_010} of {within.cells}" if within.cells else DASH
        rows.append(
            f'<tr><th scope="row"><a href="#{_e(table.slug)}">{_e(table.title)}</a></th>'
            f"{_verdict(released(table))}{_verdict(true_task(table))}"
            f'<td class="near">{_e(near)}</td></tr>'
        )
    return (
        '<div class="scroll"><table class="answers"><thead><tr><th></th>'
        f"<th>Did {_e(PROPOSED)} win under the released metric?</th><th>Did it win at the true task?</th>"
        "<th>Published cells within<br>0.05 / 0.10</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _verdict(verdict: Verdict) -> str:
    return f'<td><b class="v {verdict.answer.lower()}">{_e(verdict.answer)}</b> {_e(verdict.why)}</td>'


def _contents(tables: Sequence[Table | gather.Table]) -> str:
    if len(tables) < 2:
        return ""
    links = "".join(f'<li><a href="#{_e(t.slug)}">{_e(t.title)}</a></li>' for t in tables)
    return f'<nav aria-label="Tables"><ul>{links}</ul></nav>'


def _overview(pictures: Mapping[str, Sequence[Picture]]) -> str:
    drawn = "".join(_figure(picture) for picture in pictures.get(OVERVIEW, ()))
    return f'<section class="plain" id="overview">{drawn}</section>' if drawn else ""


def _section(table: Table, pictures: Sequence[Picture], figures_wanted: bool) -> str:
    foot = "".join(f"<li>{_e(text)}</li>" for text in table.footer if text != NOTE)
    figures = "".join(_figure(picture) for picture in pictures)
    if figures_wanted and not pictures:
        folder = os.path.commonpath([*table.runs["run"]])
        figures = f'<p class="foot">No figures of its own among so many tables: perturbrl report {_e(folder)}</p>'
    return (
        f'<section id="{_e(table.slug)}"><h2>{_e(table.title)}</h2>{_grid(table)}'
        f'<p class="within">{_e(table.within)}</p><ul class="foot">{foot}</ul>{figures}</section>'
    )


def _grid(table: Table) -> str:
    head = "".join(f'<th scope="col">{_e(HEADINGS[m])}</th>' for m in COLUMNS)
    body = "".join(_line(line) for line in lines(table))
    return (
        '<div class="scroll"><table class="grid">'
        '<colgroup><col><col span="10"><col span="2" class="task"></colgroup>'
        f'<thead><tr class="over"><th></th><th colspan="{len(METRICS)}">released metrics</th>'
        f'<th colspan="2" class="task">what they leave out</th></tr>'
        f"<tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _line(line: Line) -> str:
    mark = f'<span class="mark">{_e(line.mark)}</span>' if line.mark else ""
    cells = "".join(_td(cell, line.kind, m) for m, cell in line.cells.items())
    return f'<tr class="{line.kind}"><th scope="row">{_e(line.label)}{mark}</th>{cells}</tr>'


def _td(cell: Cell, kind: str, metric: str) -> str:
    half = f'<span class="half">±{_e(cell.half)}</span>' if cell.half else ""
    shade = ' class="task"' if metric not in METRICS else ""
    return f"<td{shade}>{_e(cell.value)}{half}</td>"


def _figure(picture: Picture) -> str:
    label = _e(f"{picture.title}. {picture.caption}")
    svg = picture.inline.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    return (
        f"<figure><h3>{_e(picture.title)}</h3>{svg}<figcaption>{_e(picture.caption)} "
        f"<span>Files: {_e(picture.png.name)}, {_e(picture.svg.name)}</span></figcaption></figure>"
    )


def _incomplete(collection: Collection) -> str:
    if not collection.incomplete:
        return ""
    shown = collection.incomplete[:_SHOWN_INCOMPLETE]
    rows = "".join(f"<tr><td>{_e(item.run)}</td><td>{_e(item.reason)}</td></tr>" for item in shown)
    more = len(collection.incomplete) - len(shown)
    rest = f"<p>and {more:,} more.</p>" if more else ""
    return (
        '<section id="incomplete"><h2>Runs left out</h2><div class="scroll"><table class="left"><thead><tr><th>Run</th>'
        f"<th>Why</th></tr></thead><tbody>{rows}</tbody></table></div>{rest}</section>"
    )
