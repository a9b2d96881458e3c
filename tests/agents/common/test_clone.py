"""The stage that imitates what a task demonstrates."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from perturbrl import registry
from perturbrl.agents.common.clone import Clone
from perturbrl.agents.common.learner import Learner
from perturbrl.envs.base import ActionSpace
from perturbrl.errors import UserError
from perturbrl.rng import Streams

from ..helpers import FakeEnv, agent_config, make_batch, make_model, naive, policy_config, tiny

AGENTS = ("ppo", "trpo", "trpo_ppo")


class Teaching(FakeEnv):
    """Shows the action (run, step of the episode) / 10."""

    def demonstration(self) -> Tensor:
        run = torch.arange(self.n_runs).view(-1, 1).expand(-1, self.n_envs)
        return torch.stack([run, torch.full_like(run, self.clock)], -1) / 10


def learner(name: str, env: FakeEnv, seeds: Sequence[int] = (1, 2), **agent: object) -> Learner:
    configs = [agent_config(name, **tiny(name, **agent))] * len(seeds)
    slices = {"all": slice(0, env.obs_dim)}
    built: Learner = registry.agents[name].build(
        configs, [policy_config()] * len(seeds), env, slices, Streams(list(seeds))
    )
    return built


def test_the_gradient_is_that_of_the_squared_distance_to_what_was_shown() -> None:
    model, n = make_model("box"), 6
    batch = make_batch(model, n)
    update = Clone([agent_config("ppo", epochs=1, minibatch=n, rollout_steps=n, n_envs=1)] * 2, model, Streams([1, 2]))
    update.adam.step = lambda grad: None  # type: ignore[method-assign]
    log = update.update(batch, 0)
    for k in range(2):
        theta = model.theta[k].clone().requires_grad_()
        gap = naive(model.policy_net, theta, batch.obs[k]) - batch.action[k]
        gap.square().sum(-1).mean().backward()
        torch.testing.assert_close(update.grad[k], theta.grad)
        torch.testing.assert_close(log["clone_loss"][k], gap.square().mean().detach())


def test_only_the_mean_learns() -> None:
    model = make_model("box")
    batch, before = make_batch(model, 8), model.theta.clone()
    config = agent_config("ppo", epochs=2, minibatch=4, rollout_steps=8, n_envs=1)
    Clone([config] * 2, model, Streams([1, 2])).update(batch, 0)
    mean = slice(0, model.policy_net.place(0))
    assert not torch.equal(model.theta[:, mean], before[:, mean])
    assert torch.equal(model.theta[:, mean.stop :], before[:, mean.stop :])


@pytest.mark.parametrize("name", AGENTS)
def test_a_policy_learns_what_it_is_shown(name: str) -> None:
    env = Teaching(2, 4, 8, "terminated")
    rates = {"clone_steps": 64 * 12, "clone_lr": 0.01}
    stages = {"trpo.total_steps": 64, "ppo.total_steps": 64 * 13}
    budgets = stages if name == "trpo_ppo" else {"total_steps": 64 * 13}
    taught = learner(name, env, **rates, **budgets)
    losses = torch.stack([taught.iterate(i)["clone_loss"] for i in range(12)])
    assert (losses[-1] < 0.05 * losses[0]).all()
    shown = torch.cat(env.actions, 1)
    assert (shown[1, :, 0] == 0.1).all()  # the teacher acts, not the policy
    assert shown[0, :, 1].unique().tolist() == pytest.approx([t / 10 for t in range(8)])
    env.actions.clear()
    assert "clone_loss" not in taught.iterate(12)
    assert len(torch.cat(env.actions, 1)[1, :, 0].unique()) > 8


@pytest.mark.parametrize(
    ("name", "mode", "stages"),
    [
        ("ppo", {}, ["clone"] * 2 + ["ppo"] * 2),
        ("trpo", {}, ["clone"] * 2 + ["trpo"] * 2),
        ("trpo_ppo", {"ppo.total_steps": 192}, ["clone"] * 2 + ["trpo"] * 2 + ["ppo"]),
        (
            "trpo_ppo",
            {"mode": "interleaved", "trpo.total_steps": 256, "ppo.total_steps": 256},
            ["clone"] * 2 + ["trpo_ppo"] * 2,
        ),
    ],
)
def test_cloning_is_paid_for_by_the_last_stage_in_whole_rollouts(name: str, mode: dict, stages: list[str]) -> None:
    env = Teaching(2, 4, 8, "terminated")
    plain, taught = learner(name, env, **mode), learner(name, env, clone_steps=65, **mode)
    assert [taught.stage_of(i).name for i in range(taught.n_iterations)] == stages
    assert plain.n_iterations == taught.n_iterations


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("space", [ActionSpace("box", 2), ActionSpace("discrete", 2)])
def test_a_task_that_shows_nothing_is_refused(name: str, space: ActionSpace) -> None:
    env = (FakeEnv if space.kind == "box" else Teaching)(2, 4, 8, "terminated", space)
    learner(name, env)
    with pytest.raises(UserError, match=r"^agent\.clone_steps: this task demonstrates no actions; .*counterfactual$"):
        learner(name, env, clone_steps=64)


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"clone_steps": -1}, "agent.*clone_steps: must be at least 0, got -1"),
        ({"clone_lr": 0.0}, "agent.*clone_lr: must be above 0, got 0"),
        ({"clone_steps": 1024}, "agent.clone_steps: 1024 steps of cloning leave none of the .* of stage"),
    ],
)
def test_impossible_settings_are_refused(name: str, wrong: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        learner(name, Teaching(2, 4, 8, "terminated"), **wrong)


def test_both_stages_are_told_once() -> None:
    with pytest.raises(UserError, match=r"agent\.ppo\.clone_steps: is 64 but agent\.clone_steps is 0; set"):
        agent_config("trpo_ppo", **{"ppo.clone_steps": 64})
