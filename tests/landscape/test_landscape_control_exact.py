"""Value iteration over all states: a naive recursion over dictionaries, known values, and what policies are worth."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import combinations, product

import numpy as np
import pytest
import torch

from perturbrl.errors import UserError
from perturbrl.landscape.control.attractors import attractor_control
from perturbrl.landscape.control.exact import Solver, value_iteration
from perturbrl.landscape.control.policies import BASELINES, Greedy, Random, baseline, next_action
from perturbrl.landscape.control.policy import as_choice
from perturbrl.landscape.fate_task import Fate, FateTask
from perturbrl.landscape.network import Network
from perturbrl.landscape.networks import load
from perturbrl.landscape.state_graph import pack, unpack

SWITCHES = Network(
    {"a": "a and not b", "b": "b and not a", "c": "a or (c and not d)", "d": "not c or (b and d)"},
    frozenset(),
    {},
    {},
    {},
    0.5,
)
TASK = FateTask(
    SWITCHES,
    torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0]], dtype=torch.uint8),
    Fate.of(SWITCHES, "goal", ["a", "c"], ["d"]),
    between="updates",
    n_updates=3,
    max_perturb=2,
    n_decisions=3,
    reward=1.0,
    cost=0.05,
    discount=0.95,
)
STAGE = Fate.of(SWITCHES, "stage", ["a"], [])
LURE = Fate.of(SWITCHES, "lure", ["b", "d"], [])
VARIANTS = {
    "updates": {},
    "synchronous": {"update": "synchronous"},
    "attractor": {"between": "attractor", "n_updates": 300},
    "stopped early": {"between": "attractor", "n_updates": 6},
    "synchronous attractor": {"between": "attractor", "n_updates": 6, "update": "synchronous"},
    "held, to an attractor": {"duration": "held", "hold_updates": 1, "between": "attractor", "n_updates": 6},
    "set": {"moves": "set", "controllable": ("b", "c", "d")},
    "held flip": {"duration": "held", "hold_updates": 2},
    "held set": {"duration": "held", "hold_updates": 3, "moves": "set"},
    "permanent": {"duration": "permanent", "max_perturb": 1, "moves": "set"},
    "stages": {"stages": (STAGE,), "stage_reward": 0.3, "bonus": -0.1},
    "potential": {"shaping": "potential", "shaping_weight": 0.4, "stages": (STAGE,)},
    "tempting": {"shaping": "tempting", "shaping_weight": 0.2, "lure": LURE},
}


def naive_values(task: FateTask) -> np.ndarray:
    """Values [N] of the start of an episode: every set and every path of updates, by dictionaries."""
    genes, n = task.network.genes, len(task.network.genes)
    rules = [compile(rule, "rule", "eval") for rule in task.network.rules.values()]
    states = list(product((0, 1), repeat=n))
    moves = [genes.index(g) for g in task.controllable_genes]
    fate = {goal: {s: bool(goal.contains(torch.tensor(s))) for s in states} for goal in task.goals}

    @cache
    def rule(s: tuple[int, ...], g: int) -> int:
        return int(eval(rules[g], dict(zip(genes, map(bool, s), strict=True))))

    def updated(s: tuple[int, ...], g: int, held: frozenset[int]) -> tuple[int, ...]:
        return s if g in held else (*s[:g], rule(s, g), *s[g + 1 :])

    def attractor_states() -> set[tuple[int, ...]]:
        reach = {}
        for s in states:
            seen, stack = {s}, [s]
            while stack:
                here = stack.pop()
                for g in range(n):
                    if (there := updated(here, g, frozenset())) not in seen:
                        seen.add(there)
                        stack.append(there)
            reach[s] = seen
        return {s for s in states if all(s in reach[other] for other in reach[s])}

    stopping = task.between == "attractor" and task.duration != "permanent"
    stop = attractor_states() if stopping else set()

    @cache
    def evolve(s: tuple[int, ...], held: frozenset[int]) -> dict[tuple[int, ...], float]:
        share = {s: 1.0}
        for k in range(task.n_updates):
            fixed = held if task.duration == "permanent" or k < task.hold_updates else frozenset()
            jumps = stopping and k >= task.hold_updates
            after: dict[tuple[int, ...], float] = {}
            for here, p in share.items():
                if jumps and here in stop:
                    ways = [here]
                elif task.update == "synchronous":
                    ways = [tuple(here[g] if g in fixed else rule(here, g) for g in range(n))]
                else:
                    ways = [updated(here, g, fixed) for g in range(n)]
                    if jumps:  # updates that change nothing are left out
                        ways = [there for there in ways if there != here]
                for there in ways:
                    after[there] = after.get(there, 0) + p / len(ways)
            share = after
        return share

    @cache
    def value(s: tuple[int, ...], goal: int, t: int, held: frozenset[int]) -> float:
        if t == task.n_decisions:
            return 0.0
        best = -np.inf
        for size in range(task.max_perturb + 1):
            for chosen in combinations(moves, size):
                news = [[1 - s[g]] if task.moves == "flip" else [0, 1] for g in chosen]
                for new in product(*news):
                    put = dict(zip(chosen, new, strict=True))
                    start = tuple(put.get(g, s[g]) for g in range(n))
                    now = frozenset() if task.duration == "flip" else held | set(chosen)
                    total = -task.cost * size
                    for end, p in evolve(start, now).items():
                        total += p * follow(s, end, goal, t, now if task.duration == "permanent" else frozenset())
                    best = max(best, total)
        return best

    def follow(s: tuple[int, ...], end: tuple[int, ...], goal: int, t: int, held: frozenset[int]) -> float:
        reached, last = fate[task.goals[goal]][end], goal == len(task.goals) - 1
        ends = (reached and last) or t == task.n_decisions - 1
        total = task.bonus + reached * (task.reward if last else task.stage_reward)
        total += task.shaping != "none" and float(
            task.shaping_reward(
                torch.tensor([s]),
                torch.tensor([end]),
                torch.tensor([goal]),
                torch.tensor([goal + reached]),
                torch.tensor([ends]),
            )
        )
        return total if reached and last else total + task.discount * value(end, goal + reached, t + 1, held)

    result = np.empty(2**n)
    for s in states:
        result[int(pack(np.array(s)))] = value(s, 0, 0, frozenset())
    return result


@pytest.mark.parametrize("variant", VARIANTS)
def test_values_of_all_states_equal_a_naive_recursion(variant: str) -> None:
    task = replace(TASK, **VARIANTS[variant])
    np.testing.assert_allclose(value_iteration(task).first, naive_values(task), atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_optimum_has_no_regret_and_no_other_policy_has_less(variant: str) -> None:
    task = replace(TASK, **VARIANTS[variant])
    solver = Solver(task)
    optimum = solver.optimum()
    np.testing.assert_allclose(optimum.regret(solver.evaluate(optimum)), 0, atol=1e-9)
    regrets = {}
    for name in ("one_step_best", "greedy", "do_nothing"):
        regret = optimum.regret(solver.evaluate(baseline(name, task)))
        assert regret.min() > -1e-9
        regrets[name] = regret.max()
    assert regrets["do_nothing"] > 1e-3


def test_one_decision_makes_one_step_best_the_optimum() -> None:
    task = replace(TASK, n_decisions=1)
    solver = Solver(task)
    np.testing.assert_allclose(solver.evaluate(solver.one_step()).first, solver.optimum().first, atol=1e-9)


def test_the_discounted_task_is_the_limit_of_long_horizons() -> None:
    task = replace(TASK, discount=0.8)
    long = value_iteration(replace(task, n_decisions=90)).first
    np.testing.assert_allclose(value_iteration(task, stationary=True).first, long, atol=1e-7)


def test_expected_actions_equal_those_of_control_between_attractors() -> None:
    network = load("myeloid")
    control = attractor_control(network, 1)
    target = 3
    states = torch.from_numpy(unpack(np.array([int(part[0]) for part in control.attractors]), 11))
    patterns = Fate("target", states[[target]].to(torch.int8))
    task = FateTask(network, states, patterns, n_updates=3000, n_decisions=40, reward=0.0, bonus=-1.0)
    values = value_iteration(task).at(states)
    others = np.arange(6) != target
    np.testing.assert_allclose(-values[others], control.steps[others, target], atol=1e-3)


def simulate(task: FateTask, plan_of: object, starts: torch.Tensor, seed: int) -> np.ndarray:
    """Returns of episodes from ``starts`` [B, G], asynchronous updates one cell and one gene at a time."""
    rng = np.random.default_rng(seed)
    tables = [np.array(table) for table in task.network.truth_tables]
    regulators = [[task.network.genes.index(name) for name in names] for names in task.network.regulators]
    returns = np.zeros(len(starts))
    states = starts.clone()
    alive = np.ones(len(starts), bool)
    for t in range(task.n_decisions):
        plan = plan_of.plan(states, 0, t, 0)  # type: ignore[attr-defined]
        returns -= task.discount**t * alive * task.cost * (plan >= 0).sum(1).numpy()
        states = torch.where(plan >= 0, plan.to(torch.uint8), states)
        for b in np.flatnonzero(alive):
            for g in rng.integers(0, states.shape[1], task.n_updates):
                row = 0
                for r in regulators[g]:
                    row = 2 * row + int(states[b, r])
                states[b, g] = int(tables[g][row])
        reached = task.target.contains(states).numpy()
        returns += task.discount**t * alive * reached * task.reward
        alive &= ~reached
    return returns


@pytest.mark.parametrize("name", ["optimum", "random"])
def test_exact_values_equal_simulated_ones_within_their_error(name: str) -> None:
    solver = Solver(TASK)
    exact = solver.evaluate_random() if name == "random" else solver.optimum()
    start = TASK.start[:1]
    returns = simulate(TASK, baseline(name, TASK), start.repeat(600, 1), seed=0)
    error = returns.std(ddof=1) / len(returns) ** 0.5
    assert error < 0.03
    assert abs(returns.mean() - exact.at(start)[0]) < 4 * error


def test_random_set_moves_have_the_mean_of_their_draws() -> None:
    task = replace(TASK, moves="set", n_decisions=1, controllable=("a", "b", "c"))
    states = TASK.start[:1].repeat(20_000, 1)
    plan = Random(task, torch.Generator().manual_seed(1)).plan(states, 0, 0)
    sizes = (plan >= 0).sum(1)
    # The first choice is "done" once in 7, the second once in 5.
    assert abs(float((sizes == 0).float().mean()) - 1 / 7) < 0.012
    assert abs(float((sizes == 1).float().mean()) - 6 / 7 / 5) < 0.012
    solver = Solver(task)
    after = solver.expectation.free(solver._payoff(0, solver._zeros(), 0, True))
    choice = as_choice(plan, states)
    index = (pack(states.numpy()) & ~choice.genes) | choice.values
    drawn = after[index] - task.cost * sizes.numpy()
    assert abs(drawn.mean() - solver.evaluate_random().at(states[:1])[0]) < 4 * drawn.std() / len(drawn) ** 0.5


def test_greedy_goes_to_the_nearest_pattern_within_its_bound() -> None:
    patterns = torch.tensor([[1, 1, 1, -1], [0, 0, 0, 0]], dtype=torch.int8)
    task = replace(TASK, target=Fate("goal", patterns), max_perturb=1)
    plan = Greedy(task).plan(torch.tensor([[1, 0, 0, 1], [1, 1, 0, 0]], dtype=torch.uint8), 0, 0)
    assert plan.tolist() == [[-1, 1, -1, -1], [-1, -1, 1, -1]]


@pytest.mark.parametrize("moves", ["flip", "set"])
def test_a_plan_becomes_single_actions_and_done(moves: str) -> None:
    task = replace(TASK, moves=moves)
    plan = torch.tensor([[-1, 0, -1, 1], [-1, -1, -1, -1]], dtype=torch.int8)
    chosen = torch.zeros(2, 4, dtype=torch.bool)
    first = next_action(task, plan, chosen)
    assert first.tolist() == ([1, task.done] if moves == "flip" else [2, task.done])
    chosen[0, 1] = True
    assert next_action(task, plan, chosen).tolist() == ([3, task.done] if moves == "flip" else [7, task.done])
    chosen[0, 3] = True
    assert next_action(task, plan, chosen).tolist() == [task.done, task.done]


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_plans_within_the_bounds_of_the_task(name: str) -> None:
    task = replace(TASK, controllable=("a", "b", "d"))
    states = torch.from_numpy(unpack(np.arange(16), 4))
    plan = baseline(name, task, torch.Generator().manual_seed(3)).plan(states, 0, 0, 0)
    assert plan.shape == (16, 4) and plan.dtype == torch.int8
    assert int((plan >= 0).sum(1).max()) <= 2 and bool((plan[:, 2] == -1).all())


@pytest.mark.parametrize(
    ("changes", "stationary", "message"),
    [
        ({"dynamics": "hill"}, False, r"task.dynamics=hill: exact values need boolean"),
        ({"discount": 1.0}, True, r"stationary: needs task.discount below 1"),
    ],
)
def test_what_cannot_be_solved_is_one_line(changes: dict[str, object], stationary: bool, message: str) -> None:
    with pytest.raises(UserError, match=message):
        value_iteration(replace(TASK, **changes), stationary=stationary)


def test_too_many_sets_of_held_genes_are_one_line() -> None:
    genes = {f"g{i}": f"g{i}" for i in range(18)}
    network = Network(genes, frozenset(), {}, {}, {}, 0.5)
    start = torch.zeros(1, 18, dtype=torch.uint8)
    task = FateTask(network, start, Fate.of(network, "goal", ["g0"]), duration="permanent", max_perturb=3)
    with pytest.raises(UserError, match=r"sets of held genes x 262144 states are too many"):
        value_iteration(task)
