"""Do the agents learn? On a task whose best policy is known, within seconds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from perturbrl import registry
from perturbrl.agents.common.learner import Learner
from perturbrl.envs.base import ActionSpace, Step
from perturbrl.rng import Streams

from .helpers import agent_config, policy_config, tiny

SEEDS = (0, 1, 2)
ALTERNATIVES = ("copg", "fop", "fr_ppo", "npg", "trgppo")


class Quadratic:
    """Two numbers, moved by the action; the reward is minus their squared length. Best: a = -x / STEP, clipped."""

    obs_dim, n_uniforms, can_truncate, horizon, step_size = 2, 2, True, 16, 0.5

    def __init__(self, n_runs: int, n_envs: int, kind: str) -> None:
        self.n_runs, self.n_envs = n_runs, n_envs
        self.action_space = ActionSpace(kind, 2 if kind == "box" else 4)
        self.clock = 0
        self.x = torch.zeros(n_runs, n_envs, 2)

    def reset(self, u: Tensor) -> Tensor:
        self.clock, self.x = 0, 4 * u - 2
        return self.x

    def step(self, action: Tensor, u: Tensor) -> Step:
        if self.action_space.kind == "discrete":
            move = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])[action]
        else:
            move = action.clamp(-1, 1)
        self.x = self.x + self.step_size * move
        reward, final = -self.x.square().sum(-1), self.x
        self.clock += 1
        over = torch.full_like(reward, self.clock == self.horizon, dtype=torch.bool)
        obs = self.reset(u) if self.clock == self.horizon else self.x
        return Step(obs, reward, torch.zeros_like(over), over, final)

    def state(self) -> dict[str, Tensor]:
        return {"x": self.x.clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.x = state["x"].clone()


def learner(name: str, kind: str, seeds: Sequence[int] = SEEDS, iterations: int = 30) -> Learner:
    rollout = {"rollout_steps": 256, "n_envs": 16, "total_steps": 256 * iterations, "gamma": 0.9}
    own = {"ppo": {"minibatch": 64, "epochs": 6, "lr": 3e-3}, "trpo": {"minibatch": 64, "lr": 3e-3, "target_kl": 0.03}}
    own |= dict.fromkeys(("copg", "fop", "trgppo"), own["ppo"])
    own |= {"fr_ppo": own["ppo"] | {"tau": 0.2}, "npg": own["trpo"]}
    if name == "trpo_ppo":
        overrides = {f"{s}.{k}": v for s in ("ppo", "trpo") for k, v in (rollout | own[s]).items()}
        overrides |= {"mode": "interleaved"}
    else:
        overrides = rollout | own[name]
    configs = [agent_config(name, **tiny(name, **overrides))] * len(seeds)
    env = Quadratic(len(seeds), 16, kind)
    policies = [policy_config(hidden=[32, 32])] * len(seeds)
    built: Learner = registry.agents[name].build(configs, policies, env, {}, Streams(seeds))
    return built


NAMES = ["ppo", "trpo", "trpo_ppo", *(pytest.param(n, marks=pytest.mark.slow) for n in ALTERNATIVES)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["box", "discrete"])
def test_the_return_rises_to_near_the_best(name: str, kind: str) -> None:
    agent = learner(name, kind)
    returns = torch.stack([agent.iterate(i)["return_mean"] for i in range(agent.n_iterations)])
    first, last = returns[:2].mean(0), returns[-3:].mean(0)
    # doing nothing costs 16 x 2 x 4/3 = 43; the best policy about 4 (box, without exploration)
    assert (first < -35).all()
    assert (last > first / 2).all(), (first, last)


def test_the_critic_explains_the_returns_in_the_end() -> None:
    agent = learner("ppo", "box")
    explained = torch.stack([agent.iterate(i)["explained_variance"] for i in range(agent.n_iterations)])
    assert (explained[-3:].mean(0) > explained[0] + 0.3).all()
