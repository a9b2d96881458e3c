"""Continuous time, against one cell at a time and against the law of a single switch."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import poisson

from perturbrl.errors import UserError
from perturbrl.landscape.boolean import BooleanDynamics, draw_keys
from perturbrl.landscape.gillespie import CLOCK
from perturbrl.landscape.network import Network
from perturbrl.landscape.networks import load

from .one_cell import OneCell, word

NET = load("myeloid")


def draw(net: Network, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(2, (n, len(net.genes)), generator=generator, dtype=torch.uint8), draw_keys(n, generator)


def one_path(one: OneCell, key: int, times: list[float], up: list[float], down: list[float]) -> list[list[int]]:
    seen: list[list[int]] = []
    now, event = 0.0, 0
    while True:
        image = one.image()
        rates = [
            0.0 if i == s else (down[g] if s else up[g]) for g, (i, s) in enumerate(zip(image, one.state, strict=True))
        ]
        u, v = ((word(key, 2 * event + k) + 0.5) / 2**32 for k in (0, 1))
        after = now - math.log(u) / sum(rates) if sum(rates) else math.inf
        while len(seen) < len(times) and times[len(seen)] < after:
            seen.append([*one.state])
        if len(seen) == len(times):
            return seen
        gene = next(g for g in range(len(rates)) if sum(rates[: g + 1]) > v * sum(rates))
        one.state[gene] ^= 1
        now, event = after, event + 1


@pytest.mark.parametrize("is_held", [False, True])
def test_a_batch_equals_one_cell_at_a_time(is_held: bool) -> None:
    state, key = draw(NET, 30)
    times = [0.0, 0.5, 0.5, 1.0, 4.0, 20.0]
    up, down = ([1.0 + g % 3 for g in range(11)], [0.5 * (g % 4) for g in range(11)])
    held = torch.full((30, 11), torch.nan)
    held[:10, 3], held[5:, 7] = 0.0, 1.0
    seen = BooleanDynamics(NET).continuous(
        state,
        torch.tensor(times),
        key,
        up=torch.tensor(up),
        down=torch.tensor(down),
        held=held if is_held else None,
    )
    for b in range(30):
        one = OneCell(NET, state[b].tolist(), held[b].tolist() if is_held else None)
        assert seen[:, b].tolist() == one_path(one, int(key[b]), times, up, down)


@pytest.mark.parametrize("always_packed", [0, 14])
@pytest.mark.parametrize("is_held", [False, True])
def test_at_equal_rates_a_batch_equals_one_cell_at_a_time(
    is_held: bool, always_packed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perturbrl.landscape.boolean.ALWAYS_PACKED", always_packed)
    state, key = draw(NET, 30)
    times = [0.0, 0.5, 0.5, 1.0, 21.0]
    held = torch.full((30, 11), torch.nan)
    held[:10, 3], held[5:, 7] = 0.0, 1.0
    seen = BooleanDynamics(NET).continuous(state, torch.tensor(times), key, held=held if is_held else None)
    for b in range(30):
        one = OneCell(NET, state[b].tolist(), held[b].tolist() if is_held else None)
        done = 0
        for j, length in enumerate([0.0, 0.5, 0.0, 0.5, 20.0]):
            u = (word(int(key[b]) ^ CLOCK, j) + 0.5) / 2**32
            for _ in range(int(poisson.ppf(u, 11 * length))):
                one.update(int(key[b]), done)
                done += 1
            assert seen[j, b].tolist() == one.state


def test_both_ways_have_one_law() -> None:
    state = torch.tensor([[int(gene in NET.start) for gene in NET.genes]], dtype=torch.uint8).repeat(20_000, 1)
    key = draw_keys(40_000, torch.Generator().manual_seed(6))
    times, ones = torch.tensor([0.7, 2.0, 6.0]), torch.ones(11)
    dynamics = BooleanDynamics(NET)
    first = dynamics.continuous(state, times, key[:20_000]).double().mean(1)
    second = dynamics.continuous(state, times, key[20_000:], up=ones, down=ones).double().mean(1)
    error = ((first * (1 - first) + second * (1 - second)) / 20_000).sqrt()
    assert ((first - second).abs() <= 5 * error).all()


def test_a_switch_has_turned_on_with_the_exponential_law() -> None:
    net = Network({"a": "True"}, frozenset(), {}, {}, {}, 0.5)
    n, times = 20_000, torch.tensor([0.1, 0.5, 2.0])
    key = draw_keys(n, torch.Generator().manual_seed(0))
    seen = BooleanDynamics(net).continuous(torch.zeros(n, 1, dtype=torch.uint8), times, key, up=torch.tensor([1.5]))
    expected = 1 - (-1.5 * times).exp()
    error = (expected * (1 - expected) / n).sqrt()
    assert ((seen[:, :, 0].double().mean(1) - expected).abs() < 5 * error).all()


def test_bad_input() -> None:
    state, key = draw(NET, 3)
    dynamics = BooleanDynamics(NET)
    for times in ([], [1.0, 0.5], [-1.0], [math.nan]):
        with pytest.raises(UserError, match=r"times: increasing numbers from 0 on are needed"):
            dynamics.continuous(state, torch.tensor(times), key)
    for rates in ([1.0], [-1.0] * 11, [math.inf] * 11):
        with pytest.raises(UserError, match=r"up: 11 rates of at least 0 are needed, one for each gene"):
            dynamics.continuous(state, torch.tensor([1.0]), key, up=torch.tensor(rates))
