"""What cells do between two decisions: their paths are their keys' alone, end in attractors, and keep held genes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from perturbrl.landscape.attractors import attractors
from perturbrl.landscape.evolution import HillEvolution, evolution, normal
from perturbrl.landscape.fate_task import Fate, FateTask
from perturbrl.landscape.network import Network
from perturbrl.landscape.networks import load
from perturbrl.landscape.perturb import clamp
from perturbrl.landscape.simulate import N_STEPS, simulate
from perturbrl.mixing import draw_keys

TOGGLE = Network({"A": "A and not B", "B": "B and not A"}, frozenset({"A"}), {}, {}, {}, 0.5)
STOPS = Fate("attractors", torch.tensor([[0, 0], [0, 1], [1, 0]], dtype=torch.int8))


def task(network: Network = TOGGLE, **overrides: Any) -> FateTask:
    n = len(network.genes)
    start = torch.tensor([[gene in network.start for gene in network.genes]], dtype=torch.uint8)
    target = Fate("all on", torch.ones(1, n, dtype=torch.int8))
    return FateTask(**{"network": network, "start": start, "target": target, **overrides})


def run(made: FateTask, cells: torch.Tensor, chosen: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    free = torch.full_like(chosen, torch.nan)
    return evolution(made, lambda: STOPS).run(cells, chosen, free, key)


def keys(n: int, seed: int = 0) -> torch.Tensor:
    return draw_keys(n, torch.Generator().manual_seed(seed))


def test_a_flip_of_the_toggle_ends_in_either_attractor_evenly() -> None:
    n = 4000
    cells = torch.tensor([[1, 0]], dtype=torch.uint8).expand(n, -1)
    chosen = torch.tensor([[torch.nan, 1.0]]).expand(n, -1)
    ends = run(task(), cells, chosen, keys(n))
    assert bool(STOPS.contains(ends).all())
    # From (1, 1) the gene that is updated first goes off.
    assert abs(ends[:, 0].double().mean().item() - 0.5) < 4 * 0.5 / np.sqrt(n)
    assert cells.sum() == n, "the cells were changed in place"


def test_leaving_out_updates_that_change_nothing_leaves_the_fates_as_they_are() -> None:
    network, n = load("myeloid"), 3000
    stops = Fate("attractors", torch.cat([a.states for a in attractors(network)]).to(torch.int8))
    free = torch.full((n, 11), torch.nan)
    cells = task(network).start.expand(n, -1)
    ends = []
    for seed, between in enumerate(("attractor", "updates")):
        made = task(network, between=between, n_updates=400)
        ends.append(evolution(made, lambda: stops).run(cells, free, free, keys(n, seed)))
        assert bool(stops.contains(ends[-1]).all())
    shares = [(end[:, None] == stops.patterns).all(-1).double().mean(0) for end in ends]
    error = ((shares[0] * (1 - shares[0]) + shares[1] * (1 - shares[1])) / n).sqrt()
    assert bool(((shares[0] - shares[1]).abs() <= 4 * error).all()) and int((shares[0] > 0).sum()) > 2


@pytest.mark.parametrize("dynamics", ["boolean", "hill"])
def test_the_path_of_a_cell_is_its_keys_alone(dynamics: str) -> None:
    network = load("myeloid")
    made = task(network, dynamics=dynamics, between="updates", n_updates=9, noise=0.2)
    steps = evolution(made)
    cells = steps.start(torch.randint(0, 2, (6, 11), generator=torch.Generator().manual_seed(1)))
    free = torch.full((6, 11), torch.nan)
    together = steps.run(cells, free, free, keys(6))
    alone = torch.cat([steps.run(cells[i : i + 1], free[:1], free[:1], keys(6)[i : i + 1]) for i in range(6)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize(("duration", "held_at_the_end"), [("flip", False), ("held", False), ("permanent", True)])
def test_how_long_a_gene_is_held(duration: str, held_at_the_end: bool) -> None:
    # B follows A at each synchronous update, and A goes off by itself.
    network = Network({"A": "False", "B": "A"}, frozenset(), {}, {}, {}, 0.5)
    options = {"update": "synchronous", "between": "updates", "n_updates": 4, "duration": duration}
    made = task(network, hold_updates=3 if duration == "held" else 0, **options)
    off, chosen = torch.zeros(1, 2, dtype=torch.uint8), torch.tensor([[1.0, torch.nan]])
    ends = run(made, off, chosen, keys(1))[0].tolist()
    assert ends == {"flip": [0, 0], "held": [0, 1], "permanent": [1, 1]}[duration]
    assert bool(ends[0]) == held_at_the_end


def test_what_was_held_before_stays_held() -> None:
    network = Network({"A": "False", "B": "False"}, frozenset(), {}, {}, {}, 0.5)
    made = task(network, between="updates", n_updates=50, duration="permanent")
    off, free = torch.zeros(1, 2, dtype=torch.uint8), torch.full((1, 2), torch.nan)
    earlier, now = torch.tensor([[1.0, torch.nan]]), torch.tensor([[torch.nan, 1.0]])
    assert evolution(made).run(off, now, earlier, keys(1)).tolist() == [[1, 1]]
    assert evolution(made).run(off, free, earlier, keys(1)).tolist() == [[1, 0]]


@pytest.mark.parametrize("perturbation", ["control", "Gata1_ko", "Pu1_oe"])
def test_without_noise_hill_is_the_simulator(perturbation: str) -> None:
    network = load("myeloid")
    held = clamp(network, perturbation, 1.0)[None]
    made = task(network, dynamics="hill", between="updates", n_updates=N_STEPS, duration="permanent")
    steps = HillEvolution(made)
    # The simulator holds mRNA and protein only, and starts with the chromatin of the progenitor.
    cells = steps.start(made.start)
    cells[:, 11:] = torch.where(held.isnan(), cells[:, :11], held).repeat(1, 2)
    ends = steps.genes(steps.run(cells, torch.full_like(held, torch.nan), held, keys(1)))
    expected = simulate(network, held, 1, torch.Generator().manual_seed(0), noise=0.0).final[0]
    torch.testing.assert_close(ends, expected, rtol=0, atol=1e-6)


def test_hashed_normal_numbers_have_the_moments_of_normal_numbers() -> None:
    n = 20000
    z = normal(keys(n), torch.tensor(6)).double()
    assert abs(z.mean().item()) < 4 / np.sqrt(n)
    assert abs(z.square().mean().item() - 1) < 4 * np.sqrt(2 / n)
    assert abs((z**4).mean().item() - 3) < 4 * np.sqrt(96 / n)
