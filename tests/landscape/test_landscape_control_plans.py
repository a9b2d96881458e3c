"""Plans, simulated in batches and searched: against enumeration, one plan at a time, and exact expectations."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import torch

from perturbrl.errors import UserError
from perturbrl.landscape.control.exact import Solver
from perturbrl.landscape.control.exhaustive import bound, exhaustive, first
from perturbrl.landscape.control.expectation import Expectation
from perturbrl.landscape.control.plans import Plan, all_plans, count_plans, n_perturbations, sentence
from perturbrl.landscape.control.policies import FollowPlan
from perturbrl.landscape.control.simulation import PlanSimulator
from perturbrl.landscape.fate_task import Fate, FateTask
from perturbrl.landscape.network import Network
from perturbrl.landscape.state_graph import flipped, pack

SWITCHES = Network(
    {"a": "a and not b", "b": "b and not a", "c": "a or (c and not d)", "d": "not c or (b and d)"},
    frozenset(),
    {},
    {},
    {},
    0.5,
)
CYCLE = Network({"a": "not b", "b": "a", "c": "c or (a and b)"}, frozenset(), {}, {}, {}, 0.5)
TASK = FateTask(
    SWITCHES,
    torch.tensor([[0, 1, 0, 1]], dtype=torch.uint8),
    Fate.of(SWITCHES, "goal", ["a", "c"], ["b", "d"]),
    between="updates",
    n_updates=6,
    max_perturb=2,
    n_decisions=2,
    cost=0.05,
)
HILL = replace(TASK, dynamics="hill", moves="set", noise=0.1, n_updates=40)


def exact_return(task: FateTask, plan: Plan) -> float:
    """The expected return of a plan of flips from the first start, by exact expectations backwards."""
    expectation = Expectation(task)
    reached = task.target.contains(torch.tensor([[s >> g & 1 for g in range(4)] for s in range(16)])).numpy()
    value = np.zeros(16)
    for chosen in reversed(plan):
        value = expectation.free(np.where(reached, task.reward, task.discount * value))
        for gene in chosen:
            value = flipped(value, gene)
        value = value - task.cost * len(chosen)
    return float(value[pack(task.start.numpy())[0]])


def test_plans_are_all_sets_in_all_orders_once() -> None:
    task = replace(TASK, moves="set", controllable=("a", "b", "d"))
    plans = list(all_plans(task, 3))
    assert len(plans) == len(set(plans)) == count_plans(task, 3)
    options = [tuple(c) for k in range(3) for c in combinations([0, 1, 2, 3, 6, 7], k) if len({a // 2 for a in c}) == k]
    assert set(plans) == {p for p in product(options, repeat=2) if n_perturbations(p) <= 3}


def test_the_best_of_all_plans_equals_brute_force_on_four_genes() -> None:
    values = {plan: exact_return(TASK, plan) for plan in all_plans(TASK, 2)}
    ranking = exhaustive(TASK, 2, n_cells=2000)
    assert ranking.n_possible == len(values) == len(ranking.plans)
    best = max(values.values())
    assert values[ranking.best] > best - 0.03
    assert abs(ranking.value - values[ranking.best]) < 4 * ranking.value_error + 1e-9
    # Every plan's mean is its exact value within its error; 4.5 standard errors for about 50 plans.
    exact = np.array([values[plan] for plan in ranking.plans])
    assert (np.abs(ranking.means - exact) <= 4.5 * np.maximum(ranking.errors, 0.5 / ranking.cells)).all()
    assert ranking.upper >= best


@pytest.mark.parametrize("task", [TASK, HILL, replace(HILL, duration="permanent"), replace(TASK, between="attractor")])
def test_a_plan_alone_has_the_returns_that_it_has_among_others(task: FateTask) -> None:
    plans = list(all_plans(task, 2))[::5]
    together = PlanSimulator(task).returns(plans, 12, seed=3)
    alone = np.concatenate([PlanSimulator(task).returns([plan], 12, seed=3) for plan in plans])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(PlanSimulator(task).returns(plans, 5, seed=3, first=7), together[:, 7:], atol=1e-6)


@pytest.mark.parametrize("n_updates", [4, 7, 60])
def test_simulated_stops_in_a_cycle_have_their_exact_expectation(n_updates: int) -> None:
    task = FateTask(
        CYCLE,
        torch.tensor([[1, 0, 0]], dtype=torch.uint8),
        Fate.of(CYCLE, "goal", ["a", "b"], []),
        n_updates=n_updates,
        n_decisions=1,
    )
    reached = task.target.contains(torch.tensor([[s >> g & 1 for g in range(3)] for s in range(8)])).double().numpy()
    exact = Expectation(task).free(reached)
    plans: list[Plan] = [((),), ((0,),), ((1,),)]
    returns = PlanSimulator(task).returns(plans, 4000, seed=0)
    states = [0b001, 0b000, 0b011]
    np.testing.assert_allclose(returns.mean(1), exact[states], atol=4 * 0.5 / 4000**0.5)


@pytest.mark.parametrize("moves", ["flip", "set"])
def test_a_plan_followed_as_a_policy_perturbs_what_it_says(moves: str) -> None:
    task = replace(TASK, moves=moves)
    rule = FollowPlan(task, ((0, 3), ()) if moves == "flip" else ((1, 6), ()))
    states = torch.tensor([[0, 1, 0, 1], [0, 0, 1, 1]], dtype=torch.uint8)
    assert rule.plan(states, 0, 0).tolist() == [[1, -1, -1, 0], [1, -1, -1, 0]]
    assert bool((rule.plan(states, 0, 1) == -1).all())


def test_the_value_of_a_policy_that_follows_a_plan_is_the_mean_return_of_the_plan() -> None:
    plan = ((1,), (0, 3))
    value = Solver(TASK).evaluate(FollowPlan(TASK, plan)).at(TASK.start)[0]
    assert value == pytest.approx(exact_return(TASK, plan), abs=1e-9)


def test_plans_of_a_network_too_big_for_a_state_graph_run_to_its_attractors() -> None:
    rules = {f"g{i}": f"g{i - 1}" if i else "g0" for i in range(30)}
    network = Network(rules, frozenset(), {}, {}, {}, 0.5)
    goal = Fate.of(network, "all on", ["g29"], [])
    task = FateTask(network, torch.zeros(1, 30, dtype=torch.uint8), goal, n_updates=4000, n_decisions=1)
    returns = PlanSimulator(task).returns([((0,),), ((5,),)], 8, seed=0)
    assert (returns[0] == 1).all() and (returns[1] == 0).all()


def test_hill_cells_are_steered_by_the_gene_that_the_target_needs() -> None:
    ranking = exhaustive(replace(HILL, n_updates=240, n_decisions=1, duration="permanent"), n_cells=64)
    genes = ranking.sentence
    assert "a on" in genes or "b off" in genes
    assert ranking.value > 0.8
    assert ranking.value <= ranking.upper
    nothing = ranking.plans.index(((),))
    assert ranking.means[nothing] < 0.1


def test_the_bound_holds_at_its_rate() -> None:
    rng = np.random.default_rng(0)
    samples = rng.choice([-1.0, 1.0], p=[0.3, 0.7], size=(4000, 64))
    missed = (samples.mean(1) - 0.4 > bound(samples, 2.0, 0.1)).mean()
    assert missed <= 0.1


def test_a_plan_reads_as_a_sentence() -> None:
    assert sentence(HILL, ((1, 6), ())) == "a on and d off"
    assert sentence(TASK, ((), (2,))) == "nothing, then c flipped"
    assert sentence(TASK, ((), ())) == "nothing"
    ranking = exhaustive(replace(TASK, n_decisions=1), 1, n_cells=8)
    assert len(first(ranking, 3)) == 3


def test_too_many_plans_are_one_line() -> None:
    task = replace(TASK, n_decisions=30, max_perturb=4)
    with pytest.raises(
        UserError, match=r"plans of up to 4 perturbations in 30 decisions are too many \(at most 200000\)"
    ):
        exhaustive(task)
