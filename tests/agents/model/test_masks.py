"""Forbidden actions have probability 0 exactly, and everything else is the distribution over the allowed ones."""

from __future__ import annotations

import pytest
import torch
from fakes.masked import GENES, PickGenes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import kl_divergence

from perturbrl.agents.common.rollout import Collector
from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.agents.model.distributions import Categorical
from perturbrl.agents.model.heads import Model, gradient
from perturbrl.agents.model.modules import ModuleActorCritic
from perturbrl.envs.base import ActionSpace, Step
from perturbrl.errors import UserError
from perturbrl.rng import Streams

from ..helpers import naive, policy_config

RUNS, STATES, SIZE = 2, 4, 6
LARGEST_UNIFORM = 1 - 2**-24
seeds = given(st.integers(0, 200))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def outputs_of(seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(RUNS, STATES, SIZE, generator=generator(seed), dtype=torch.float64)


def some_allowed(seed: int) -> Tensor:
    """At least one action of each state."""
    allowed = torch.rand(RUNS, STATES, SIZE, generator=generator(seed + 50)) < 0.5
    allowed[..., seed % SIZE] = True
    return allowed


def restricted(outputs: Tensor, allowed: Tensor) -> tuple[Tensor, TorchCategorical]:
    """The places of the allowed actions of one state, and torch's distribution over them alone."""
    places = allowed.nonzero().squeeze(1)
    return places, TorchCategorical(logits=outputs[places])


@seeds
@settings(max_examples=10)
def test_numbers_are_those_of_the_allowed_actions_alone(seed: int) -> None:
    outputs, others, allowed = outputs_of(seed), outputs_of(seed + 1), some_allowed(seed)
    old, new = Categorical.of(outputs, allowed), Categorical.of(others, allowed)
    assert (old.logits.exp()[~allowed] == 0).all(), "exactly"
    entropies, kls = torch.zeros(RUNS, STATES), torch.zeros(RUNS, STATES)
    for s, m in torch.cartesian_prod(torch.arange(RUNS), torch.arange(STATES)).tolist():
        places, one = restricted(outputs[s, m], allowed[s, m])
        other = restricted(others[s, m], allowed[s, m])[1]
        for k, action in enumerate(places):
            found = old.log_prob(torch.full((RUNS, STATES), int(action)))[0][s, m]
            torch.testing.assert_close(found, one.log_prob(torch.tensor(k)))
        entropies[s, m], kls[s, m] = one.entropy(), kl_divergence(one, other)
    torch.testing.assert_close(old.entropy().float(), entropies.mean(1))
    torch.testing.assert_close(old.kl(new).float(), kls)
    assert allowed.gather(-1, old.mode().unsqueeze(-1)).all()


@seeds
@settings(max_examples=10)
def test_gradients_are_those_of_autograd_and_zero_at_forbidden_actions(seed: int) -> None:
    outputs, allowed = outputs_of(seed), some_allowed(seed)
    weight = torch.randn(RUNS, STATES, generator=generator(seed + 2), dtype=torch.float64)
    action = allowed.double().argmax(-1)
    leaf = outputs.clone().requires_grad_()
    log_p = torch.log_softmax(leaf.masked_fill(~allowed, -torch.inf), -1)
    (to_log_prob,) = torch.autograd.grad(
        (weight * log_p.gather(-1, action.unsqueeze(-1)).squeeze(-1)).sum(), leaf, retain_graph=True
    )
    finite = log_p.masked_fill(~allowed, 0.0)
    (to_entropy,) = torch.autograd.grad(-(finite.exp() * allowed * finite).sum(-1).mean(1).sum(), leaf)
    dist = Categorical.of(outputs, allowed)
    for found, expected in (
        (dist.log_prob_vjp(dist.log_prob(action)[1], weight)[0], to_log_prob),
        (dist.entropy_vjp()[0], to_entropy),
    ):
        assert found is not None and (found[~allowed] == 0).all()
        torch.testing.assert_close(found, expected)


@seeds
@settings(max_examples=5)
def test_fisher_is_the_hessian_of_the_mean_kl(seed: int) -> None:
    outputs, change, allowed = outputs_of(seed), outputs_of(seed + 1), some_allowed(seed)
    found, _ = Categorical.of(outputs, allowed).fisher(change, None)
    assert (found[~allowed] == 0).all()
    for k in range(RUNS):
        old = Categorical.of(outputs[k : k + 1], allowed[k : k + 1])

        def kl(flat: Tensor, k: int = k, old: Categorical = old) -> Tensor:
            new = Categorical.of(flat.view(1, STATES, SIZE), allowed[k : k + 1])
            return old.kl(new).mean()

        hessian = torch.autograd.functional.hessian(kl, outputs[k].flatten())
        torch.testing.assert_close(found[k].flatten(), hessian @ change[k].flatten())


@seeds
@settings(max_examples=20)
def test_a_forbidden_action_is_never_drawn_and_nothing_overflows(seed: int) -> None:
    outputs, allowed = outputs_of(seed, scale=1e4).float(), some_allowed(seed)
    dist = Categorical.of(outputs, allowed)
    for u in (0.0, 2**-24, 0.3, 0.9, LARGEST_UNIFORM):
        action = dist.sample(torch.full((RUNS, STATES, 1), u))
        assert allowed.gather(-1, action.unsqueeze(-1)).all()
    for number in (dist.logits, dist.entropy(), dist.kl(dist), dist.entropy_vjp()[0], dist.fisher(outputs, None)[0]):
        assert number is not None and torch.isfinite(number).all()


def test_a_mask_that_allows_everything_changes_no_bit() -> None:
    outputs = outputs_of(0).float()
    every = torch.ones_like(outputs, dtype=torch.bool)
    assert torch.equal(Categorical.of(outputs, every).logits, Categorical.of(outputs).logits)


def models(env: PickGenes) -> list[Model]:
    def module(n_in: int, n_out: int) -> nn.Module:
        return nn.Sequential(nn.Linear(n_in, 5), nn.Tanh(), nn.Linear(5, n_out))

    streams = Streams(range(env.n_runs))
    built = ActorCritic.for_env([policy_config()] * env.n_runs, env, env.slices, streams)
    return [built, ModuleActorCritic.for_env(module, module, env, streams)]


@pytest.mark.parametrize("kind", [0, 1])
def test_networks_read_the_mask_from_the_columns_of_the_observation(kind: int) -> None:
    env = PickGenes(2, 8)
    model = models(env)[kind]
    streams = Streams(range(2))
    collector = Collector(model, env, streams, 2 * GENES)
    collector.reset(0)
    batch = collector.collect(0, *[torch.full((2, 1), 0.9)] * 2)
    allowed = env.action_space.allowed(batch.obs)
    assert allowed is not None and 0 < allowed.float().mean() < 1
    policy, _ = model.policy(batch.obs)
    assert isinstance(policy, Categorical) and (policy.logits.exp()[~allowed] == 0).all()
    assert allowed.gather(-1, model.act(batch.obs).unsqueeze(-1)).all()


def test_gradients_of_the_parameters_are_those_of_autograd() -> None:
    env = PickGenes(1, 8)
    model = models(env)[0]
    assert isinstance(model, ActorCritic)
    collector = Collector(model, env, Streams([0]), 4)
    collector.reset(0)
    batch = collector.collect(0, *[torch.full((1, 1), 0.9)] * 2)
    heads = model.heads(batch.obs, batch.action)
    gradient((heads.log_prob * batch.ret).mean(1) + 0.1 * heads.entropy, heads)
    leaf = model.theta[0].clone().requires_grad_()
    allowed = env.action_space.allowed(batch.obs[0])
    assert allowed is not None
    log_p = torch.log_softmax(naive(model.policy_net, leaf, batch.obs[0]).masked_fill(~allowed, -1e9), -1)
    chosen = log_p.gather(-1, batch.action[0].unsqueeze(-1)).squeeze(-1)
    ((chosen * batch.ret[0]).mean() - 0.1 * (log_p.exp() * log_p).sum(-1).mean()).backward()
    assert leaf.grad is not None
    torch.testing.assert_close(model.grad[0], leaf.grad)


def test_a_state_that_allows_nothing_ends_in_one_line() -> None:
    class Stuck(PickGenes):
        def _obs(self) -> Tensor:
            obs = super()._obs()
            obs[1, 2, self.slices["mask"]] = 0
            return obs

        def step(self, action: Tensor, u: Tensor) -> Step:
            return Step(self._obs(), u[..., 0], u[..., 0] < 0, u[..., 0] < 0, self._obs())

    env = Stuck(2, 3)
    collector = Collector(models(env)[0], env, Streams(range(2)), 2)
    collector.reset(0)
    with pytest.raises(UserError, match=r"^env: the state at \[1, 2\] allows no action") as stop:
        collector.collect(0, *[torch.full((2, 1), 0.9)] * 2)
    assert "\n" not in str(stop.value)


def test_a_mask_needs_a_column_for_each_choice_of_a_discrete_task() -> None:
    for kind, mask in (("discrete", slice(2, 4)), ("box", slice(2, 5)), ("discrete", slice(None, 3))):
        with pytest.raises(UserError, match=r"ActionSpace\.mask: must be slice\(k, k \+ 3\)"):
            ActionSpace(kind, 3, mask=mask)
    assert ActionSpace("discrete", 3).allowed(torch.zeros(2, 5)) is None
