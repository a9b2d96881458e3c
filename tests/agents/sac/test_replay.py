"""The replay buffer against a plain list of transitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from perturbrl.agents.sac.replay import Replay, Transitions, draw
from perturbrl.envs.base import Step

from ..helpers import FakeEnv

RUNS, CELLS = 2, 3


def filled(n_steps: int, kept: int, limit: str, seed: int) -> tuple[Replay, list[tuple[Tensor, ...]]]:
    """A buffer after some steps, whose cells end their episodes at random, and all transitions in order."""
    env = FakeEnv(RUNS, CELLS, 10**6, limit)
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(RUNS, CELLS, *shape, generator=generator)

    replay, seen = Replay(env, kept, torch.device("cpu")), []
    obs = normal(3)
    replay.start(obs)
    for _ in range(n_steps):
        action, reward, after, fresh = normal(2), normal(), normal(3), normal(3)
        over = torch.rand(RUNS, CELLS, generator=generator) < 0.3
        never = torch.zeros_like(over)
        ended, cut = (over, never) if limit == "terminated" else (never, over)
        following = torch.where(over.unsqueeze(-1), fresh, after)
        replay.add(action, Step(following, reward, ended, cut, after))
        seen.append((obs, action, reward, ended, after))
        obs = following
    return replay, seen


def everything(replay: Replay) -> Transitions:
    """Each transition once, in the order in which it was made."""
    n = replay.n_steps * CELLS
    u = (torch.arange(n) + 0.5) / n
    return replay.sample(torch.stack([u, torch.zeros(n)]).expand(RUNS, 2, n))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 7), st.sampled_from(["terminated", "truncated"]), st.integers(0, 99))
def test_it_holds_the_last_steps_whatever_has_wrapped_around_or_ended(n_steps, kept, limit, seed) -> None:
    replay, seen = filled(n_steps, kept, limit, seed)
    last = seen[-kept:]
    assert replay.n_steps == len(last)
    batch = everything(replay)
    obs, action, reward, ended, after = (torch.stack(field, 1).flatten(1, 2) for field in zip(*last, strict=True))
    assert torch.equal(batch.obs, obs) and torch.equal(batch.action, action) and torch.equal(batch.reward, reward)
    assert torch.equal(batch.terminated, ended)
    counts = ~ended  # after a terminated step nothing is read
    assert torch.equal(batch.next_obs[counts], after[counts])


@pytest.mark.parametrize("n_steps", [3, 5, 11])
@pytest.mark.parametrize("limit", ["terminated", "truncated"])
def test_it_goes_on_from_a_checkpoint_of_the_rows_that_were_written(n_steps: int, limit: str) -> None:
    replay, _ = filled(n_steps, 5, limit, 0)
    state = {name: tensor.clone() for name, tensor in replay.state().items()}
    assert state["obs"].shape[:2] == (RUNS, min(n_steps + 1, 6))
    other = Replay(FakeEnv(RUNS, CELLS, 10**6, limit), 5, torch.device("cpu"))
    other.load_state(state)
    for field in ("obs", "action", "reward", "terminated"):
        assert torch.equal(getattr(everything(other), field), getattr(everything(replay), field))


def test_draws_are_even_also_among_more_transitions_than_single_precision_counts() -> None:
    u = torch.rand(1, 2, 4096, generator=torch.Generator().manual_seed(0))
    drawn = draw(u, 2**26)
    assert drawn.min() >= 0 and drawn.max() < 2**26
    assert 0.4 < (drawn % 2).double().mean() < 0.6  # of 24 bits alone, times 2^26, every number is even


def test_an_observation_is_held_once_unless_episodes_are_truncated() -> None:
    sizes = {limit: Replay(FakeEnv(1, 1, 9, limit), 999, torch.device("cpu")).n_bytes for limit in ("x", "truncated")}
    assert sizes == {"x": 1000 * (4 * (3 + 2 + 1) + 1), "truncated": 1000 * (4 * (3 + 3 + 2 + 1) + 1)}
