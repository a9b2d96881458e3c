"""Multi-stage LoRA as an agent: budgets, what each stage trains, handover, populations, resuming, learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from perturbrl import registry
from perturbrl.agents.common.learner import Learner
from perturbrl.errors import UserError
from perturbrl.rng import Streams

from .helpers import agent_config, make_learner, policy_config, tiny
from .test_learning import Quadratic
from .test_population import check_alone

SEEDS = (3, 1, 4)


pytestmark = pytest.mark.usefixtures("one_thread")


def planned(learner: Learner) -> list[str]:
    return [learner.stage_of(i).name for i in range(learner.n_iterations)]


@pytest.mark.parametrize(
    ("shares", "stages"),
    [
        ((0.5, 0.25), ["convex"] * 2 + ["nonconvex"] + ["full"]),
        ((0.1, 0.4), ["convex", "nonconvex", "full", "full"]),  # 0.4 and 1.6 rollouts: the ends are rounded up
        ((0.0, 0.5), ["nonconvex"] * 2 + ["full"] * 2),
        ((0.5, 0.0), ["convex"] * 2 + ["full"] * 2),
        ((0.3, 0.7), ["convex"] * 2 + ["nonconvex"] * 2),
        ((0.0, 0.0), ["full"] * 4),
    ],
)
def test_stages_share_the_budget_and_one_of_no_steps_is_left_out(shares: tuple[float, float], stages: list) -> None:
    learner = make_learner("lora", [0], agent=dict(zip(("convex_share", "nonconvex_share"), shares, strict=True)))
    assert planned(learner) == stages
    assert planned(make_learner("ppo", [0])) == ["ppo"] * 4  # as many rollouts


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"convex_share": 0.7, "nonconvex_share": 0.4}, r"agent\.convex_share: 0\.7 and .* more than 1 together"),
        ({"total_steps": 64}, r"agent\.nonconvex_share: 0\.25 of 1 rollouts leaves no rollout"),
        ({"policy_layers": "none"}, r"agent\.policy_layers: 'none' is not known"),
        ({"rank": 0}, r"agent\.rank: must be at least 1"),
        ({"alpha": 0.0}, r"agent\.alpha: must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        agent_config("lora", **tiny("lora", **overrides))


def weights(theta: Tensor, learner: Learner) -> list[Tensor]:
    nets = learner.model.policy_net, learner.model.value_net
    return [w.clone() for net in nets for w, _ in net.chain.views(theta)]


def ranks(change: list[Tensor]) -> list[int]:
    return [int(torch.linalg.matrix_rank(w[0].double(), rtol=1e-4)) for w in change]


def test_each_stage_trains_what_it_says() -> None:
    learner = make_learner("lora", [3], policy={"hidden": [8, 8]})
    theta = [learner.model.theta.clone()]
    convex, nonconvex = (stage.recipe.model for stage in learner.stages[:2])
    fixed = []
    for i in range(4):
        learner.iterate(i)
        theta.append(learner.model.theta.clone())
        fixed.append((convex.fixed.clone(), nonconvex._a[:, nonconvex.policy_part.factors[0].a].clone()))
    assert torch.equal(convex.start, theta[0])  # W0 is what the run started from
    assert torch.equal(nonconvex.start, theta[0])
    assert torch.equal(fixed[0][0], fixed[3][0])  # A of the convex stage
    of_a = convex.fixed[:, convex.policy_part.factors[0].a]
    assert not torch.equal(fixed[2][1], of_a)  # the next one has trained it
    start = weights(theta[0], learner)
    for after, most in ((2, 4), (3, 4), (4, 99)):
        found = ranks([w - w0 for w, w0 in zip(weights(theta[after], learner), start, strict=True)])
        assert max(found) > 0 and all(r <= most for r in found), (after, found)
    assert max(found) > 4  # full fine-tuning is not of low rank
    biases = [b for net in (learner.model.policy_net, learner.model.value_net) for _, b in net.chain.views(theta[3])]
    assert all(torch.equal(b, torch.zeros_like(b)) for b in biases)
    stds = [t[:, learner.model.log_std_columns] for t in theta]
    assert not torch.equal(stds[0], stds[1])


def test_the_next_stage_starts_where_the_last_has_ended() -> None:
    learner = make_learner("lora", [3])
    for i in range(4):
        before = learner.model.theta.clone()
        if i in (2, 3):  # first iterations of nonconvex and of full
            stage = learner.stage_of(i)
            stage.begin()
            if stage.name == "nonconvex":
                stage.recipe.model.merge()
            assert torch.equal(learner.model.theta, before)
        learner.iterate(i)


@pytest.mark.parametrize("env", ["paper", "paper_discrete"])
def test_without_adapter_stages_it_is_ppo(env: str) -> None:
    full = make_learner("lora", [2], env=env, agent={"convex_share": 0.0, "nonconvex_share": 0.0})
    ppo = make_learner("ppo", [2], env=env)
    for i in range(3):
        log, same = full.iterate(i), ppo.iterate(i)
        assert log.keys() == same.keys()
    assert torch.equal(full.model.theta, ppo.model.theta)


CASES = {
    "stages": ("paper", {}),
    "discrete": ("paper_discrete", {}),
    "parts": ("paper", {"policy_layers": "hidden", "value_layers": "whole", "biases": True, "log_std": False}),
}


@pytest.mark.parametrize("case", CASES)
def test_run_k_of_a_population_is_run_k_alone(case: str) -> None:
    env, agent = CASES[case]
    each = [agent | {"alpha": alpha, "adapter_lr": lr} for alpha, lr in ((8.0, 1e-2), (2.0, 1e-3), (4.0, 3e-3))]
    for k in (1, 2):
        together = make_learner("lora", SEEDS, env=env, agent=each)
        check_alone(together, make_learner("lora", SEEDS[k : k + 1], env=env, agent=each[k : k + 1]), k)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_resumed_run_is_an_unbroken_one_within_and_across_stages(cut: int) -> None:
    whole, first, resumed = (make_learner("lora", SEEDS) for _ in range(3))
    for i in range(4):
        whole.iterate(i)
    for i in range(cut):
        first.iterate(i)
    resumed.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    for i in range(cut, 4):
        resumed.iterate(i)
    after = resumed.state()
    for name, tensor in whole.state().items():
        torch.testing.assert_close(tensor, after[name], rtol=0, atol=0, equal_nan=True, msg=name)


class Moved(Quadratic):
    """The same task, but what one sees is turned by 45 degrees and shifted."""

    def _seen(self, obs: Tensor) -> Tensor:
        return obs @ torch.tensor([[0.7, 0.7], [-0.7, 0.7]]) + 1.0

    def reset(self, u: Tensor) -> Tensor:
        return self._seen(super().reset(u))

    def step(self, action: Tensor, u: Tensor):
        step = super().step(action, u)
        obs = step.obs if self.clock == 0 else self._seen(step.obs)  # reset has turned it
        return type(step)(obs, step.reward, step.terminated, step.truncated, self._seen(step.final_obs))


def on(env: type[Quadratic], name: str, kind: str, iterations: int, seeds: Sequence[int], **agent: Any) -> Learner:
    rollout = {"rollout_steps": 256, "n_envs": 16, "total_steps": 256 * iterations, "gamma": 0.9}
    own = {"minibatch": 64, "epochs": 6, "lr": 3e-3}
    configs = [agent_config(name, **tiny(name, **(rollout | own | agent)))] * len(seeds)
    policies = [policy_config(hidden=[32, 32])] * len(seeds)
    built: Learner = registry.agents[name].build(configs, policies, env(len(seeds), 16, kind), {}, Streams(seeds))
    return built


def trained(learner: Learner) -> Tensor:
    return torch.stack([learner.iterate(i)["return_mean"] for i in range(learner.n_iterations)])


# median return of six runs that each way of adapting must reach after 30 rollouts; full fine-tuning has about -10
REACHED = {(1.0, 0.0): -22.0, (0.3, 0.7): -18.0, (0.2, 0.3): -16.0}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["box", "discrete"])
def test_adaptation_brings_a_policy_to_a_task_that_it_fails(kind: str) -> None:
    """Doing nothing costs 43 an episode and the best policy about 2; the pretrained one costs 29 to 38."""
    seeds = range(6)
    pretrained = on(Quadratic, "ppo", kind, 30, seeds)
    assert (trained(pretrained)[-3:].mean(0) > -6).all()
    for (convex, nonconvex), score in REACHED.items():
        adapting = on(Moved, "lora", kind, 30, seeds, adapter_lr=3e-3, convex_share=convex, nonconvex_share=nonconvex)
        adapting.model.theta.copy_(pretrained.model.theta)
        returns = trained(adapting)
        assert (returns[0] < -28).all(), returns[0]
        assert returns[-3:].mean(0).median() > score, (convex, nonconvex, returns[-3:].mean(0))
