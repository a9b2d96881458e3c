"""Continuous time, against one cell at a time and against the law of a single switch."""

from __future__ import annotations

import math

import pytest
import torch

from perturbrl.errors import UserError
from perturbrl.landscape.boolean import BooleanDynamics, draw_keys
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
