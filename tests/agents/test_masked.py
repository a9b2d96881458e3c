"""Every agent that can act in a discrete task respects its mask: ``PickGenes`` fails at a forbidden action."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from fakes.masked import GENES, PickGenes

from perturbrl import registry
from perturbrl.agents.common.learner import Learner
from perturbrl.rng import Streams
from perturbrl.runner.resuming import require_same, unbroken

from .helpers import agent_config, policy_config, tiny

AGENTS = ("ppo", "trpo", "trpo_ppo")


def learner(name: str, seeds: Sequence[int], net: str = "trunk", hidden: int = 6, **agent: object) -> Learner:
    env = PickGenes(len(seeds), 4)
    configs = [agent_config(name, **tiny(name, **agent))] * len(seeds)
    policies = [policy_config(net=net, hidden=[hidden])] * len(seeds)
    built: Learner = registry.agents[name].build(configs, policies, env, env.slices, Streams(seeds))
    return built


@pytest.mark.parametrize("net", ["trunk", "branches"])
@pytest.mark.parametrize("name", AGENTS)
def test_no_forbidden_action_is_taken_and_every_run_is_the_run_alone(name: str, net: str) -> None:
    together, alone = learner(name, (3, 4), net), learner(name, (4,), net)
    for i in range(together.n_iterations):
        together.iterate(i)
        alone.iterate(i)
    torch.testing.assert_close(together.model.theta[1], alone.model.theta[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", AGENTS)
def test_a_run_resumes_to_the_last_bit(name: str) -> None:
    def build() -> Learner:
        return learner(name, (5,))

    states = unbroken(build, 3)
    assert len(states) > 2
    require_same(build, states, {"agent": name}, [1])


@pytest.mark.slow
def test_ppo_finds_the_genes_worth_taking() -> None:
    settings = {"rollout_steps": 256, "n_envs": 4, "minibatch": 64, "epochs": 10, "total_steps": 256 * 60}
    agent = learner("ppo", (0, 1, 2), hidden=32, lr=3e-3, gamma=1.0, **settings)
    returns = torch.stack([agent.iterate(i)["return_mean"] for i in range(agent.n_iterations)])
    worth = 2 * torch.rand(100_000, GENES, generator=torch.Generator().manual_seed(0)) - 1
    best = worth.clamp(min=0).topk(2).values.sum(1).mean()  # 0.87; a uniform choice among what is allowed earns 0
    assert (returns[:2].mean(0).abs() < 0.25 * best).all()
    assert (returns[-5:].mean(0) > 0.8 * best).all(), (returns[-5:].mean(0), best)
