from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from perturbrl.agents.common import natural
from perturbrl.agents.common.losses import normalise as normalise_
from perturbrl.agents.common.natural import fisher_vector_product, mean_kl
from perturbrl.agents.common.rollout import Rollout
from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.agents.model.distributions import joined
from perturbrl.agents.ppo import PPO
from perturbrl.agents.trpo import TRPO
from perturbrl.errors import UserError
from perturbrl.rng import Streams

from .helpers import agent_config, make_batch, make_learner, make_model, naive, tiny, torch_distribution

KINDS = ["box", "discrete"]
FLOAT64 = torch.float64


def ppo_update(model: ActorCritic, *overrides: dict) -> PPO:
    configs = [agent_config("ppo", **tiny("ppo", **o)) for o in overrides]
    update = PPO(configs, model, Streams(range(len(configs))))
    for name in ("clip", "vf_coef", "ent_coef", "max_grad_norm"):
        setattr(update.c, name, getattr(update.c, name).double())
    return update


def eq_8(model: ActorCritic, theta: Tensor, mb: Rollout, k: int, config: dict, normalise: bool) -> Tensor:
    """L = -E[L_CLIP] + c_v E[(V - R)^2] - c_e E[H] of run k, written out for autograd."""
    dist = torch_distribution(model, theta, mb.obs[k])
    ratio = (dist.log_prob(mb.action[k]) - mb.log_prob[k]).exp()
    a = mb.advantage[k]
    if normalise:
        a = (a - a.mean()) / (a.std() + 1e-8)
    clip = config["clip"]
    surrogate = torch.min(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a).mean()
    value = naive(model.value_net, theta, mb.obs[k]).squeeze(-1)
    value_loss = (value - mb.ret[k]).square().mean()
    return -surrogate + config["vf_coef"] * value_loss - config["ent_coef"] * dist.entropy().mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("entropy", [(0.0, 0.0), (0.03, 0.0), (0.03, 0.1)])
def test_ppo_gradient_is_that_of_equation_8(kind: str, normalise: bool, entropy: tuple[float, float]) -> None:
    settings = [
        {"clip": 0.2, "vf_coef": 0.5, "ent_coef": entropy[0], "max_grad_norm": 1e9},
        {"clip": 0.1, "vf_coef": 1.3, "ent_coef": entropy[1], "max_grad_norm": 1e9},
    ]
    model = make_model(kind)
    batch = make_batch(model, 40, drift=0.2)
    expected = []
    for k in range(2):
        theta = model.theta[k].clone().requires_grad_()
        loss = eq_8(model, theta, batch, k, settings[k], normalise)
        expected.append(torch.autograd.grad(loss, theta)[0])
    update = ppo_update(model, *({**s, "normalise_advantage": normalise} for s in settings))
    mb = replace(batch, advantage=normalise_(batch.advantage)) if normalise else batch  # as run does, once an epoch
    found, _ = update.step(mb, None)
    torch.testing.assert_close(model.grad, torch.stack(expected), rtol=1e-6, atol=1e-9)
    assert (found["clip_fraction"] > 0).all()  # or the clip was not tested


def test_ppo_clips_the_gradient_over_all_parameters_of_a_run() -> None:
    norms = []
    for limit in (1e9, 0.05):
        model = make_model("box")
        update = ppo_update(model, {"max_grad_norm": limit}, {"max_grad_norm": 1e9})
        update.step(make_batch(model, 20), None)
        norms.append(torch.linalg.vector_norm(model.grad, dim=1))
    assert norms[0][0] > 0.05
    torch.testing.assert_close(norms[1][0].item(), 0.05, rtol=1e-3, atol=0)
    torch.testing.assert_close(norms[1][1], norms[0][1])


def test_target_kl_stops_one_run_and_not_the_other() -> None:
    model = make_model("box")
    batch = make_batch(model, 20)
    # run 0 has moved far from the policy that collected the batch, run 1 not at all
    batch.log_prob[0] -= torch.linspace(-1, 1, 20, dtype=FLOAT64)
    update = ppo_update(model, *[{"target_kl": 0.01}] * 2)
    before = model.theta.clone()
    found, active = update.step(batch, update.all_runs())
    assert found["approx_kl"][0] > 0.015 and found["approx_kl"][1] < 1e-12
    assert active is not None and active.tolist() == [False, True]
    assert torch.equal(model.theta[0], before[0])
    assert (model.theta[1] != before[1]).sum() > 0.5 * model.theta.shape[1]
    _, again = update.step(make_batch(model, 20, seed=1), active)
    assert again is not None and not again[0]  # once stopped, stopped until the next rollout
    assert torch.equal(model.theta[0], before[0])


def test_a_run_stops_at_one_and_a_half_times_target_kl() -> None:
    for factor, goes_on in ((1.4, True), (1.6, False)):
        model = make_model("box")
        batch = make_batch(model, 20, drift=0.2)
        ratio = (model.policy(batch.obs)[0].log_prob(batch.action)[0] - batch.log_prob).exp()
        kl = (ratio - 1 - ratio.log()).mean(1)
        update = ppo_update(model, *[{"target_kl": kl[0].item() / factor}] * 2)
        _, active = update.step(batch, update.all_runs())
        assert active is not None and bool(active[0]) is goes_on


def test_an_early_stop_is_as_if_the_epochs_after_it_were_not_there() -> None:
    def train(lr: float, target_kl: float | None) -> Tensor:
        learner = make_learner("ppo", [1], agent={"lr": lr, "target_kl": target_kl, "epochs": 4})
        learner.iterate(0)
        return learner.model.theta

    # at a step so large that the first minibatch passes the limit, only that one step is taken
    stopped, free = train(0.05, 1e-4), train(0.05, None)
    start = make_learner("ppo", [1]).model.theta
    moved = (stopped - start).abs().max()
    assert 0 < moved <= 0.05 * 1.01 < (free - start).abs().max()
    torch.testing.assert_close(train(1e-4, 1e3), train(1e-4, None), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kl", ["summed", "per_dimension"])
@given(st.integers(0, 200), st.floats(1e-3, 0.1))
@settings(max_examples=10)
def test_the_kl_of_a_trpo_update_is_at_most_delta(kl: str, seed: int, delta: float) -> None:
    model = make_model("box", n_runs=3, seed=seed)
    batch = make_batch(model, 30, seed=seed)
    configs = [agent_config("trpo", **tiny("trpo", kl=kl, target_kl=d)) for d in (delta, delta / 2, delta)]
    update = TRPO(configs, model, Streams([0, 1, 2]))
    for name in ("target_kl", "damping", "line_search_shrink"):
        setattr(update.c, name, getattr(update.c, name).double())
    old = joined([model.policy(batch.obs)[0]])
    values = model.theta[:, model.policy_size :].clone()
    logged = update.policy_step(batch)
    after = mean_kl(old, model.policy(batch.obs)[0], 1 / 3 if kl == "per_dimension" else 1.0)
    torch.testing.assert_close(logged["kl"], after)
    assert (after <= update.c.target_kl.squeeze(1)).all()
    assert torch.equal(model.theta[:, model.policy_size :], values)


def test_per_dimension_goes_further_than_summed() -> None:
    went = {}
    for kl in ("summed", "per_dimension"):
        model = make_model("box")
        batch = make_batch(model, 200)
        update = TRPO([agent_config("trpo", **tiny("trpo", kl=kl))] * 2, model, Streams([0, 1]))
        old = joined([model.policy(batch.obs)[0]])
        assert update.policy_step(batch)["accepted"].all()
        went[kl] = mean_kl(old, model.policy(batch.obs)[0], 1.0)
    assert (went["summed"] < 0.01).all() and (went["per_dimension"] > 1.5 * went["summed"]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_fisher_product_in_blocks_of_states_is_that_of_all(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(natural, "BLOCK", 4)
    model = make_model(kind)
    batch = make_batch(model, 10)  # blocks of 4, 4 and 2
    v = torch.randn(2, model.policy_size, generator=torch.Generator().manual_seed(0), dtype=FLOAT64)
    dist, cache = model.policy(batch.obs)
    damping, scale = torch.tensor([[0.3], [0.01]], dtype=FLOAT64), 1 / 3 if kind == "box" else 1.0
    expected = fisher_vector_product(model, dist, cache, v, damping, scale)
    old = natural.OldPolicy(model, batch, scale)
    assert len(old.blocks) == 3
    torch.testing.assert_close(old.fisher_product(v, damping), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_of_the_batch_in_the_fisher_products_leaves_all_else(kind: str) -> None:
    model = make_model(kind)
    batch = make_batch(model, 12)
    v = torch.randn(2, model.policy_size, generator=torch.Generator().manual_seed(0), dtype=FLOAT64)
    damping = torch.full((2, 1), 0.1, dtype=FLOAT64)
    whole, third = (natural.OldPolicy(model, batch, 1.0, fraction) for fraction in (1.0, 1 / 3))
    dist, cache = model.policy(natural.thinned(batch, 1 / 3).obs)
    expected = fisher_vector_product(model, dist, cache, v, damping, 1.0)
    torch.testing.assert_close(third.fisher_product(v, damping), expected)
    assert not torch.isclose(third.fisher_product(v, damping), whole.fisher_product(v, damping)).all()
    assert torch.equal(third.gradient(), whole.gradient()) and third.batch is batch


@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.3, 0.25, 0.1, 1e-6])
def test_a_share_of_the_transitions_is_spread_over_steps_and_cells(fraction: float) -> None:
    steps, cells = 64, 16
    number = torch.arange(steps * cells).expand(2, -1)
    rows = natural.thinned(Rollout(*[number] * 6), fraction).ret[0]
    kept = max(1, round(fraction * steps * cells))
    assert len(rows) == kept
    assert (rows.diff() > 0).all()
    part = steps * cells / kept  # one of each part of the rollout, rounded down
    assert ((rows / part - torch.arange(kept) - 0.5).abs() <= 0.5 + 1 / part).all()
    if kept > cells:
        each = torch.bincount(rows % cells, minlength=cells)
        assert each.min() > 0.5 * each.double().mean() and each.max() < 1.5 * each.double().mean(), each


def test_discrete_actions_have_one_kl_whatever_the_setting() -> None:
    thetas = []
    for kl in ("summed", "per_dimension"):
        model = make_model("discrete")
        update = TRPO([agent_config("trpo", **tiny("trpo", kl=kl))] * 2, model, Streams([0, 1]))
        update.policy_step(make_batch(model, 30))
        thetas.append(model.theta)
    assert torch.equal(thetas[0], thetas[1])


def test_the_critic_of_trpo_learns_its_returns_and_leaves_the_policy() -> None:
    model = make_model("box")
    batch = make_batch(model, 64)
    update = TRPO([agent_config("trpo", **tiny("trpo", critic_epochs=40, lr=0.02))] * 2, model, Streams([0, 1]))
    policy = model.theta[:, : model.policy_size].clone()
    before = (model.value(batch.obs)[0] - batch.ret).square().mean(1)
    logged = update.critic.fit(batch, update.orders(batch, 0, 40))
    after = (model.value(batch.obs)[0] - batch.ret).square().mean(1)
    assert (after < 0.8 * before).all()
    torch.testing.assert_close(logged["value_loss"], before)
    assert torch.equal(model.theta[:, : model.policy_size], policy)


def test_an_interleaved_iteration_starts_its_epochs_where_the_natural_step_ended() -> None:
    learner = make_learner(
        "trpo_ppo", [1, 2], agent={"mode": "interleaved", "trpo.target_kl": 0.5, "ppo.total_steps": 128}
    )
    logs = [learner.iterate(i) for i in range(learner.n_iterations)]
    assert all((log["accepted"] <= 1).all() and "clip_fraction_first" in log for log in logs)
    accepted = torch.stack([log["accepted"] for log in logs]) > 0
    first = torch.stack([log["clip_fraction_first"] for log in logs])
    assert accepted.any()
    # a trust region this wide spends the clip before the first epoch; plain PPO starts inside it
    assert (first[accepted] > 0.05).all()
    plain = make_learner("ppo", [1, 2], agent={"lr": 1e-5})
    assert (plain.iterate(0)["clip_fraction_first"] == 0).all()


@pytest.mark.parametrize("handover", ["parameters", "parameters_and_moments"])
def test_what_the_second_stage_is_handed(handover: str) -> None:
    learner = make_learner("trpo_ppo", [1, 2], agent={"handover": handover, "trpo.total_steps": 64})
    first, second = (stage.recipe for stage in learner.stages)
    assert learner.n_iterations == 3
    learner.iterate(0)
    reached = learner.model.theta.clone()
    moments = {name: tensor.clone() for name, tensor in first.critic.adam.state().items()}
    assert moments["m"].abs().sum() > 0 and (moments["t"] == 8).all()
    learner.stages[1].begin()
    assert torch.equal(learner.model.theta, reached)
    for name, tensor in second.adam.value.state().items():
        expected = moments[name] if handover == "parameters_and_moments" else torch.zeros_like(tensor)
        assert torch.equal(tensor, expected), name
    assert second.adam.policy.m.abs().sum() == 0
    learner.iterate(1)
    for name in moments:  # a copy: the second stage must not move the moments of the first
        assert torch.equal(first.critic.adam.state()[name], moments[name])


def test_each_stage_starts_from_fresh_episodes_and_only_then() -> None:
    learner = make_learner("trpo_ppo", [1], horizon=1000)
    resets: list[Tensor] = []
    env = learner.collector.env
    reset = env.reset
    env.reset = lambda u: resets.append(u) or reset(u)  # type: ignore[method-assign]
    counts = []
    for i in range(learner.n_iterations):
        learner.iterate(i)
        counts.append(len(resets))
    assert counts == [1, 1, 2, 2]
    assert not torch.isclose(resets[0], resets[1]).any()  # other cells than at the start
    assert [learner.stage_of(i).name for i in range(4)] == ["trpo", "trpo", "ppo", "ppo"]


def test_stages_are_charged_whole_rollouts_rounded_up() -> None:
    learner = make_learner("trpo_ppo", [1], agent={"trpo.total_steps": 65, "ppo.total_steps": 64})
    assert learner.n_iterations == 3 and learner.steps_per_iteration == 64


@pytest.mark.parametrize(
    ("name", "overrides", "key"),
    [
        ("ppo", {"minibatch": 30}, "agent.minibatch"),
        ("ppo", {"minibatch": 1}, "agent.minibatch"),
        ("ppo", {"n_envs": 5}, "agent.rollout_steps"),
        ("ppo", {"n_envs": 0}, "agent.n_envs"),
        ("ppo", {"total_steps": 0}, "agent.total_steps"),
        ("ppo", {"gamma": 1.1}, "agent.gamma"),
        ("ppo", {"clip": -0.1}, "agent.clip"),
        ("ppo", {"epochs": 0}, "agent.epochs"),
        ("ppo", {"lr": 0.0}, "agent.lr"),
        ("ppo", {"max_grad_norm": 0.0}, "agent.max_grad_norm"),
        ("trpo", {"kl": "mean"}, "agent.kl"),
        ("trpo", {"target_kl": 0.0}, "agent.target_kl"),
        ("trpo", {"damping": -1.0}, "agent.damping"),
        ("trpo", {"fisher_fraction": 0.0}, "agent.fisher_fraction"),
        ("trpo", {"fisher_fraction": 1.5}, "agent.fisher_fraction"),
        ("trpo", {"line_search_shrink": 1.0}, "agent.line_search_shrink"),
        ("trpo", {"line_search_tries": 0}, "agent.line_search_tries"),
        ("trpo", {"cg_iterations": 0}, "agent.cg_iterations"),
        ("trpo", {"critic_epochs": 0}, "agent.critic_epochs"),
        ("trpo_ppo", {"mode": "both"}, "agent.mode"),
        ("trpo_ppo", {"handover": "everything"}, "agent.handover"),
        ("trpo_ppo", {"ppo.n_envs": 8}, "agent.ppo.n_envs"),
        ("trpo_ppo", {"mode": "interleaved", "ppo.gamma": 0.5}, "agent.ppo.gamma"),
    ],
)
def test_impossible_settings_are_refused_by_name(name: str, overrides: dict, key: str) -> None:
    with pytest.raises(UserError, match=f"^{key}"):
        agent_config(name, **tiny(name, **overrides))
