"""The methods that the paper sets itself against: each loss and preconditioner against its printed formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize
from torch import Tensor
from torch.distributions import kl_divergence

from perturbrl.agents.common.losses import normalise
from perturbrl.agents.common.rollout import Rollout
from perturbrl.agents.copg import COPG
from perturbrl.agents.fop import FOP, dense_layers
from perturbrl.agents.fr_ppo import FRPPO
from perturbrl.agents.model import distributions
from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.agents.npg import NPG
from perturbrl.agents.ppo import PPO
from perturbrl.agents.trgppo import TRGPPO, RangedRollout, reachable_ratios
from perturbrl.agents.trpo import TRPO
from perturbrl.errors import UserError
from perturbrl.rng import Streams

from .helpers import agent_config, make_batch, make_learner, make_model, naive, tiny, torch_distribution

KINDS = ["box", "discrete"]
FLOAT64 = torch.float64
PLAIN = {"max_grad_norm": 1e9, "normalise_advantage": False}


RECIPES = {"copg": COPG, "fop": FOP, "fr_ppo": FRPPO, "npg": NPG, "ppo": PPO, "trgppo": TRGPPO, "trpo": TRPO}


def recipe(name: str, model: ActorCritic, **overrides: Any) -> Any:
    """A recipe in double precision, one set of settings for all runs."""
    plain = {} if name in ("npg", "trpo") else PLAIN
    config = agent_config(name, **tiny(name, **{**plain, **overrides}))
    made = RECIPES[name]([config] * len(model.theta), model, Streams(range(len(model.theta))))
    for key, value in vars(made.c).items():
        if isinstance(value, Tensor):
            setattr(made.c, key, value.double())
    return made


def gradient_of(model: ActorCritic, k: int, mb: Rollout, surrogate: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Gradient of -surrogate(log pi) + E[(V - R)^2] / 2 for run k by autograd."""
    theta = model.theta[k].clone().requires_grad_()
    log_prob = torch_distribution(model, theta, mb.obs[k]).log_prob(mb.action[k])
    value = naive(model.value_net, theta, mb.obs[k]).squeeze(-1)
    loss = -surrogate(log_prob, k) + 0.5 * (value - mb.ret[k]).square().mean()
    return torch.autograd.grad(loss, theta)[0]


def check_gradient(made: PPO, batch: Rollout, surrogate: Callable[[Tensor, int], Tensor]) -> dict[str, Tensor]:
    expected = [gradient_of(made.model, k, batch, surrogate) for k in range(2)]
    log, _ = made.step(batch, None)
    torch.testing.assert_close(made.model.grad, torch.stack(expected), rtol=1e-6, atol=1e-9)
    return log


@pytest.mark.parametrize("kind", KINDS)
def test_copg_is_the_clipped_policy_gradient(kind: str) -> None:
    model = make_model(kind)
    batch = make_batch(model, 40, drift=0.2)

    def surrogate(log_prob: Tensor, k: int) -> Tensor:
        old, a = batch.log_prob[k], batch.advantage[k]
        clipped = ((log_prob - old).exp().clamp(0.8, 1.2) * old.exp()).log()
        return torch.min(log_prob * a, clipped * a).mean()

    log = check_gradient(recipe("copg", model), batch, surrogate)
    assert (log["clip_fraction"] > 0).all()  # or the clip was not tested


def test_copg_starts_as_ppo_does_and_is_never_above_it() -> None:
    """The ratio is 1 before the first step; log r <= r - 1 makes the objective the lower one ("pessimistic")."""
    model = make_model("box")
    batch = make_batch(model, 40)
    gradients = []
    for name in ("ppo", "copg"):
        recipe(name, model, lr=1e-30).step(batch, None)
        gradients.append(model.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1])
    ratio = torch.linspace(0.1, 3, 40, dtype=FLOAT64).expand(2, -1)
    found = {name: recipe(name, model).surrogate(ratio, batch)[0] for name in ("ppo", "copg")}
    assert (found["copg"] < found["ppo"] - batch.advantage.mean(1)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("distance", ["integral", "density"])
def test_fisher_rao_ppo_is_the_penalised_surrogate(kind: str, distance: str) -> None:
    model = make_model(kind)
    batch = make_batch(model, 40, drift=0.2)

    def surrogate(log_prob: Tensor, k: int) -> Tensor:
        pi, old = log_prob.exp(), batch.log_prob[k].exp()
        change = 4 * (pi.sqrt() - old.sqrt()).square() / (old if distance == "integral" else 1)
        return (pi / old * batch.advantage[k]).mean() - change.mean() / (2 * 0.05)

    log = check_gradient(recipe("fr_ppo", model, distance=distance), batch, surrogate)
    assert (log["fisher_rao"] > 0).all()


def test_the_penalty_of_fisher_rao_ppo_is_the_distance_of_the_two_policies() -> None:
    """Between normals of one width, the integral has a closed form: 8 (1 - exp(-(difference / sd)^2 / 8))."""
    model = make_model("box", n_runs=1, size=1)
    generator = torch.Generator().manual_seed(0)
    action = torch.randn(1, 400_000, generator=generator, dtype=FLOAT64)
    ratio = (action * 0.7 - 0.7**2 / 2).exp()  # N(0.7, 1) over N(0, 1)
    batch = Rollout(action, action, -(action.square()) / 2, action, action, action)
    found = recipe("fr_ppo", model).surrogate(ratio, batch)[1]["fisher_rao"]
    torch.testing.assert_close(found.item(), 8 * (1 - math.exp(-(0.7**2) / 8)), rtol=0.01, atol=0)


def test_fisher_rao_ppo_has_no_clip() -> None:
    with pytest.raises(UserError, match="^agent.clip"):
        agent_config("fr_ppo", clip=0.2)


# --- TRGPPO: the range of the ratio


def searched(z: np.ndarray, delta: float, sign: int) -> float:
    """The extreme log ratio over all normals with independent dimensions, by a general solver from several starts."""

    def kl(x: np.ndarray) -> float:
        m, s = np.split(x.clip(-20, 20), 2)
        return float(np.sum(s + (1 + m**2) / (2 * np.exp(2 * s)) - 0.5))

    def log_ratio(x: np.ndarray) -> float:
        m, s = np.split(x.clip(-20, 20), 2)
        return float(np.sum(z**2 / 2 - s - ((z - m) / np.exp(s)) ** 2 / 2))

    rng = np.random.default_rng(0)
    limit = {"type": "ineq", "fun": lambda x: delta - kl(x)}
    starts = [0.05 * rng.standard_normal(2 * len(z)) for _ in range(8)]
    found = [minimize(lambda x: -sign * log_ratio(x), x, constraints=limit, method="SLSQP") for x in starts]
    return max(sign * log_ratio(r.x) for r in found if kl(r.x) < delta + 1e-6) * sign


@pytest.mark.parametrize("delta", [0.003, 0.1])
@pytest.mark.parametrize("z", [[0.0, 0.0], [1.3, -0.4, 0.1], [2.5]])
def test_the_range_of_a_gaussian_is_what_a_general_solver_finds(z: list[float], delta: float) -> None:
    mean, log_std = torch.tensor([0.3, -1.0, 2.0][: len(z)], dtype=FLOAT64), torch.full((1, len(z)), -0.7).double()
    policy = distributions.Gaussian(mean.view(1, 1, -1), log_std)
    action = policy.sample(torch.tensor(z, dtype=FLOAT64).view(1, 1, -1))
    low, high = reachable_ratios(policy, action, torch.tensor([[delta]], dtype=FLOAT64))
    assert low.log().item() == pytest.approx(searched(np.array(z), delta, -1), rel=1e-3)
    assert high.log().item() == pytest.approx(searched(np.array(z), delta, 1), rel=1e-3)


@pytest.mark.parametrize("p", [1e-4, 0.01, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("delta", [0.001, 0.1])
def test_the_range_of_a_discrete_action_solves_the_papers_equation(p: float, delta: float) -> None:
    """(1 - p) log((1 - p) / (1 - p r)) - p log r = delta, below and above r = 1."""

    def equation(r: float) -> float:
        return (1 - p) * math.log((1 - p) / (1 - p * r)) - p * math.log(r) - delta

    logits = torch.log(torch.tensor([[[p, (1 - p) / 3, (1 - p) * 2 / 3]]], dtype=FLOAT64))
    policy, action = distributions.Categorical.of(logits), torch.zeros(1, 1).long()
    low, high = reachable_ratios(policy, action, torch.tensor([[delta]], dtype=FLOAT64))
    top = (1 - 1e-12) / p
    assert high.item() == pytest.approx(brentq(equation, 1, top, xtol=1e-12) if equation(top) > 0 else top, rel=1e-5)
    floor = 1e-250
    assert low.item() == pytest.approx(brentq(equation, floor, 1, xtol=1e-14) if equation(floor) > 0 else 0, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_range_is_reached_at_delta_and_float32_is_as_good(kind: str) -> None:
    model = make_model(kind, n_runs=1)
    batch = make_batch(model, 200)
    policy = model.policy(batch.obs)[0]
    wide, narrow = (reachable_ratios(policy, batch.action, torch.tensor([[d]])) for d in (0.1, 0.01))
    for (low, high), (inner_low, inner_high) in ((wide, narrow), (narrow, (torch.ones(1), torch.ones(1)))):
        assert (low < inner_low).all() and (inner_high < high).all()
    if kind == "discrete":
        single, action = distributions.Categorical(policy.logits.float()), batch.action
    else:
        single, action = distributions.Gaussian(policy.mean.float(), policy.log_std.float()), batch.action.float()
    for exact, found in zip(narrow, reachable_ratios(single, action, torch.tensor([[0.01]])), strict=True):
        torch.testing.assert_close(found.double(), exact, rtol=1e-3, atol=1e-6)


def test_rare_actions_get_the_wider_range() -> None:
    """What the method is for: exploration. The less likely an action, the further its probability may rise."""
    logits = torch.log(torch.tensor([0.001, 0.049, 0.25, 0.7], dtype=FLOAT64)).expand(1, 4, 4)
    _, high = reachable_ratios(distributions.Categorical.of(logits), torch.arange(4).view(1, 4), torch.tensor([[0.01]]))
    assert (high[0].diff() < 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_trgppo_clips_each_ratio_to_its_range(kind: str) -> None:
    model = make_model(kind)
    batch = make_batch(model, 40, drift=0.4)
    made = recipe("trgppo", model, delta=0.02)
    low, high = reachable_ratios(model.policy(batch.obs)[0], batch.action, made.delta())
    low, high = low.clamp(max=0.8), high.clamp(min=1.2)
    assert (low < 0.8).any() and (high > 1.2).any()

    def surrogate(log_prob: Tensor, k: int) -> Tensor:
        ratio, a = (log_prob - batch.log_prob[k]).exp(), batch.advantage[k]
        return torch.min(ratio * a, torch.min(torch.max(ratio, low[k]), high[k]) * a).mean()

    log = check_gradient(made, RangedRollout(*batch.fields(), low=low, high=high), surrogate)
    assert (log["clip_fraction"] > 0).all()


@pytest.mark.parametrize("env", ["paper", "paper_discrete"])
def test_trgppo_with_a_vanishing_trust_region_is_ppo(env: str) -> None:
    thetas = []
    for name, extra in (("ppo", {"target_kl": 1e9}), ("trgppo", {"delta": 1e-12}), ("trgppo", {"delta": 3.0})):
        learner = make_learner(name, [1, 2], env=env, agent={"lr": 0.02, **extra})
        logs = [learner.iterate(i) for i in range(2)]
        assert (logs[1]["clip_fraction"] > 0).all() or extra == {"delta": 3.0}
        thetas.append(learner.model.theta)
    torch.testing.assert_close(thetas[1], thetas[0], rtol=1e-4, atol=1e-5)
    assert (thetas[2] - thetas[0]).abs().max() > 1e-3


def test_the_default_trust_region_reaches_the_clip_at_the_mean_action() -> None:
    for size in (1, 3, 20):
        model = make_model("box", size=size)
        delta = recipe("trgppo", model, clip=0.3).delta()
        policy = model.policy(make_batch(model, 5).obs)[0]
        low, high = reachable_ratios(policy, policy.mean, delta)
        torch.testing.assert_close(low, torch.full_like(low, 0.7), rtol=1e-6, atol=0)
        assert (high > 1.3).all()


# --- natural gradient without line search


@pytest.mark.parametrize("kind", KINDS)
def test_an_npg_step_is_equation_6_with_the_fisher_matrix_inverted(kind: str) -> None:
    model = make_model(kind)
    batch = make_batch(model, 30)
    made = recipe("npg", model, kl="summed", cg_iterations=300, damping=0.1)
    start, size = model.theta.clone(), model.policy_size
    log = made.policy_step(batch)
    batch = replace(batch, advantage=normalise(batch.advantage))
    for k in range(2):
        here = start[k]
        old = torch_distribution(model, here, batch.obs[k])

        def kl(policy: Tensor, here: Tensor = here, old: object = old, k: int = k) -> Tensor:
            return kl_divergence(old, torch_distribution(model, torch.cat([policy, here[size:]]), batch.obs[k])).mean()

        theta = here.clone().requires_grad_()
        surrogate = torch_distribution(model, theta, batch.obs[k]).log_prob(batch.action[k]) * batch.advantage[k]
        g = torch.autograd.grad(surrogate.mean(), theta)[0][:size]
        fisher = torch.autograd.functional.hessian(kl, here[:size].clone())
        d = torch.linalg.solve(fisher + 0.1 * torch.eye(size, dtype=FLOAT64), g)
        step = math.sqrt(2 * 0.01 / (g @ d)) * d
        # the conjugate gradients end at a residual of 1e-5
        torch.testing.assert_close(model.theta[k, :size] - here[:size], step, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(log["kl"][k], kl(model.theta[k, :size]))
    assert torch.equal(model.theta[:, size:], start[:, size:])


def test_npg_takes_the_whole_step_where_trpo_takes_a_part_of_it() -> None:
    logs, steps = {}, {}
    for name in ("npg", "trpo"):
        model = make_model("box")
        start = model.theta.clone()
        logs[name] = recipe(name, model, target_kl=20.0, kl="summed").policy_step(make_batch(model, 30))
        steps[name] = model.theta - start
    part = logs["trpo"]["step_size"]
    assert (part < 1).all()  # or the line search had nothing to do
    torch.testing.assert_close(steps["trpo"], part.unsqueeze(1) * steps["npg"])
    assert steps["npg"].any(1).all()


# --- first-order preconditioning


def test_the_matrices_go_down_the_gradient_of_the_loss_after_the_step() -> None:
    """theta_t = theta_t-1 - lr g_t-1 M M', and M changes along -dL(theta_t)/dM, with any loss: here g' x."""
    model = make_model("box")
    made = recipe("fop", model, normalised=False, hyper_lr=3.0, lr=0.01)
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(m.shape, generator=generator, dtype=FLOAT64) for m in made.preconditioner.m]
    for m, value in zip(made.preconditioner.m, start, strict=True):
        m.copy_(value)
    before, now = (torch.randn(model.theta.shape, generator=generator, dtype=FLOAT64) for _ in range(2))
    made.preconditioner.previous.copy_(before)
    grad = now.clone()
    made.preconditioner.apply(grad, None)
    untouched = torch.ones(model.theta.shape[1], dtype=torch.bool)
    layers = [*dense_layers(model.policy_net), *dense_layers(model.value_net)]
    for (columns, shape), m, value in zip(layers, made.preconditioner.m, start, strict=True):
        g_before, g = (x[:, columns].reshape(2, *shape) for x in (before, now))
        value = value.clone().requires_grad_()
        loss = (g * -0.01 * (g_before @ value @ value.mT)).sum()  # the part of L(theta_t) that depends on M
        (slope,) = torch.autograd.grad(loss, value)
        torch.testing.assert_close(m, value.detach() - 3.0 * slope)
        torch.testing.assert_close(grad[:, columns].reshape(2, *shape), g @ m @ m.mT)
        untouched[columns] = False
    assert untouched.any() and torch.equal(grad[:, untouched], now[:, untouched])
    assert torch.equal(made.preconditioner.previous, now)


def test_normalised_matrices_keep_their_norm_and_take_no_notice_of_scale() -> None:
    learned = []
    for scale in (1.0, 100.0):
        model = make_model("box")
        made = recipe("fop", model, hyper_lr=0.3)
        generator = torch.Generator().manual_seed(0)
        for _ in range(4):
            made.preconditioner.apply(scale * torch.randn(model.theta.shape, generator=generator, dtype=FLOAT64), None)
        learned.append(made.preconditioner.m)
        for m in made.preconditioner.m:
            norm = torch.linalg.matrix_norm(m)
            torch.testing.assert_close(norm, torch.full_like(norm, math.sqrt(m.shape[1])))
    for one, other in zip(*learned, strict=True):
        torch.testing.assert_close(one, other)
    assert (learned[0][0] - torch.eye(5, dtype=FLOAT64)).abs().max() > 0.1


@pytest.mark.parametrize("env", ["paper", "paper_discrete"])
def test_identity_matrices_are_ppo(env: str) -> None:
    still = {"hyper_lr": 0.0, "normalised": False}
    thetas = []
    for name, extra in (("ppo", {}), ("fop", still), ("fop", {"hyper_lr": 0.3})):
        learner = make_learner(name, [1, 2], env=env, agent={"target_kl": 1e9, **extra})  # PPO too runs step by step
        for i in range(2):
            learner.iterate(i)
        thetas.append(learner.model.theta)
    assert torch.equal(thetas[0], thetas[1])
    assert not torch.equal(thetas[0], thetas[2])


def test_a_run_that_has_stopped_keeps_its_matrices() -> None:
    model = make_model("box")
    made = recipe("fop", model, hyper_lr=0.3)
    generator = torch.Generator().manual_seed(0)
    draw = lambda: torch.randn(model.theta.shape, generator=generator, dtype=FLOAT64)  # noqa: E731
    for _ in range(2):
        made.preconditioner.apply(draw(), None)
    kept = {name: tensor.clone() for name, tensor in made.preconditioner.state().items()}
    made.preconditioner.apply(draw(), torch.tensor([True, False]))
    for name, tensor in made.preconditioner.state().items():
        torch.testing.assert_close(tensor[1], kept[name][1])
        assert name == "m5" or not torch.equal(tensor[0], kept[name][0]), name  # m5 is 1 x 1: its norm is all it has


def test_fop_preconditions_the_layers_of_branches() -> None:
    model = make_model("box", net="branches")
    made = FOP([agent_config("fop", **tiny("fop"))] * 2, model, Streams([0, 1]))
    covered = torch.zeros(model.theta.shape[1], dtype=torch.int)
    for columns, (i, o) in made.preconditioner.layers:
        covered[columns] += 1
        assert columns.stop - columns.start == i * o
    assert covered.max() == 1
    assert covered.sum() == model.policy_net.n_params + model.value_net.n_params
    assert len(made.preconditioner.layers) == 10  # two branches of two layers and a head, twice
