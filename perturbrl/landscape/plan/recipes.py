"""Published recipes of reprogramming, and the rank that each has among all sets of as many genes.

Letters: S sets, K outcomes.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from importlib.resources import files

import numpy as np

from perturbrl import status
from perturbrl.errors import choice
from perturbrl.landscape import networks
from perturbrl.landscape.network import Network
from perturbrl.landscape.plan import places, search
from perturbrl.landscape.plan.plan import evaluator, solves_exactly
from perturbrl.landscape.plan.result import Recipe, RecipeRank, label, parse
from perturbrl.landscape.plan.settings import PlanConfig

_EQUAL = 1e-9  # net probabilities that differ by less are one rank


def recipes() -> tuple[Recipe, ...]:
    """Return the shipped recipes; all of their genes are in shipped networks."""
    text = files(__package__).joinpath("recipes.csv").read_text(encoding="utf-8")
    return tuple(
        Recipe(row["network"], row["from"], row["to"], parse(row["perturbation"]), row["observed"], row["source"])
        for row in csv.DictReader(text.splitlines())
    )


def ranks(config: PlanConfig, network: str | None = None) -> tuple[RecipeRank, ...]:
    """Return the rank of each recipe, or of those on one ``network``.

    Raises
    ------
    UserError
        There is no recipe on this network.
    """
    every = recipes()
    if network is not None:
        choice(network, sorted({recipe.network for recipe in every}), "--recipes")
    chosen = [recipe for recipe in every if network in (None, recipe.network)]
    with status.step(f"ranks of {len(chosen)} recipes"):
        return tuple(rank(recipe, networks.load(recipe.network), config) for recipe in chosen)


def rank(recipe: Recipe, network: Network, config: PlanConfig) -> RecipeRank:
    """Return the rank of a recipe among all sets of at most as many genes as it has, by probability minus cost."""
    question, _ = places.ask(network, recipe.source, recipe.target, config)
    exact = solves_exactly(config, network)
    sets = list(search.all_sets(network.genes, len(recipe.perturbation)))
    probability = evaluator(question, config, exact, config.runs).shares(sets)[:, 0]
    net = probability - config.cost * np.array([len(one) for one in sets])
    place = _place(sets, recipe)
    best = int(net.argmax())
    return RecipeRank(
        recipe,
        float(probability[place]),
        float(probability[0]),
        1 + int((net > net[place] + _EQUAL).sum()),
        int((np.abs(net - net[place]) <= _EQUAL).sum()) - 1,
        len(sets) - 1,
        label(sets[best]),
        float(probability[best]),
    )


def _place(sets: Sequence[tuple[tuple[str, bool], ...]], recipe: Recipe) -> int:
    wanted = frozenset(recipe.perturbation)
    return next(s for s, one in enumerate(sets) if frozenset(one) == wanted)
