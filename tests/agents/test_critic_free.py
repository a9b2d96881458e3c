"""GRPO and RLOO: their gradients, a run in a population and resumed, what stands still, and whether they learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from perturbrl import registry
from perturbrl.agents.common.groups import Episodes
from perturbrl.agents.grpo import GRPO
from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.agents.rloo import RLOO
from perturbrl.errors import UserError
from perturbrl.rng import Streams

from .helpers import agent_config, make_batch, make_learner, make_model, policy_config, tiny, torch_distribution
from .test_learning import SEEDS, Quadratic
from .test_population import check_alone, train

NAMES, KINDS = ["grpo", "rloo"], ["box", "discrete"]
RECIPES = {"grpo": GRPO, "rloo": RLOO}
LENGTHS = (3, 5, 2, 4)  # steps of four episodes, one after another
CLIP, BETA = 0.125, 0.625  # settings are float32: these are exact


def episode_batch(model: ActorCritic) -> tuple[Episodes, list[slice], Tensor]:
    """Transitions of whole episodes, [S, 14]; where each stands; the advantage of each, [S, 4]."""
    plain = make_batch(model, sum(LENGTHS), drift=0.2)
    ends = torch.tensor(LENGTHS).cumsum(0).tolist()
    rows = [slice(end - n, end) for end, n in zip(ends, LENGTHS, strict=True)]
    generator = torch.Generator().manual_seed(5)
    each = torch.randn(2, len(LENGTHS), generator=generator, dtype=torch.float64)
    advantage = torch.cat([each[:, e, None].expand(-1, n) for e, n in enumerate(LENGTHS)], 1)
    reference = plain.log_prob + 0.3 * torch.randn(plain.log_prob.shape, generator=generator, dtype=torch.float64)
    fields = replace(plain, advantage=advantage).fields()
    return Episodes(*fields, weight=torch.ones_like(advantage), reference=reference), rows, each


def printed_grpo(dist: Any, batch: Episodes, rows: list[slice], advantage: Tensor, k: int) -> Tensor:
    """Eq. 3 with the KL of eq. 4: 1/G sum_i 1/|o_i| sum_t (min(r A, clip(r) A) - beta KL)."""
    log_prob, total = dist.log_prob(batch.action[k]), torch.zeros((), dtype=torch.float64)
    for e, at in enumerate(rows):
        ratio = (log_prob[at] - batch.log_prob[k, at]).exp()
        a = advantage[e]
        q = batch.reference[k, at].exp() / log_prob[at].exp()
        kl = q - q.log() - 1
        total = total + (torch.min(ratio * a, ratio.clamp(1 - CLIP, 1 + CLIP) * a) - BETA * kl).mean() / len(rows)
    return total


def printed_rloo(dist: Any, batch: Episodes, rows: list[slice], advantage: Tensor, k: int) -> Tensor:
    """1/k sum_i A_i sum_t log pi, divided by the mean length of the episodes."""
    log_prob = dist.log_prob(batch.action[k])
    total = sum(advantage[e] * log_prob[at].sum() for e, at in enumerate(rows)) / len(rows)
    return total / (sum(LENGTHS) / len(LENGTHS))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_that_of_the_printed_objective(name: str, kind: str) -> None:
    model = make_model(kind)
    batch, rows, advantage = episode_batch(model)
    own = {"clip": CLIP, "kl_coef": BETA} if name == "grpo" else {}
    update = RECIPES[name]([agent_config(name, **tiny(name, max_grad_norm=1e9, **own))] * 2, model, Streams([0, 1]))
    if name == "grpo":
        for key in own:
            setattr(update.c, key, getattr(update.c, key).double())
        weight = torch.cat([torch.full((2, n), 1 / n, dtype=torch.float64) for n in LENGTHS], 1)
        batch = replace(batch, weight=weight / weight.mean(1, keepdim=True))
    expected = []
    for k in range(2):
        theta = model.theta[k].clone().requires_grad_()
        printed = printed_grpo if name == "grpo" else printed_rloo
        (-printed(torch_distribution(model, theta, batch.obs[k]), batch, rows, advantage[k], k)).backward()
        expected.append(theta.grad)
    model.grad[:, model.policy_size :] = 7.0  # what another stage left there
    update.adam.step = lambda *a: None  # type: ignore[method-assign]
    update.step(batch, None)
    torch.testing.assert_close(model.grad, torch.stack(expected), rtol=1e-6, atol=1e-9)
    assert (model.grad[:, model.policy_size :] == 0).all() and (model.grad != 0).any(1).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_value_network_stays_as_it_was_drawn(name: str) -> None:
    learner = make_learner(name, [1, 2])
    before = learner.model.theta.clone()
    log = train(learner, stop=2)[-1]
    columns = learner.model.policy_size
    assert torch.equal(learner.model.theta[:, columns:], before[:, columns:])
    assert (learner.model.theta[:, :columns] != before[:, :columns]).any(1).all()
    assert "value_loss" not in log and torch.isfinite(log["loss"]).all()


DIFFERENT = {
    "grpo": [{"lr": 1e-2, "clip": 0.1, "kl_coef": 0.5, "gamma": 1.0}, {"lr": 1e-3, "max_grad_norm": 0.1, "gamma": 0.5}],
    "rloo": [{"lr": 1e-2, "gamma": 1.0}, {"lr": 1e-3, "max_grad_norm": 0.1, "gamma": 0.5}],
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("env", ["paper", "paper_discrete"])
def test_run_k_of_a_population_is_run_k_alone(name: str, env: str, twin: str) -> None:
    torch.set_num_threads(1)
    together = make_learner(name, [3, 1], env=env, agent=DIFFERENT[name])
    check_alone(together, make_learner(name, [1], env=env, agent=DIFFERENT[name][1:]), 1)


@pytest.mark.parametrize(("name", "agent"), [("rloo", {}), ("grpo", {"reference_every": 3, "kl_coef": 0.5})])
def test_it_goes_on_bit_for_bit_from_its_state(name: str, agent: dict) -> None:
    whole, first, resumed = (make_learner(name, [3, 1], agent=agent) for _ in range(3))
    logs = train(whole, stop=4)
    train(first, stop=2)
    resumed.load_state({key: tensor.clone() for key, tensor in first.state().items()})
    again = train(resumed, start=2, stop=4)
    assert torch.equal(whole.model.theta, resumed.model.theta)
    for log, other in zip(logs[2:], again, strict=True):
        assert all(torch.equal(log[key].nan_to_num(), other[key].nan_to_num()) for key in log)


@pytest.mark.parametrize(("every", "taken"), [(1, [0, 1, 2, 3]), (2, [0, 0, 2, 2]), (None, [0, 0, 0, 0])])
def test_the_reference_policy_is_renewed(every: int | None, taken: list[int]) -> None:
    learner = make_learner("grpo", [1], agent={"reference_every": every, "total_steps": 256})
    before = []
    for i in range(4):
        before.append(learner.model.theta.clone())
        learner.iterate(i)
        assert torch.equal(learner.stages[0].recipe.reference.theta, before[taken[i]])
    assert not torch.equal(before[0], before[1])


def test_a_strong_penalty_holds_the_policy_at_its_reference() -> None:
    gone = {}
    for weight in (0.0, 100.0):
        learner = make_learner("grpo", [1, 2], agent={"kl_coef": weight, "reference_every": None, "total_steps": 512})
        gone[weight] = train(learner, stop=8)[-1]["reference_kl"]
    assert (gone[100.0] < 0.5 * gone[0.0]).all(), gone


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({"group": 1}, r"agent\.group: must be at least 2"),
        ({"group": 3}, r"agent\.group: 3 does not divide n_envs = 4"),
        ({"minibatch": 30}, r"agent\.minibatch"),
        ({"n_envs": 5}, r"agent\.rollout_steps"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_impossible_settings_are_refused_by_name(name: str, overrides: dict, key: str) -> None:
    with pytest.raises(UserError, match=f"^{key}"):
        agent_config(name, **tiny(name, **overrides))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_the_return_rises_to_near_the_best(name: str, kind: str) -> None:
    """Doing nothing costs 43; the best policy about 4 (box, without exploration)."""
    sizes = {"rollout_steps": 512, "n_envs": 16, "total_steps": 512 * 40, "minibatch": 64, "lr": 3e-3}
    config = agent_config(name, **sizes)
    env = Quadratic(len(SEEDS), 16, kind)
    networks = [policy_config(hidden=[32, 32])] * len(SEEDS)
    agent = registry.agents[name].build([config] * len(SEEDS), networks, env, {}, Streams(SEEDS))
    returns = torch.stack([agent.iterate(i)["return_mean"] for i in range(agent.n_iterations)])
    first, last = returns[:1].mean(0), returns[-5:].mean(0)
    assert (first < -35).all() and (last > -12).all(), (first, last)
