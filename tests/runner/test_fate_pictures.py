"""Pictures of the landscape for the page of a plan."""

from __future__ import annotations

import pytest

from perturbrl.landscape import networks
from perturbrl.landscape.network import Network
from perturbrl.landscape.plan import places
from perturbrl.landscape.plan.plan import make_plan
from perturbrl.landscape.plan.result import Plan
from perturbrl.landscape.plan.settings import settings
from perturbrl.runner.fate_pictures import _in_colors_of, landscapes

CORTICAL = networks.load("cortical")


@pytest.fixture
def plan() -> Plan:
    config = settings({"stability_runs": 0})
    return make_plan(places.ask(CORTICAL, "anterior", "posterior", config)[0], config)


def test_groups_have_the_colours_of_the_outcomes(plan: Plan) -> None:
    assert [*plan.nothing.outcomes] == ["posterior", "anterior", "no named fate"]
    groups = _in_colors_of(plan, ["all off", "anterior, Emx2 on", "posterior", "anterior, Emx2 off"])
    assert groups == ("posterior", "anterior, Emx2 on", "no named fate", "all off", "anterior, Emx2 off")


def test_no_cells_no_pictures(plan: Plan) -> None:
    assert landscapes(CORTICAL, plan, 0, 0) == ()


def test_a_network_that_cannot_be_drawn_has_no_picture(plan: Plan) -> None:
    assert landscapes(Network({}, frozenset(), {}, {}, {}, 0.5), plan, 100, 0) == ()


@pytest.mark.slow
def test_the_first_picture_is_without_a_perturbation_and_the_second_while_the_best_acts(plan: Plan) -> None:
    first, second = landscapes(CORTICAL, plan, 300, 0)
    assert first.title == "Without a perturbation"
    gene, on = plan.candidates[0].perturbation[0]
    assert second.title == f"While it acts: {'over-express' if on else 'knock out'} {gene}"
    assert first.markup != second.markup
    assert landscapes(CORTICAL, plan, 300, 1)[0].markup != first.markup, "another seed draws other cells"
