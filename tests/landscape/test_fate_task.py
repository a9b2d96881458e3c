"""The task of steering a cell: sets of states, moves, rewards, and one line for what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from perturbrl.errors import UserError
from perturbrl.landscape.fate_task import Fate, FateTask
from perturbrl.landscape.network import Network
from perturbrl.landscape.networks import load

TOGGLE = Network({"A": "A and not B", "B": "B and not A"}, frozenset({"A"}), {}, {}, {}, 0.5)
INPUT = Network({"I": "I", "X": "I"}, frozenset(), {}, {}, {}, 0.5)


def toggle_task(**overrides: Any) -> FateTask:
    values = {"start": torch.tensor([[1, 0]], dtype=torch.uint8), "target": Fate.of(TOGGLE, "b", ["B"], ["A"])}
    return FateTask(**{"network": TOGGLE, **values, **overrides})


def test_a_fate_contains_the_states_that_agree_with_a_pattern() -> None:
    fate = Fate("either", torch.tensor([[1, 0, -1], [0, 1, 1]], dtype=torch.int8))
    states = torch.tensor([[1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 1], [1, 1, 1]], dtype=torch.uint8)
    assert fate.contains(states).tolist() == [True, True, False, True, False]
    assert fate.distance(states).tolist() == pytest.approx([0, 0, 1 / 3, 0, 1 / 3])


def test_levels_above_one_half_are_on() -> None:
    assert Fate.of(TOGGLE, "b", ["B"], ["A"]).contains(torch.tensor([[0.2, 0.9], [0.6, 0.9]])).tolist() == [True, False]


def test_a_fate_of_the_network_by_name() -> None:
    network = load("myeloid")
    erythrocyte = Fate.named(network, "erythrocyte").patterns[0]
    markers = {gene: int(value) for gene, value in zip(network.genes, erythrocyte, strict=True) if value >= 0}
    assert markers == {"Gata1": 1, "Eklf": 1, "Fli1": 0, "Pu1": 0}


@pytest.mark.parametrize(("moves", "n_actions"), [("flip", 3), ("set", 5)])
def test_the_last_action_is_done(moves: str, n_actions: int) -> None:
    task = toggle_task(moves=moves)
    assert (task.n_actions, task.done) == (n_actions, n_actions - 1)


def test_a_flip_inverts_and_a_set_gives_the_direction() -> None:
    state = torch.tensor([[1, 0], [1, 0]], dtype=torch.uint8)
    gene, value = toggle_task().perturbation(torch.tensor([0, 1]), state)
    assert (gene.tolist(), value.tolist()) == ([0, 1], [0, 1])
    gene, value = toggle_task(moves="set").perturbation(torch.tensor([1, 2]), state)
    assert (gene.tolist(), value.tolist()) == ([0, 1], [1, 0])


def test_what_a_decision_pays() -> None:
    task = toggle_task(bonus=21, reward=100, stage_reward=10, cost=1)
    paid = task.decision_reward(torch.tensor([2, 1, 1]), torch.tensor([True, False, True]), torch.tensor([1, 1, 0]) > 0)
    assert paid.tolist() == [119, 20, 30]


def test_potential_shaping_sums_to_a_constant_of_the_start() -> None:
    stage = Fate.of(TOGGLE, "none", (), ["A", "B"])
    task = toggle_task(stages=(stage,), shaping="potential", shaping_weight=2.0, discount=0.9)
    states = torch.tensor([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=torch.uint8)
    progress = torch.tensor([0, 0, 1, 2])
    total = sum(
        0.9**t
        * task.shaping_reward(
            states[t], states[t + 1], progress[t], progress[t + 1], torch.tensor(t == len(states) - 2)
        ).item()
        for t in range(len(states) - 1)
    )
    assert total == pytest.approx(-2.0 * task.potential(states[0], progress[0]).item())


def test_tempting_shaping_pays_for_being_near_the_lure() -> None:
    lure = Fate.of(TOGGLE, "a", ["A"], ["B"])
    task = toggle_task(shaping="tempting", shaping_weight=3.0, lure=lure)
    state, none = torch.tensor([1, 0], dtype=torch.uint8), torch.tensor(0)
    assert task.shaping_reward(state, state, none, none, torch.tensor(False)).item() == 3.0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"max_perturb": 3}, "task.max_perturb: must be 1 to 2, the genes that may be chosen, got 3"),
        ({"n_decisions": 0}, "task.n_decisions: must be at least 1, got 0; the horizon would be empty"),
        ({"moves": "drug"}, "task.moves: 'drug' is not known; choose flip or set"),
        ({"controllable": ("C",)}, "task.controllable: 'C' is not a gene of the network; genes are A or B"),
        ({"start": torch.zeros(0, 2)}, "task.start: shape is (0, 2); [states, 2] with at least one state is needed"),
        ({"duration": "held"}, "task.hold_updates: must be 1 to task.n_updates=1000 for duration=held, got 0"),
        (
            {"dynamics": "hill"},
            "task.between: hill has no attractor to stop at; choose between=updates"
            " (240 steps are a whole differentiation)",
        ),
        ({"target": Fate.of(load("myeloid"), "c", ["Pu1"])}, "fate 'c': patterns of 11 genes; the network has 2"),
    ],
)
def test_what_cannot_be_is_one_line(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        toggle_task(**overrides)
    assert str(raised.value) == message


def test_a_target_that_needs_an_input_which_may_not_be_chosen_is_unreachable() -> None:
    start, target = torch.zeros(1, 2, dtype=torch.uint8), Fate.of(INPUT, "on", ["I", "X"])
    FateTask(INPUT, start, target)
    with pytest.raises(UserError, match="fate 'on': cannot be reached: I stays off and may not be chosen"):
        FateTask(INPUT, start, target, controllable=("X",))


@pytest.mark.parametrize(
    ("on", "off", "message"),
    [
        (["C"], [], "fate 'x': 'C' is not a gene of the network; genes are A or B"),
        (["A"], ["A"], "fate 'x': is empty: A must be both on and off"),
        ([], [], "fate 'x': names no gene: every state belongs to it; give genes on or off"),
    ],
)
def test_a_fate_that_cannot_be_is_one_line(on: list[str], off: list[str], message: str) -> None:
    with pytest.raises(UserError) as raised:
        Fate.of(TOGGLE, "x", on, off)
    assert str(raised.value) == message
