"""The batched simulator against one cell at a time in plain Python, on the same draws."""

from __future__ import annotations

import pytest
import torch

from perturbrl.errors import UserError
from perturbrl.landscape.boolean import BooleanDynamics, draw_keys, pack, unpack
from perturbrl.landscape.network import Network
from perturbrl.landscape.networks import load

from .one_cell import OneCell

NET = load("myeloid")
LOOP = Network({"a": "not c", "b": "a", "c": "b"}, frozenset(), {}, {}, {}, 0.5)
CONSTANTS = Network({"a": "True", "b": "a and not c", "c": "False", "d": "d"}, frozenset(), {}, {}, {}, 0.5)
NETWORKS = (NET, LOOP, CONSTANTS)


def cells(net: Network, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = torch.randint(2, (n, len(net.genes)), generator=generator).to(torch.uint8)
    return state, draw_keys(n, generator)


def clamps(net: Network, n: int) -> torch.Tensor:
    drawn = torch.randint(4, (n, len(net.genes)), generator=torch.Generator().manual_seed(5))
    return torch.tensor([torch.nan, torch.nan, 0.0, 1.5])[drawn]


@pytest.mark.parametrize("always_packed", [0, 14])
@pytest.mark.parametrize("update", ["asynchronous", "synchronous"])
@pytest.mark.parametrize("net", NETWORKS)
@pytest.mark.parametrize("is_held", [False, True])
def test_a_batch_equals_one_cell_at_a_time(
    net: Network, update: str, is_held: bool, always_packed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perturbrl.landscape.boolean.ALWAYS_PACKED", always_packed)
    state, key = cells(net, 12)
    held = clamps(net, 12) if is_held else None
    after = BooleanDynamics(net).run(state, 40, key, update=update, held=held)
    for b in range(len(state)):
        one = OneCell(net, state[b].tolist(), None if held is None else held[b].tolist())
        for t in range(40):
            one.update_all() if update == "synchronous" else one.update(int(key[b]), t)
        assert after[b].tolist() == one.state


def test_the_form_that_pays_later_changes_nothing() -> None:
    net = load("gonadal")
    state, key = cells(net, 2000)
    dynamics = BooleanDynamics(net)
    few = dynamics.run(state[:5], 30, key[:5])
    assert "_packed" not in vars(dynamics)
    many = dynamics.run(state[:5].repeat(70_000, 1), 30, key[:5].repeat(70_000))
    assert "_packed" in vars(dynamics)
    assert torch.equal(many, few.repeat(70_000, 1))


def test_image_is_every_rule_and_holds_what_is_held() -> None:
    state, _ = cells(NET, 6)
    image = BooleanDynamics(NET).image(state.reshape(2, 3, 11), clamps(NET, 6).reshape(2, 3, 11))
    for b in range(6):
        one = OneCell(NET, state[b].tolist(), None)
        expected = [v if h != h else int(h > 0) for v, h in zip(one.image(), clamps(NET, 6)[b].tolist(), strict=True)]
        assert image.reshape(6, 11)[b].tolist() == expected


def test_a_cell_alone_takes_the_path_it_takes_among_others() -> None:
    state, key = cells(NET, 9000)
    dynamics = BooleanDynamics(NET)
    together = dynamics.run(state, 30, key)
    some = torch.tensor([0, 17, 8191, 8192, 8999])
    assert torch.equal(dynamics.run(state[some], 30, key[some]), together[some])


def test_a_run_in_two_parts_is_the_run() -> None:
    state, key = cells(NET, 50)
    dynamics = BooleanDynamics(NET)
    half = dynamics.run(state, 13, key)
    assert torch.equal(dynamics.run(half, 27, key, first=13), dynamics.run(state, 40, key))


def test_what_is_given_is_not_changed() -> None:
    state, key = cells(NET, 50)
    before = state.clone()
    assert not torch.equal(BooleanDynamics(NET).run(state, 40, key), before)
    assert torch.equal(state, before)


def test_numbers_of_states() -> None:
    every = torch.arange(2**11)
    assert torch.equal(pack(unpack(every, 11)), every)
    assert unpack(torch.tensor(4), 3).tolist() == [1, 0, 0]


def test_a_rule_of_very_many_regulators() -> None:
    names = [f"g{k}" for k in range(60)]
    rules = {**{name: name for name in names}, "any": " or ".join(names), "all": " and ".join(names)}
    net = Network(rules, frozenset(), {}, {}, {}, 0.5)
    state = torch.zeros(3, 62, dtype=torch.uint8)
    state[1, 7] = 1
    state[2, :60] = 1
    assert BooleanDynamics(net).image(state)[:, 60:].tolist() == [[0, 0], [1, 0], [1, 1]]
    after = BooleanDynamics(net).run(state, 2000, draw_keys(3, torch.Generator().manual_seed(0)))
    assert after[:, 60:].tolist() == [[0, 0], [1, 0], [1, 1]]


def test_bad_input() -> None:
    state, key = cells(NET, 4)
    with pytest.raises(UserError, match=r"update: 'random' is not known; choose asynchronous or synchronous"):
        BooleanDynamics(NET).run(state, 1, key, update="random")
    with pytest.raises(UserError, match=r"state: shape is \(4, 3\); \[4 keys, 11 genes\] is needed"):
        BooleanDynamics(NET).run(state[:, :3], 1, key)
    with pytest.raises(UserError, match=r"gene a: rule 'a and gata1': 'gata1' is not a gene.*did you mean 'Gata1'"):
        BooleanDynamics(Network({"Gata1": "a", "a": "a and gata1"}, frozenset(), {}, {}, {}, 0.5))
