"""Runs of ``agent=sac``: the replay buffer in checkpoints, and what is refused before training."""

from __future__ import annotations

from pathlib import Path

import pytest

from perturbrl.errors import UserError
from perturbrl.runner.check_agent import check_agent

from .kills import in_step, killed
from .tiny import assert_same_run, checkpoint, job, small, status, train

QUICK = ("curve_points=0", "agent.minibatch=16", "policy.hidden=[8]", "agent.buffer=600")


def test_a_killed_run_goes_on_with_its_replay_buffer_bit_for_bit(tmp_path: Path) -> None:
    whole, mine = job(tmp_path / "whole", "sac", *QUICK), job(tmp_path / "mine", "sac", *QUICK)
    train(whole)
    killed(in_step(3 * 32 + 5), mine)  # in the fourth rollout, after the buffer has wrapped around
    tensors, about = checkpoint(mine.path)
    assert status(mine.path) == "running" and about["iteration"] == 3
    assert tensors["replay/obs"].shape == (1, 600 // 8 + 1, 8, 8)
    assert [outcome.status for outcome in train(mine)] == ["complete"]
    assert_same_run(mine.path, whole.path)


def test_the_checkpoint_of_a_finished_run_leaves_the_replay_buffer_out(tmp_path: Path) -> None:
    mine = job(tmp_path, "sac", *QUICK)
    train(mine)
    assert not [name for name in checkpoint(mine.path)[0] if name.startswith("replay/")]


def test_a_run_that_was_killed_before_it_said_that_it_is_finished_still_finishes(tmp_path: Path) -> None:
    mine = job(tmp_path, "sac", *QUICK)
    train(mine)
    before = checkpoint(mine.path)[0]
    (mine.path / "run.json").unlink()
    assert [outcome.status for outcome in train(mine)] == ["complete"]
    after = checkpoint(mine.path)[0]
    assert before.keys() == after.keys() and all(before[name].equal(after[name]) for name in before)


def test_it_does_what_every_agent_must_do() -> None:
    check_agent("sac", "agent.rollout_steps=64", "agent.n_envs=4", "agent.minibatch=16", "agent.learning_starts=20")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["env=paper_discrete"],
            "error: agent: sac needs continuous actions, and this task has 24 discrete ones; choose env=paper or "
            "env=counterfactual, or an agent for discrete actions, such as agent=ppo",
        ),
        (
            ["agent.buffer=10000000000000", "schedule.total=10000000000000"],
            "error: agent.buffer=10000000000000: needs about",
        ),
        (["agent.buffer=3"], "error: agent.buffer: 3 transitions hold no step of all n_envs = 8 cells; give more"),
    ],
)
def test_what_cannot_be_is_one_line(words: list[str], message: str, run) -> None:
    code, _, err = run("train", *small("sac", *QUICK[:3], *words))
    lines = [line for line in err.splitlines() if line.startswith("error")]
    assert code == 2 and len(lines) == 1 and lines[0].startswith(message), err


def test_a_network_of_another_choice_wins_over_relu(tmp_path: Path) -> None:
    assert job(tmp_path, "sac").config.policy.activation == "relu"
    assert job(tmp_path, "sac", "policy=mlp").config.policy.activation == "tanh"
    with pytest.raises(UserError, match="policy"):
        job(tmp_path, "sac", "policy=nobody")
