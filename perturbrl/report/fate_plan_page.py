"""One self-contained page of a plan: the answer, the sets with intervals, stability and reasons, the landscape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from perturbrl.landscape.plan.result import ARROW, BAR, Candidate, Plan
from perturbrl.report import fate_plan as words
from perturbrl.report import style
from perturbrl.report.html import DARK, render


@dataclass(frozen=True)
class Landscape:
    """A picture of a landscape for the page: markup that needs nothing from outside, its title and caption."""

    title: str
    markup: str
    caption: str


@dataclass(frozen=True)
class Share:
    """A piece of a bar: where it begins and how wide it is, in per cent; ``color`` is its place in the palette."""

    name: str
    begin: float
    width: float
    color: int
    text: str


def page(plan: Plan, landscapes: Sequence[Landscape] = ()) -> str:
    """Return the HTML of a plan; it needs nothing from outside and has a light and a dark face."""
    everyone = (*plan.candidates, plan.nothing)
    names, colors = outcome_names(plan), outcome_colors(plan)
    return render(
        "fate_plan.html",
        plan=plan,
        lead=words.lead(plan),
        answer=words.answer(plan),
        best=words.in_words(plan.candidates[0].perturbation) if plan.candidates else "",
        sentences=[arrows(sentence.partition(". ")[2]) for sentence in words.sentences(plan)],
        arrows=arrows,
        rows=[
            (candidate, line, bar(candidate, colors))
            for candidate, line in zip(everyone, words.lines(plan), strict=True)
        ],
        headings=[heading.replace("\n", " ") for heading in vars(words.HEADINGS).values()],
        legend=words.legend(plan),
        names=[(colors[name], name) for name in names],
        in_words=words.in_words,
        percent=words.percent,
        light=style.PALETTE,
        dark=DARK,
        landscapes=[(one.title, Markup(one.markup), one.caption) for one in landscapes],
    )


def arrows(text: str) -> str:
    """Return ``A -> B -| C`` with the signs that a page can show."""
    return text.replace(f" {ARROW} ", " \N{RIGHTWARDS ARROW} ").replace(f" {BAR} ", " \N{LEFT TACK} ")


def outcome_names(plan: Plan) -> list[str]:
    """Return the outcomes that any set leads to, the target first."""
    shown = [c.outcomes for c in (plan.nothing, *plan.candidates)]
    return [name for name in plan.nothing.outcomes if name == plan.target or any(o.get(name, 0) > 0.005 for o in shown)]


def outcome_colors(plan: Plan) -> dict[str, int]:
    """Return the place in the palette of each outcome, the same in bars and pictures."""
    return {name: k for k, name in enumerate(plan.nothing.outcomes)}


def bar(candidate: Candidate, colors: Mapping[str, int]) -> list[Share]:
    """Return the outcomes of a set as pieces of one bar, from 0 to 100 per cent."""
    pieces, begin = [], 0.0
    for name, color in colors.items():
        width = 100 * candidate.outcomes.get(name, 0.0)
        if width > 0:
            pieces.append(Share(name, begin, width, color, f"{name} {words.percent(width / 100)}"))
        begin += width
    return pieces
