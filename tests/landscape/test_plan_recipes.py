"""Published recipes and their ranks."""

from __future__ import annotations

import pytest

from perturbrl.errors import UserError
from perturbrl.landscape import networks
from perturbrl.landscape.plan import places
from perturbrl.landscape.plan.recipes import rank, ranks, recipes
from perturbrl.landscape.plan.result import Recipe, parse
from perturbrl.landscape.plan.settings import settings

from .plan_toy import TOY, brute_force

CORTICAL = [recipe for recipe in recipes() if recipe.network == "cortical"]


def test_every_recipe_is_of_a_shipped_network_and_has_a_source() -> None:
    assert len(recipes()) >= 8
    for recipe in recipes():
        network = networks.load(recipe.network)
        assert {gene for gene, _ in recipe.perturbation} <= set(network.genes)
        assert recipe.publication.rpartition(":")[2], recipe
        places.ask(network, recipe.source, recipe.target, settings())


def test_a_rank_counts_the_better_sets() -> None:
    start = [(0, 1, 0, 1)]
    recipe = Recipe("toy", "right", "left", parse("C_oe"), "", "")
    found = rank(recipe, TOY, settings({"duration": "flip", "cost": 0.0}))
    others = [(gene, on) for gene in TOY.genes for on in (False, True)]
    net = {one: brute_force(start, (one,), "flip")["left"] for one in others}
    net[("nothing", True)] = brute_force(start, (), "flip")["left"]
    mine = net[("C", True)]
    assert found.probability == pytest.approx(mine)
    assert found.rank == 1 + sum(value > mine + 1e-9 for value in net.values())
    assert found.ties == sum(abs(value - mine) <= 1e-9 for value in net.values()) - 1
    assert found.n_sets == len(others)


def test_recipes_of_one_network() -> None:
    found = ranks(settings(), "cortical")
    assert [one.recipe for one in found] == CORTICAL
    assert all(one.probability > one.nothing for one in found)
    with pytest.raises(UserError, match="--recipes: 'toggle' is not known.*; choose cortical, gonadal"):
        ranks(settings(), "toggle")
