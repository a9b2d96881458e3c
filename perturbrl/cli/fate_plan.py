"""``perturbrl fate plan``: which perturbations take cells of A to B."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perturbrl.runner.guard import guarded

PLANS = Path("outputs/fate")


def command(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NETWORK] [KEY=VALUE]...",
            help="A shipped network or a file (.bnet, .sbml, .aeon, .csv of edges), myeloid by default; then keys of "
            "conf/fate/plan.yaml: duration=permanent runs=5000.",
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="A fate of the network, 'progenitor', 'attractor K', or a cell type.")
    ] = None,
    target: Annotated[str | None, typer.Option("--to", help="A fate, 'attractor K', or a cell type.")] = None,
    cells: Annotated[Path | None, typer.Option(help="Labelled cells (.h5ad, .h5mu, 10x): where --from is.")] = None,
    label: Annotated[str | None, typer.Option(help="The column of cell types; default: a common name.")] = None,
    alias: Annotated[Path | None, typer.Option(help="CSV of other names of genes: columns gene, symbols.")] = None,
    max_perturb: Annotated[int, typer.Option(help="The most genes of a set.")] = 1,
    genes: Annotated[str | None, typer.Option(help="Only these may be perturbed: Gata1,Pu1; default: all.")] = None,
    method: Annotated[str | None, typer.Option(help="exact, search, auto, or policy=RUN, a run of env=fate.")] = None,
    recipes: Annotated[bool, typer.Option("--recipes", help="The ranks of published reprogramming recipes.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of table and page; default outputs/fate/...")] = None,
) -> None:
    """Rank the sets of perturbations that take cells of A to B: probability, stability, and why."""
    with guarded():
        from rich.console import Console

        from perturbrl.report.fate_plan import console
        from perturbrl.report.text import slug
        from perturbrl.runner import fate_plan

        network, changes = fate_plan.network_and_changes(words or [])
        if recipes:
            from perturbrl.landscape.plan.recipes import ranks
            from perturbrl.landscape.plan.settings import settings
            from perturbrl.report.recipes import console as recipe_table

            Console().print(recipe_table(ranks(settings(changes), network)))
            return
        request = fate_plan.Request(
            **fate_plan.both_ends(source, target),
            network=network or fate_plan.DEFAULT_NETWORK,
            cells=cells,
            label=label,
            aliases=alias,
            max_perturb=max_perturb,
            genes=[gene.strip() for gene in genes.split(",") if gene.strip()] if genes else (),
            method=method,
            changes=changes,
        )
        answer = fate_plan.run(request)
        Console().print(console(answer))
        folder = out or PLANS / slug([answer.network, answer.source, "to", answer.target])
        for file in fate_plan.write(answer, request, folder):
            print(f"written: {file}")
