"""A plan in words and as a table: which perturbations, how likely, how sure, what else, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from perturbrl.landscape.plan.result import NOTHING, Candidate, Perturbation, Plan
from perturbrl.report.text import DASH, count, spell

SENTENCES = 3  # sets that are put into words; the table has all
_VERBS = {True: "over-express", False: "knock out"}
_DURATIONS = {
    "flip": "set once",
    "held": "held until the network has settled, then let go",
    "permanent": "held for good",
}
_MOST_NAMED = 3


@dataclass(frozen=True)
class Line:
    """One row of the table as text."""

    rank: str
    name: str
    probability: str
    interval: str
    cost: str
    elsewhere: str
    noise: str
    deletions: str
    flips: str


HEADINGS = Line("#", "perturb", "reaches", "interval", "cost", "else", "noise", "edge\nlost", "sign\nturned")


def lead(plan: Plan) -> str:
    """Return what was asked, in a sentence."""
    sets = count(plan.n_sets, "set")
    tried = f"all {sets} tried" if plan.complete else f"{sets}, not all, tried"
    tried = f"{sets} proposed" if plan.method.startswith("policy") else tried
    start = f"{plan.n_cells:,} cells" if plan.n_cells is not None else count(plan.n_starts, "start state")
    return (
        f"From {plan.source} to {plan.target} on the network {plan.network} ({plan.n_genes} genes): at most "
        f"{count(plan.max_perturb, 'gene')}, {_DURATIONS[plan.duration]}; {start}; method {plan.method}, {tried}."
    )


def answer(plan: Plan) -> str:
    """Return what doing nothing gives, or that nothing helps, in a sentence."""
    share = plan.nothing.probability
    alone = f"Without a perturbation {_cells(share)} {_end(share)} as {plan.target}"
    if plan.candidates:
        return f"{alone}."
    sets = count(plan.max_perturb, "gene")
    if share > 0:
        return f"{alone}, and no set of at most {sets} does better by more than it costs."
    proof = "" if plan.complete and plan.method == "exact" else " that was tried"
    return (
        f"No set of at most {sets}{proof} takes {plan.source} to {plan.target} by this network: it cannot be reached "
        "so. Allow more genes, or ask whether the network lacks an edge."
    )


def sentences(plan: Plan) -> list[str]:
    """Return the best sets in words, one text for each."""
    return [_sentence(plan, candidate) for candidate in plan.candidates[:SENTENCES]]


def _sentence(plan: Plan, c: Candidate) -> str:
    parts = [f"{c.rank}. {in_words(c.perturbation)}: {_cells(c.probability)} {_end(c.probability)} as {plan.target}"]
    parts[0] += f" ({plan.level:.0%} interval {interval(c, 1)})." if c.low < c.high else "."
    others = [(name, share) for name, share in c.outcomes.items() if name != plan.target and share >= 0.005]
    if others:
        listed = ", ".join(f"{name} {percent(share)}" for name, share in sorted(others, key=lambda pair: -pair[1]))
        parts.append(f"Others: {listed}.")
    if c.paths:
        parts.append(f"Through {_listed(c.paths, '; ', 'path')}.")
    stability = c.stability
    if stability is not None:
        if stability.schemes:
            name, least = min(stability.schemes.items(), key=lambda pair: pair[1])
            parts.append(f"Least under other updates and noise: {percent(least)} ({name}).")
        if stability.deletions is not None and stability.flips is not None:
            edits = f"{percent(stability.deletions)} of the single edges deleted and {percent(stability.flips)} of them"
            parts.append(f"It still works with {edits} turned in sign.")
        if stability.needed:
            parts.append(f"It needs {_listed(stability.needed, ', ', 'edge')}.")
    return " ".join(parts)


def in_words(perturbation: Perturbation) -> str:
    """Return a set as ``Over-express Gata1 and Eklf, knock out Pu1``."""
    groups = []
    for on in (True, False):
        genes = [gene for gene, value in perturbation if value == on]
        if genes:
            groups.append(f"{_VERBS[on]} {_and(genes)}")
    words = ", ".join(groups) or "do nothing"
    return words[0].upper() + words[1:]


def lines(plan: Plan) -> list[Line]:
    """Return the rows of the table, doing nothing last."""
    return [_line(plan, candidate) for candidate in (*plan.candidates, plan.nothing)]


def _line(plan: Plan, c: Candidate) -> Line:
    s = c.stability
    return Line(
        str(c.rank) if c.perturbation else "",
        c.name if c.perturbation else f"({NOTHING})",
        percent(c.probability),
        interval(c) if c.low < c.high else "exact",
        spell(c.cost, 2),
        percent(c.off_target(plan.source, plan.target)),
        percent(min(s.schemes.values())) if s and s.schemes else DASH,
        percent(s.deletions) if s and s.deletions is not None else DASH,
        percent(s.flips) if s and s.flips is not None else DASH,
    )


def console(plan: Plan) -> RenderableType:
    """Return the plan for a terminal: question, answer, sentences, table, and what was read or left out."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for k, heading in enumerate(vars(HEADINGS).values()):
        text = k == 1
        table.add_column(heading, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for line, candidate in zip(lines(plan), (*plan.candidates, plan.nothing), strict=True):
        style = "bold" if candidate.rank == 1 else "" if candidate.perturbation else "cyan"
        values = [value.replace("+", "\n+") if k == 1 else value for k, value in enumerate(vars(line).values())]
        table.add_row(*values, style=style)
    parts: list[RenderableType] = [Text(lead(plan), style="bold"), Text(answer(plan)), Text("")]
    for sentence in sentences(plan):
        parts += [Text(sentence), Text("")]
    parts += [table, *(Text(note, style="dim") for note in (*legend(plan), *plan.notes))]
    return Group(*parts)


def legend(plan: Plan) -> tuple[str, ...]:
    """Return what the columns mean."""
    marks = f" ({', '.join(plan.markers)})" if plan.markers else ""
    return (
        f"reaches: probability of ending in {plan.target}{marks}; else: of ending neither there nor in {plan.source}; "
        "noise: the least probability under synchronous updates and random flips; edge lost, sign turned: share of the "
        "network's edges without which, or with whose sign turned, the set still works (at least half as probable).",
    )


def percent(share: float) -> str:
    """Return a share as whole per cent; what is not quite 0 or 1 does not become it."""
    if 0 < share < 0.005:
        return "<1%"
    if 0.995 <= share < 1 - 1e-9:
        return ">99%"
    return f"{share:.0%}"


def interval(c: Candidate, digits: int = 0) -> str:
    """Return both ends of an interval in per cent."""
    return f"{100 * c.low:.{digits}f}{DASH}{100 * c.high:.{digits}f}%"


def _cells(share: float) -> str:
    return "no cell" if share <= 0 else "all cells" if share >= 1 - 1e-9 else f"{percent(share)} of the cells"


def _end(share: float) -> str:
    return "ends" if share <= 0 else "end"


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _listed(texts: Sequence[str], separator: str, what: str) -> str:
    more = len(texts) - _MOST_NAMED
    rest = f" and {count(more, f'more {what}')}" if more > 0 else ""
    return separator.join(sorted(texts, key=len)[:_MOST_NAMED] if more > 0 else texts) + rest
