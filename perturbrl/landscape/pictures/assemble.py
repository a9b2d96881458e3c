"""The scene of a network: its attractors, its landscape, its wiring."""

from __future__ import annotations

from dataclasses import replace

from perturbrl.errors import UserError, choice, require
from perturbrl.landscape.network import Network
from perturbrl.landscape.pictures.boolean import boolean_journeys, boolean_table
from perturbrl.landscape.pictures.hill import hill_landscape
from perturbrl.landscape.pictures.scene import Facts, Scene, wiring
from perturbrl.landscape.pictures.views import Journeys, by_fate, views

DYNAMICS = ("hill", "boolean")
MOST_REGULATORS = 10
"""Of one gene, for the Hill equations: they sum over 2^R corners in each step."""

MOST_DRAWN = 10
"""Attractors drawn one by one; where cells come to more, those of one fate are drawn as one."""
MOST_LEVELS = 120_000_000
"""Levels of genes in cells at 100 times that are held in memory; networks of over 200 genes get fewer cells."""


def network_scene(network: Network, title: str, *, dynamics: str, noise: float, seed: int, n_cells: int) -> Scene:
    """Return what the pictures of a network show.

    Parameters
    ----------
    network, title
        ``title`` stands above the pictures.
    dynamics
        ``hill``: the stochastic Hill equations; ``boolean``: asynchronous updates of the rules.
    noise
        Amplitude of the Langevin noise of the Hill equations.
    seed, n_cells
        Of the simulated cells.

    Raises
    ------
    UserError
        ``dynamics`` is none of the two; or the network is too large for what was asked.
    """
    choice(dynamics, DYNAMICS, "--dynamics")
    require(len(network.genes) > 0, "network", "has no genes")
    n_cells = min(n_cells, max(50, MOST_LEVELS // (100 * len(network.genes))))
    if dynamics == "hill":
        journeys, tables = _hill(network, noise, seed, n_cells)
    else:
        found, names, attractors = boolean_table(network, seed)
        journeys = boolean_journeys(network, found, names, seed=seed, n_cells=n_cells)
        tables = (attractors,)
    table = tables[0]
    facts = {
        name: dict(zip(table.columns[1:], row[1:], strict=True))
        for name, row in zip(table.groups, table.rows, strict=True)
    }
    if len(set(journeys.ends.tolist())) > MOST_DRAWN:
        fate_of = dict(zip(journeys.names, journeys.fates, strict=True))
        journeys = by_fate(journeys)
        tables = tuple(replace(one, groups=tuple(fate_of.get(g, g) for g in one.groups)) for one in tables)
    shown = views(journeys, facts, seed)
    marked = {mark.name for mark in shown[0].marks}
    on = {
        name: tuple(gene for gene, level in zip(network.genes, levels, strict=True) if level > 0.5)
        for name, levels in zip(journeys.names, journeys.attractors, strict=True)
        if name in marked
    }
    groups = tuple(sorted(journeys.names, key=lambda name: name not in marked))  # colours first for what is drawn
    drawn = wiring(network, on)
    how = f"Hill equations with noise {noise:g}" if dynamics == "hill" else "asynchronous Boolean updates"
    begin = "from the progenitor" if journeys.start is not None else "from random states"
    lead = (
        f"{len(network.genes)} genes, {len(drawn.edges)} regulations; {n_cells:,} cells simulated {begin} by {how}, "
        f"seed {seed}."
    )
    return Scene(title, lead, groups, shown, tables, drawn)


def _hill(network: Network, noise: float, seed: int, n_cells: int) -> tuple[Journeys, tuple[Facts, ...]]:
    """Return the cells of the Hill equations, and the tables of their fixed points and of the Boolean attractors."""
    most = max(len(names) for names in network.regulators)
    require(
        most <= MOST_REGULATORS, "--dynamics hill",
        f"a gene of the network has {most} regulators, the Hill equations take {MOST_REGULATORS}; "
        "use --dynamics boolean",
    )  # fmt: skip
    journeys, table = hill_landscape(network, noise=noise, seed=seed, n_cells=n_cells)
    try:
        found, _, exact = boolean_table(network, seed)
    except UserError as error:
        return journeys, (_noted(table, f"The Boolean network has no table: {error}."),)
    if len(found) > len(table.rows):
        more = f"The Boolean network has {len(found)} attractors, the Hill equations {len(table.rows)} stable points"
        table = _noted(table, f"{more}: --dynamics boolean draws the Boolean network.")
    return journeys, (table, exact)


def held(network: Network, text: str) -> Network:
    """Return a network with genes held at 0 or 1: ``Gata1=0,Pu1=1``, or ``inputs=0`` for all inputs.

    Raises
    ------
    UserError
        The text has another form, or names a gene that is not in the network.
    """
    levels: dict[str, str] = {}
    for part in text.split(","):
        gene, _, level = (word.strip() for word in part.partition("="))
        require(level in ("0", "1"), "--hold", f"{part.strip()!r} is not GENE=0 or GENE=1")
        inputs = [name for name, names in zip(network.genes, network.regulators, strict=True) if names == (name,)]
        chosen = inputs if gene == "inputs" else [choice(gene, network.genes, "--hold")]
        levels.update(dict.fromkeys(chosen, level))
    rules = {gene: {"0": "False", "1": "True"}.get(levels.get(gene, ""), rule) for gene, rule in network.rules.items()}
    start = network.start
    if start:
        on = {gene for gene, level in levels.items() if level == "1"}
        start = frozenset((start - set(levels)) | on)
    return replace(network, rules=rules, start=start)


def _noted(table: Facts, note: str) -> Facts:
    return Facts(table.title, table.columns, table.rows, table.groups, (*table.notes, note))
