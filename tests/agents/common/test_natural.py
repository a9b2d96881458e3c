from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import kl_divergence

from perturbrl.agents.common.losses import importance_ratio, surrogate
from perturbrl.agents.common.natural import (
    LineSearch,
    OldPolicy,
    conjugate_gradient,
    fisher_vector_product,
    line_search,
    mean_kl,
    natural_step,
)
from perturbrl.agents.common.rollout import Rollout
from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.agents.model.distributions import joined

from ..helpers import make_batch, make_model, torch_distribution

KINDS = ["box", "discrete"]
FLOAT64 = torch.float64
NETS = [{"net": "trunk"}, {"net": "branches"}, {"net": "trunk", "hidden": [5], "activation": "relu"}]


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=FLOAT64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("policy", NETS)
def test_policy_gradient_against_autograd(kind: str, policy: dict) -> None:
    model = make_model(kind, **policy)
    batch = make_batch(model, 12)
    found = OldPolicy(model, batch, 1.0).gradient()
    for k in range(2):
        theta = model.theta[k].clone().requires_grad_()
        log_prob = torch_distribution(model, theta, batch.obs[k]).log_prob(batch.action[k])
        (expected,) = torch.autograd.grad((log_prob * batch.advantage[k]).mean(), theta)
        torch.testing.assert_close(found[k], expected[: model.policy_size])


def explicit_fisher(model: ActorCritic, k: int, obs: Tensor) -> Tensor:
    """The Hessian of the mean KL at the policy of run k, [n, n], by double backward."""
    here = model.theta[k]
    old = torch_distribution(model, here, obs[k])

    def kl(policy: Tensor) -> Tensor:
        new = torch_distribution(model, torch.cat([policy, here[model.policy_size :]]), obs[k])
        return kl_divergence(old, new).mean()

    return torch.autograd.functional.hessian(kl, here[: model.policy_size].clone())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("policy", NETS)
def test_fisher_vector_product_against_the_explicit_fisher(kind: str, policy: dict) -> None:
    model = make_model(kind, **policy)
    batch = make_batch(model, 10)
    dist, cache = model.policy(batch.obs)
    v, damping, scale = draw(5, 2, model.policy_size), torch.tensor([[0.1], [0.02]], dtype=FLOAT64), 0.25
    found = fisher_vector_product(model, dist, cache, v, damping, scale)
    for k in range(2):
        fisher = explicit_fisher(model, k, batch.obs)
        assert torch.linalg.matrix_norm(fisher) > 1e-3
        # the scale is that of the KL; damping is added unscaled
        torch.testing.assert_close(found[k], scale * fisher @ v[k] + damping[k] * v[k])


@given(st.integers(0, 300))
@settings(max_examples=15)
def test_conjugate_gradient_against_a_direct_solve(seed: int) -> None:
    n = 12
    matrices = []
    for k, condition in enumerate((1.0, 30.0, 1e4)):
        q, _ = torch.linalg.qr(draw(seed + k, n, n))
        matrices.append(q @ torch.diag(torch.logspace(0, -math.log10(condition), n, dtype=FLOAT64)) @ q.T)
    a, b = torch.stack(matrices), draw(seed + 9, 3, n)
    found = conjugate_gradient(lambda v: (a @ v.unsqueeze(-1)).squeeze(-1), b, 3 * n, tolerance=1e-22)
    torch.testing.assert_close(found, torch.linalg.solve(a, b), rtol=1e-5, atol=1e-5)


def test_a_row_that_has_converged_stands_still() -> None:
    n = 8
    q, _ = torch.linalg.qr(draw(0, n, n))
    hard = q @ torch.diag(torch.logspace(0, -2, n).double()) @ q.T
    a = torch.stack([torch.eye(n, dtype=FLOAT64) * 2, hard, torch.eye(n, dtype=FLOAT64)])
    b = draw(1, 3, n)
    b[2] = 0.0

    def solve(iterations: int) -> Tensor:
        return conjugate_gradient(lambda v: (a @ v.unsqueeze(-1)).squeeze(-1), b, iterations)

    one, few, many = solve(1), solve(3), solve(30)
    torch.testing.assert_close(one[0], b[0] / 2)
    assert torch.equal(one[0], many[0])
    assert torch.equal(many[2], torch.zeros(n, dtype=FLOAT64))  # no division of 0 by 0
    assert (few[1] - many[1]).abs().max() > 1e-3
    torch.testing.assert_close(many[1], torch.linalg.solve(hard, b[1]), rtol=1e-3, atol=1e-3)


def test_conjugate_gradient_after_k_iterations_is_the_same_alone() -> None:
    root = draw(0, 3, 9, 9)
    a, b = root @ root.mT + 0.1 * torch.eye(9, dtype=FLOAT64), draw(1, 3, 9)
    together = conjugate_gradient(lambda v: (a * v.unsqueeze(1)).sum(-1), b, 4)
    for k in range(3):
        alone = conjugate_gradient(lambda v, k=k: (a[k : k + 1] * v.unsqueeze(1)).sum(-1), b[k : k + 1], 4)
        torch.testing.assert_close(together[k], alone[0], rtol=1e-12, atol=1e-12)


def test_natural_step_is_equation_6_and_has_the_kl_asked_for_to_second_order() -> None:
    root = draw(0, 2, 6, 6)
    h, g = root @ root.mT + torch.eye(6, dtype=FLOAT64), draw(1, 2, 6)
    d = torch.linalg.solve(h, g)
    delta = torch.tensor([[0.01], [0.3]], dtype=FLOAT64)
    step = natural_step(g, d, delta)
    for k in range(2):
        torch.testing.assert_close(step[k], torch.sqrt(2 * delta[k] / (g[k] @ d[k] + 1e-8)) * d[k])
        torch.testing.assert_close(0.5 * step[k] @ h[k] @ step[k], delta[k, 0], rtol=1e-6, atol=0)
    assert torch.equal(natural_step(torch.zeros_like(g), torch.zeros_like(g), delta), torch.zeros_like(g))
    assert torch.isfinite(natural_step(g, -d, delta)).all()  # negative curvature by rounding: no NaN


def search(
    model: ActorCritic, batch: Rollout, step: Tensor, delta: float, tries: int = 10, scale: float = 1.0
) -> LineSearch:
    runs = len(step)
    full = torch.full((runs, 1), delta, dtype=FLOAT64)
    shrink = torch.full((runs, 1), 0.8, dtype=FLOAT64)
    return line_search(OldPolicy(model, batch, scale), batch, step, full, shrink, tries)


def trpo_step(model: ActorCritic, batch: Rollout, delta: float, factor: float, scale: float = 1.0) -> Tensor:
    old = OldPolicy(model, batch, scale)
    g = old.gradient()
    damping = torch.full((len(g), 1), 1e-3, dtype=FLOAT64)
    d = conjugate_gradient(lambda v: old.fisher_product(v, damping), g, 15)
    return factor * natural_step(g, d, torch.full((len(g), 1), delta, dtype=FLOAT64))


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(0, 500), st.floats(0.2, 4.0), st.floats(1e-3, 0.1))
@settings(max_examples=20)
def test_an_accepted_step_keeps_the_kl_and_raises_the_surrogate(kind, seed, factor, delta) -> None:
    model = make_model(kind, n_runs=3, seed=seed)
    batch = make_batch(model, 24, seed=seed)
    before = model.theta.clone()
    old = joined([model.policy(batch.obs)[0]])
    step = trpo_step(model, batch, delta, factor)
    found = search(model, batch, step, delta)
    new, _ = model.policy(batch.obs)
    kl = mean_kl(old, new, 1.0)
    ratio = importance_ratio(new.log_prob(batch.action)[0], batch.log_prob)
    gain = surrogate(ratio, batch.advantage) - batch.advantage.mean(1)
    for k in range(3):
        if found.accepted[k]:
            assert kl[k] < delta and gain[k] > 0
            torch.testing.assert_close(found.kl[k], kl[k])
            torch.testing.assert_close(found.improvement[k], gain[k])
            torch.testing.assert_close(found.step[k], 0.8 ** found.backtracks[k])
            moved = model.theta[k, : model.policy_size] - before[k, : model.policy_size]
            torch.testing.assert_close(moved, found.step[k] * step[k])
        else:
            assert torch.equal(model.theta[k], before[k])
    assert torch.equal(model.theta[:, model.policy_size :], before[:, model.policy_size :])
    # backtracking along the natural gradient works almost always: a search that never accepts is broken
    assert found.accepted.any()


def test_a_step_downhill_is_refused_and_leaves_everything_as_it_was() -> None:
    model = make_model("box")
    batch = make_batch(model, 24)
    before = model.theta.clone()
    found = search(model, batch, -trpo_step(model, batch, 0.01, 0.5), 0.01, tries=4)
    assert torch.equal(model.theta, before)
    assert not found.accepted.any()
    for name in ("kl", "step", "improvement"):
        assert (getattr(found, name) == 0).all(), name
    assert found.backtracks.tolist() == [4, 4]


def test_a_step_that_is_not_finite_is_refused() -> None:
    model = make_model("box")
    batch = make_batch(model, 24)
    before = model.theta.clone()
    step = trpo_step(model, batch, 0.01, 0.5)
    step[0] = torch.nan
    found = search(model, batch, step, 0.01)
    assert found.accepted.tolist() == [False, True]
    assert torch.equal(model.theta[0], before[0]) and torch.isfinite(model.theta).all()


def test_runs_are_masked_and_never_mixed() -> None:
    model = make_model("box", n_runs=3)
    batch = make_batch(model, 24)
    step = trpo_step(model, batch, 0.01, 0.5)
    step[1] *= -1  # never acceptable
    step[2] *= 8  # after some tries
    start = model.theta.clone()
    together = search(model, batch, step, 0.01)
    assert together.accepted.tolist() == [True, False, True]
    assert together.backtracks[0] == 0 and together.backtracks[2] > 0
    for k in range(3):
        alone = make_model("box", n_runs=1)
        alone.theta = start[k : k + 1].clone()
        part = Rollout(*(getattr(batch, name)[k : k + 1] for name in Rollout.__dataclass_fields__))
        found = search(alone, part, step[k : k + 1], 0.01)
        torch.testing.assert_close(alone.theta[0], model.theta[k], rtol=1e-12, atol=1e-12)
        assert found.backtracks[0] == together.backtracks[k] and found.accepted[0] == together.accepted[k]


def test_the_scale_widens_the_trust_region() -> None:
    kls = {}
    for scale in (1.0, 1 / 3):
        model = make_model("box")
        batch = make_batch(model, 200)
        old = joined([model.policy(batch.obs)[0]])
        found = search(model, batch, trpo_step(model, batch, 0.01, 0.9, scale), 0.01, scale=scale)
        assert found.accepted.all()
        summed = mean_kl(old, model.policy(batch.obs)[0], 1.0)
        torch.testing.assert_close(found.kl, summed * scale)
        kls[scale] = summed
    assert (kls[1 / 3] > 1.5 * kls[1.0]).all() and (kls[1.0] < 0.01).all()
