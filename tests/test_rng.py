from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perturbrl.rng import Streams, derive, numpy_generator

parts = st.lists(st.text(alphabet="abc", min_size=1, max_size=3) | st.integers(0, 50), max_size=3)


@given(st.integers(0, 2**40), parts)
def test_a_derived_seed_fits_every_generator_and_repeats(seed: int, names: list) -> None:
    found = derive(seed, *names)
    assert 0 <= found < 2**63
    assert found == derive(seed, *names)
    torch.Generator().manual_seed(found)


def test_neighbouring_seeds_names_and_iterations_give_other_streams() -> None:
    seeds = {derive(s, name, i) for s in range(20) for name in ("env", "action", "policy") for i in range(20)}
    assert len(seeds) == 20 * 3 * 20
    assert derive(1, 2) != derive(12)
    assert derive(0, "env") != derive(0, "env", 0)


@pytest.mark.slow  # a second torch must start
def test_derived_seeds_do_not_depend_on_the_process() -> None:
    # a resumed run must find the same streams: a hash salted per process would break this
    command = "from perturbrl.rng import derive; print(derive(3, 'env', 7))"
    other = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert int(other.stdout) == derive(3, "env", 7)


def test_numpy_generators_repeat() -> None:
    a, b, c = (numpy_generator(s, "split").random(5) for s in (1, 1, 2))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


DRAWS = {
    "uniform": lambda s, i: s.uniform("env", i, (4, 3)),
    "normal": lambda s, i: s.normal("env", i, (4, 3)),
    "permutations": lambda s, i: s.permutations("env", i, 9, 2),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_run_k_draws_as_it_would_alone_and_in_any_order(draw) -> None:
    together = Streams([5, 6, 7])
    late = draw(together, 3)
    early = draw(together, 0)
    assert torch.equal(draw(together, 3), late)  # an earlier draw leaves no trace
    for k, seed in enumerate((5, 6, 7)):
        alone = Streams([seed])
        assert torch.equal(draw(alone, 0)[0], early[k])
        assert torch.equal(draw(alone, 3)[0], late[k])
    assert not torch.equal(early, late)
    assert not torch.equal(late[0], late[1])


def test_streams_of_another_name_differ() -> None:
    s = Streams([1])
    assert not torch.equal(s.uniform("env", 0, (8,)), s.uniform("reset", 0, (8,)))


def test_draws_leave_torchs_global_generator_alone() -> None:
    before = torch.get_rng_state()
    for draw in DRAWS.values():
        draw(Streams([1, 2]), 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_draws_follow_their_distributions() -> None:
    s = Streams([1, 2])
    u, z = s.uniform("u", 0, (20_000,)), s.normal("z", 0, (20_000,))
    assert u.dtype == z.dtype == torch.float32
    assert (u >= 0).all() and (u < 1).all()
    assert ((u.mean(1) - 0.5).abs() < 4 * (1 / 12 / 20_000) ** 0.5).all()
    assert (z.mean(1).abs() < 4 / 20_000**0.5).all() and ((z.var(1) - 1).abs() < 0.05).all()


def test_permutations_are_permutations_each_its_own() -> None:
    p = Streams([1, 2]).permutations("minibatch", 0, 50, 3)
    assert p.shape == (2, 3, 50) and p.dtype == torch.int64
    assert torch.equal(p.sort(-1).values, torch.arange(50).expand(2, 3, 50))
    assert len({tuple(row.tolist()) for row in p.flatten(0, 1)}) == 6
