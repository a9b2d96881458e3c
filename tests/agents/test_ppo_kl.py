"""PPO with a KL penalty (Schulman et al. 2017, section 4), its target from TRPO, and what the release does instead."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from perturbrl import registry
from perturbrl.agents.model.heads import gradient
from perturbrl.agents.ppo import PPO
from perturbrl.agents.ppo_penalty import LEAST, PPOPenalty
from perturbrl.agents.ppo_released import PPOReleased
from perturbrl.errors import UserError
from perturbrl.rng import Streams

from .helpers import agent_config, make_batch, make_learner, make_model, naive, policy_config, tiny, torch_distribution
from .test_learning import Quadratic
from .test_population import check_alone, train

pytestmark = pytest.mark.usefixtures("one_thread")

PENALTY = {"stages": ["trpo:128", "ppo_penalty:128"]}
RELEASED = {"stages": ["trpo:128", "ppo_released:128"], "variant": "released"}
SEEDS = (3, 1, 4)


def recipe_of(kind: str, recipe: Any, name: str, **settings: Any) -> tuple[Any, Any]:
    model = make_model(kind)
    return recipe([agent_config(name, **tiny(name, **settings))] * 2, model, Streams([0, 1])), model


# --- the penalty


@pytest.mark.parametrize("kind", ["box", "discrete"])
@pytest.mark.parametrize("kl", ["per_dimension", "summed"])
def test_the_gradient_is_that_of_the_printed_formula(kind: str, kl: str) -> None:
    settings = {"beta": 3.0, "kl": kl, "vf_coef": 0.7, "ent_coef": 0.02}
    recipe, model = recipe_of(kind, PPOPenalty, "ppo_penalty", **settings)
    batch = make_batch(model, 24, drift=0.2)
    recipe.theta_old = model.theta + 0.1 * torch.sin(torch.arange(model.theta.shape[1]))
    heads = recipe.heads(batch)
    gradient(recipe.loss(heads, batch), heads)
    for s in range(2):
        theta = model.theta[s].clone().requires_grad_()
        new = torch_distribution(model, theta, batch.obs[s])
        old = torch_distribution(model, recipe.theta_old[s], batch.obs[s])
        a = batch.advantage[s]
        a = (a - a.mean()) / (a.std() + 1e-8)
        rho = (new.log_prob(batch.action[s]) - batch.log_prob[s]).exp()
        divergence = torch.distributions.kl_divergence(old, new).mean()
        scale = 1 / 3 if (kind, kl) == ("box", "per_dimension") else 1.0
        value = naive(model.value_net, theta, batch.obs[s]).squeeze(-1)
        loss = -((rho * a).mean() - 3.0 * scale * divergence)
        loss = loss + 0.7 * (value - batch.ret[s]).square().mean() - 0.02 * new.entropy().mean()
        (expected,) = torch.autograd.grad(loss, theta)
        torch.testing.assert_close(recipe.loss(heads, batch)[s], loss.detach(), rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(model.grad[s], expected, rtol=1e-5, atol=1e-8)


def test_beta_follows_the_kl_of_the_update() -> None:
    recipe, _ = recipe_of("box", PPOPenalty, "ppo_penalty", beta=1.0, kl_target=0.03)
    for kl, expected in (
        ((0.0199, 0.0451), (0.5, 2.0)),  # below d_targ / 1.5, above 1.5 d_targ
        ((0.0201, 0.0449), (0.5, 2.0)),  # within
        ((0.0, 1.0), (0.25, 4.0)),
    ):
        recipe.adapt(torch.tensor(kl))
        assert recipe.beta.tolist() == list(expected)
    for _ in range(200):
        recipe.adapt(torch.zeros(2))
    assert (recipe.beta == LEAST).all()  # not 0, from which no doubling leads back
    recipe.adapt(torch.ones(2))
    assert (recipe.beta == 2 * LEAST).all()


def test_a_larger_beta_holds_the_policy_back() -> None:
    moved = []
    for beta in (1e-3, 1e3):
        recipe, model = recipe_of("box", PPOPenalty, "ppo_penalty", beta=beta, epochs=10)
        moved.append(recipe.update(make_batch(model, 64), 0)["kl"])
    assert (moved[1] < moved[0] / 2).all()


def test_the_beta_of_a_rollout_is_the_one_before_its_update() -> None:
    learner = make_learner("ppo_penalty", [1, 2], agent={"kl_target": 10.0, "total_steps": 192})
    logs = train(learner)
    assert [log["beta"].tolist() for log in logs] == [[1.0, 1.0], [0.5, 0.5], [0.25, 0.25]]
    assert all((log["kl"] < 1).all() and (log["kl_target"] == 10).all() for log in logs)


# --- the two stages


def test_the_target_is_the_mean_kl_of_the_stage_before() -> None:
    learner = make_learner("ppo_kl", SEEDS, agent=PENALTY)
    logs = train(learner, stop=4)
    assert [learner.stage_of(i).name for i in range(4)] == ["trpo"] * 2 + ["ppo_penalty"] * 2
    mean = torch.stack([log["kl"] for log in logs[:2]]).mean(0)
    assert (mean > 0).all() and mean.unique().numel() == len(SEEDS)
    for log in logs[2:]:
        torch.testing.assert_close(log["kl_target"], mean)


def test_the_units_of_the_two_stages_may_differ() -> None:
    mine = make_learner("ppo_kl", SEEDS, agent=PENALTY | {"ppo_penalty.kl": "summed"})
    logs = train(mine)
    mean = torch.stack([log["kl"] for log in logs[:2]]).mean(0)  # per dimension
    torch.testing.assert_close(logs[2]["kl_target"], mean * mine.model.actions.size)


@pytest.mark.parametrize(
    ("stages", "more"),
    [
        (PENALTY["stages"], {"ppo_penalty.measure": False}),
        (["ppo:128", "ppo_penalty:128"], {}),
        (["ppo_penalty:192"], {}),
    ],
)
def test_the_target_is_the_configs_where_nothing_is_measured(stages: list[str], more: dict) -> None:
    logs = train(make_learner("ppo_kl", [1], agent={"stages": stages, "ppo_penalty.kl_target": 0.02} | more))
    assert logs[2]["kl_target"].tolist() == pytest.approx([0.02])


def test_both_variants_have_the_same_start() -> None:
    cases = (("ppo_kl", PENALTY), ("ppo_kl", RELEASED), ("staged", {"stages": ["trpo:128"]}))
    one, two, first_stage_alone = (make_learner(name, SEEDS, agent=settings) for name, settings in cases)
    for learner in (one, two, first_stage_alone):
        train(learner, stop=2)
    assert torch.equal(one.model.theta, first_stage_alone.model.theta)
    assert torch.equal(two.model.theta, first_stage_alone.model.theta)


@pytest.mark.parametrize("settings", [{"variant": "released"} | PENALTY, {"stages": ["trpo:1k"]}])
def test_a_variant_that_the_stages_do_not_have_is_refused(settings: dict) -> None:
    with pytest.raises(UserError, match=r"^agent\.variant: is \w+, but agent\.stages has no ppo_"):
        agent_config("ppo_kl", **tiny("ppo_kl", **settings))


@pytest.mark.parametrize("cut", [1, 3])
def test_it_goes_on_bit_for_bit(cut: int) -> None:
    whole, first, resumed = (make_learner("ppo_kl", SEEDS, agent=PENALTY) for _ in range(3))
    train(whole, stop=4)
    train(first, stop=cut)
    resumed.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    train(resumed, start=cut, stop=4)
    for name, tensor in whole.state().items():
        assert torch.equal(tensor.nan_to_num(), resumed.state()[name].nan_to_num()), name


@pytest.mark.parametrize("settings", [PENALTY, RELEASED])
@pytest.mark.parametrize("env", ["paper", "paper_discrete"])
def test_a_run_of_a_population_is_the_run_alone(settings: dict, env: str) -> None:
    learners = (make_learner("ppo_kl", seeds, env=env, agent=settings) for seeds in (SEEDS, SEEDS[1:2]))
    check_alone(*learners, 1)


# --- what the release does


def test_the_released_variant_takes_the_first_step_of_ppo_and_no_other() -> None:
    recipe, model = recipe_of("box", PPOReleased, "ppo_released")
    other, peer = recipe_of("box", PPO, "ppo")
    batch = make_batch(model, 64)
    recipe.update(batch, 5)
    first = next(batch.reordered(other.orders(batch, 5, 1)[0]).normalised(16).minibatches(16))
    other.step(first, None)
    torch.testing.assert_close(model.theta, peer.theta, rtol=1e-12, atol=1e-12)
    assert not torch.equal(model.theta, make_model("box").theta)
    recipe.update(batch, 6)
    assert (recipe.adam.policy.t == 2).all()


def test_it_is_what_a_target_kl_near_zero_makes_of_ppo() -> None:
    """Stable-Baselines3's rule: an update ends at the first minibatch on which the policy has moved."""
    model = make_model("box")
    batch = make_batch(model, 64)
    ppo = PPO([agent_config("ppo", **tiny("ppo", target_kl=1e-9))] * 2, model, Streams([0, 1]))
    ppo.update(batch, 0)
    assert (ppo.adam.policy.t == 1).all()


# --- a small known problem


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["box", "discrete"])
def test_the_penalty_solves_the_quadratic_task(kind: str) -> None:
    settings = {"rollout_steps": 256, "n_envs": 16, "total_steps": 256 * 30, "gamma": 0.9, "minibatch": 64, "epochs": 6}
    config = agent_config("ppo_penalty", **tiny("ppo_penalty", **settings | {"kl_target": 0.03, "kl": "summed"}))
    seeds = (0, 1, 2)
    policies = [policy_config(hidden=[32, 32])] * 3
    built = registry.agents["ppo_penalty"].build([config] * 3, policies, Quadratic(3, 16, kind), {}, Streams(seeds))
    returns: Tensor = torch.stack([built.iterate(i)["return_mean"] for i in range(built.n_iterations)])
    assert (returns[:2].mean(0) < -35).all()  # doing nothing costs 43, the best policy about 4
    assert (returns[-3:].mean(0) > -18).all(), returns[-3:]
