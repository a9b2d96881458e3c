"""Published recipes and their ranks as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from perturbrl.landscape.plan.result import RecipeRank, label
from perturbrl.report.fate_plan import percent

LEGEND = (
    "rank: among all sets of at most as many genes, by probability minus cost; equal: others of the same rank; alone: "
    "without a perturbation."
)


def console(ranks: Sequence[RecipeRank]) -> RenderableType:
    """Return the ranks for a terminal, with the sources below."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("recipe", no_wrap=True)
    table.add_column("from \N{RIGHTWARDS ARROW} to", min_width=18)
    for heading in ("alone", "with it", "rank", "equal", "of"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("best", overflow="fold")
    for number, one in enumerate(ranks, start=1):
        table.add_row(str(number), *row(one), style="bold" if one.rank == 1 else "")
    sources = [
        Text(f"{number}  {one.recipe.observed} ({one.recipe.publication}); network {one.recipe.network}", style="dim")
        for number, one in enumerate(ranks, start=1)
    ]
    return Group(table, Text(LEGEND, style="dim"), Text(""), *sources)


def row(one: RecipeRank) -> tuple[str, ...]:
    """Return the cells of a row: recipe, from and to, without it, with it, rank, equals, number of sets, best set."""
    recipe = one.recipe
    return (
        label(recipe.perturbation),
        f"{recipe.source} \N{RIGHTWARDS ARROW} {recipe.target}",
        percent(one.nothing),
        percent(one.probability),
        str(one.rank),
        str(one.ties),
        str(one.n_sets),
        "" if one.rank == 1 else f"{one.best} {percent(one.best_probability)}",
    )


def markdown(ranks: Sequence[RecipeRank]) -> str:
    """Return the ranks as a Markdown table with sources."""
    head = (
        "network",
        "recipe",
        "from \N{RIGHTWARDS ARROW} to",
        "alone",
        "with it",
        "rank",
        "equal",
        "of",
        "best",
        "source",
    )
    lines = [f"| {' | '.join(head)} |", "|--|--|--|--:|--:|--:|--:|--:|--|--|"]
    lines += [f"| {' | '.join((one.recipe.network, *row(one), one.recipe.publication))} |" for one in ranks]
    return "\n".join(lines) + "\n"
