"""The ranked list of a plan: against brute force, its stability, its reasons, its files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from perturbrl.errors import UserError
from perturbrl.landscape.networks import load
from perturbrl.landscape.plan import edits, places, result, search
from perturbrl.landscape.plan.plan import make_plan
from perturbrl.landscape.plan.settings import PlanConfig, settings

from .plan_toy import GENES, TOY, brute_force, toy_question

START = [(1, 1, 0, 0), (0, 1, 0, 1), (0, 1, 0, 1)]


def quick(**changes: object) -> PlanConfig:
    return settings({"stability_runs": 0, "top": 100, **changes})


def best_by_brute_force(duration: str, cost: float, most: int) -> list[tuple[str, float]]:
    """Every set that beats all its subsets, best first."""
    value = {
        frozenset(one): brute_force(START, one, duration)["left"] - cost * len(one)
        for one in search.all_sets(GENES, most)
    }
    kept = [one for one in value if one and all(value[s] < value[one] - 1e-9 for s in value if s < one)]
    named = [(result.label(tuple(sorted(one, key=lambda c: GENES.index(c[0])))), value[one]) for one in kept]
    sizes = {name: name.count("+") for name, _ in named}
    return sorted(named, key=lambda pair: (-round(pair[1], 9), sizes[pair[0]], pair[0]))


@pytest.mark.parametrize(("duration", "cost"), [("flip", 0.02), ("held", 0.02), ("held", 0.2), ("permanent", 0.0)])
def test_the_ranking_equals_brute_force(duration: str, cost: float) -> None:
    plan = make_plan(toy_question(START), quick(duration=duration, cost=cost), 3)
    expected = best_by_brute_force(duration, cost, 3)
    assert [c.name for c in plan.candidates] == [name for name, _ in expected]
    assert [c.net for c in plan.candidates] == pytest.approx([value for _, value in expected], abs=1e-6)
    assert [c.rank for c in plan.candidates] == list(range(1, len(expected) + 1))
    assert plan.complete
    assert plan.n_sets == search.n_sets(4, 3) - 1
    assert len(expected) > 1


def test_search_finds_what_the_exact_method_finds() -> None:
    exact = make_plan(toy_question(START), quick(), 2)
    simulated = make_plan(toy_question(START), quick(method="search"), 2)
    assert simulated.method == "search"
    best = simulated.candidates[0]
    assert exact.candidates[0].probability in (pytest.approx(best.probability), 1.0)
    for candidate in simulated.candidates:
        probability = brute_force(START, candidate.perturbation, "held")["left"]
        assert candidate.low - 0.02 <= probability <= candidate.high + 0.02


def test_a_beam_as_wide_as_everything_misses_nothing() -> None:
    whole = make_plan(toy_question(START), quick(), 3)
    beam = make_plan(toy_question(START), quick(max_sets=1, beam=1000), 3)
    narrow = make_plan(toy_question(START), quick(max_sets=1, beam=1), 3)
    assert [c.name for c in beam.candidates] == [c.name for c in whole.candidates]
    assert not beam.complete
    assert narrow.n_sets < beam.n_sets


def test_cells_give_an_interval_and_states_of_the_network_none() -> None:
    few, none = (make_plan(toy_question(START, n_cells=n), quick(), 1).nothing for n in (40, None))
    assert few.probability == none.probability == none.low == none.high
    assert few.low < few.probability < few.high


def test_stability_counts_the_edges_that_a_set_needs() -> None:
    """Brute force over the toy with one rule changed."""
    plan = make_plan(toy_question(START), settings({"stability_runs": 50, "top": 3}), 2)
    known = edits.edges(TOY)
    for candidate in plan.candidates:
        works = {}
        for edge in known:
            rules = dict(edits.without(TOY, edge).rules)
            probability = brute_force(START, candidate.perturbation, "held", rules)["left"]
            works[edge.text] = probability >= 0.5 * candidate.probability - 1e-6
        assert candidate.stability is not None
        assert candidate.stability.needed == tuple(text for text, ok in works.items() if not ok)
        assert candidate.stability.deletions == pytest.approx(sum(works.values()) / len(works))
        assert set(candidate.stability.schemes) == {"synchronous", "noise 0.01", "noise 0.05"}


def test_edges_of_the_myeloid_network_have_the_signs_of_its_rules() -> None:
    texts = {edge.text for edge in edits.edges(load("myeloid"))}
    assert {"Gata1 -> Eklf", "Fli1 -| Eklf", "Pu1 -> Pu1", "Gata2 -| Pu1", "Cebpa -> Gfi1"} <= texts
    assert len(texts) == sum(len(names) for names in load("myeloid").regulators)


@pytest.mark.parametrize(
    ("target", "regulator", "without", "turned"),
    [
        ("Eklf", "Fli1", "Gata1", "Gata1 and (not (not Fli1))"),
        ("Fog1", "Gata1", "False", "not Gata1"),
        ("Pu1", "Gata2", "(Cebpa or Pu1) and not Gata1", "(Cebpa or Pu1) and not (Gata1 or not Gata2)"),
    ],
)
def test_an_edge_is_deleted_or_turned_in_its_rule_alone(target: str, regulator: str, without: str, turned: str) -> None:
    from perturbrl.landscape.network import truth_table

    network = load("myeloid")
    edge = next(e for e in edits.edges(network) if (e.target, e.regulator) == (target, regulator))
    for changed, expected in ((edits.without(network, edge), without), (edits.turned(network, edge), turned)):
        names = network.regulators[network.genes.index(target)]
        assert truth_table(changed.rules[target], names) == truth_table(expected, names)
        assert {g: r for g, r in changed.rules.items() if g != target} == {
            g: r for g, r in network.rules.items() if g != target
        }


def test_a_rule_that_loses_its_only_repressor_is_on() -> None:
    network = dataclasses.replace(TOY, rules={**TOY.rules, "B": "not A"})
    edge = next(e for e in edits.edges(network) if (e.target, e.regulator) == ("B", "A"))
    assert edits.without(network, edge).rules["B"] == "True"


def test_a_path_has_the_sign_of_the_perturbation() -> None:
    known = edits.edges(load("myeloid"))
    assert edits.path_text(edits.path(known, "Gata2", True, "Eklf", True) or ()) == "Gata2 -> Gata1 -> Eklf"
    assert edits.path_text(edits.path(known, "Gata1", True, "Pu1", False) or ()) == "Gata1 -| Pu1"
    assert edits.path_text(edits.path(known, "Pu1", True, "Fli1", True) or ()) == "Pu1 -| Gata1 -> Eklf -| Fli1"
    assert edits.path(known, "EgrNab", True, "Fog1", True) is None


def test_a_plan_says_why() -> None:
    q, notes = places.ask(load("myeloid"), "monocyte", "erythrocyte", settings())
    plan = make_plan(q, quick(), 1, notes=notes)
    best = plan.candidates[0]
    assert best.name in ("Gata1_oe", "Gata2_oe")
    assert best.probability == pytest.approx(0.5)
    assert best.outcomes["megakaryocyte"] == pytest.approx(0.5)
    assert best.off_target("monocyte", "erythrocyte") == pytest.approx(0.5)
    assert "Gata1 -> Eklf" in best.paths
    assert plan.markers == ("Gata1 on", "Eklf on", "Fli1 off", "Pu1 off")


def test_a_plan_in_vain_says_that_nothing_reaches_the_fate() -> None:
    plan = make_plan(toy_question([(0, 1, 0, 1)]), quick(), 1, genes=["D"])
    assert not plan.reached
    assert plan.candidates == ()


def test_the_csv_comes_back(tmp_path: Path) -> None:
    plan = make_plan(toy_question(START, n_cells=50), settings({"stability_runs": 20}), 2)
    table, whole = result.write(plan, tmp_path)
    assert result.read_csv(table) == (plan.nothing, *plan.candidates)
    assert len(json.loads(whole.read_text())["candidates"]) == len(plan.candidates) + 1


def test_a_plan_without_stability_comes_back(tmp_path: Path) -> None:
    plan = make_plan(toy_question(START), quick(), 1)
    table, _ = result.write(plan, tmp_path)
    assert result.read_csv(table) == (plan.nothing, *plan.candidates)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'rank'"),
        ("rank,perturbation,probability,low,high,cost\n1,Gata1,1,1,1,0\n", "row 2: 'Gata1' is not a set"),
        ("rank,perturbation,probability,low,high,cost\n1,A_oe,x,1,1,0\n", "row 2: probability is 'x'"),
    ],
)
def test_another_csv_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "plan.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        result.read_csv(tmp_path / "plan.csv")
    with pytest.raises(UserError, match="cannot be read"):
        result.read_csv(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("most", "genes", "message"),
    [
        (5, (), "--max-perturb: must be 1 to 4"),
        (0, (), "--max-perturb: must be 1 to 4"),
        (2, ("A",), "must be 1 to 1, the genes that may be perturbed, got 2"),
        (1, ("E",), "--genes: 'E' is not a gene of the network"),
    ],
)
def test_impossible_sizes_and_genes_are_refused(most: int, genes: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_plan(toy_question(START), quick(), most, genes)


CHANGES: dict[str, object] = {
    **{"method": "search", "duration": "flip", "exact_genes": 3, "max_sets": 5, "cost": 0.3, "top": 1},
    **{"noise": [0.5], "stability_runs": 7, "still_works": 1.0, "level": 0.5, "max_edges": 2},
}
OF_SEARCH: dict[str, object] = {"runs": 30, "screen_runs": 3, "sweeps": 1, "seed": 5}


@pytest.mark.parametrize("key", [*CHANGES, *OF_SEARCH])
def test_every_setting_changes_the_plan(key: str) -> None:
    base: dict[str, object] = {"stability_runs": 0, "runs": 200, "screen_runs": 20, "sweeps": 10, "top": 4}
    base |= {"method": "search"} if key in OF_SEARCH else {}
    base |= {"stability_runs": 5} if key in ("noise", "still_works", "max_edges") else {}
    changed = {**base, key: (CHANGES | OF_SEARCH)[key]}
    plans = [make_plan(toy_question(START, n_cells=40), settings(each), 3) for each in (base, changed)]
    assert plans[0] != plans[1]


def test_a_sample_of_edges_is_said() -> None:
    plan = make_plan(toy_question(START), settings({"stability_runs": 5, "top": 1, "max_edges": 2}), 1)
    n_edges = len(edits.edges(TOY))
    assert plan.notes[-1] == f"Stability: 2 of the {n_edges} edges, drawn at random, were deleted and turned."
    assert plan.candidates[0].stability is not None
    assert plan.candidates[0].stability.deletions in (0.0, 0.5, 1.0)


def test_a_narrow_beam_tries_fewer_sets() -> None:
    assert make_plan(toy_question(START), quick(max_sets=5, beam=2), 3).n_sets < search.n_sets(4, 3) - 1


def test_a_setting_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match=r"plan.metod: unknown key \(did you mean 'method'\?\)"):
        settings({"metod": "exact"})
    with pytest.raises(UserError, match="plan.method"):
        settings({"method": "guess"})
