"""Adapters against x W0 + (alpha / r) (x A) B written out, and autograd of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.agents.model.adapter_layout import AdapterPlan, Part
from perturbrl.agents.model.adapters import Adapted
from perturbrl.agents.model.heads import gradient
from perturbrl.agents.model.networks import Branches, Layer, Mlp, Sequential

from ..helpers import make_batch, make_model

RANK, ALPHA = 2, (3.0, 0.5)
PLANS = {
    "all": AdapterPlan(RANK, "all", "all", False, True),
    "hidden": AdapterPlan(RANK, "hidden", "whole", False, False),
    "output": AdapterPlan(RANK, "output", "output", True, True),
    "whole": AdapterPlan(RANK, "whole", "hidden", True, True),
}


def adapted(base: ActorCritic, plan: AdapterPlan, trains_a: bool, moved: bool = True) -> Adapted:
    """Adapters that have begun on ``base``; ``moved``: every trained number is at random."""
    model = Adapted(base, plan, ALPHA, (0, 1), trains_a)
    model.begin()
    if moved:
        generator = torch.Generator().manual_seed(1)
        model.theta += 0.3 * torch.randn(model.theta.shape, generator=generator, dtype=model.theta.dtype)
    return model


def written(model: Adapted, part: Part, net: Layer, k: int, theta: Tensor, x: Tensor) -> Tensor:
    """One network of run ``k`` with its adapters beside it, from the trained parameters ``theta`` [m]."""
    row = model.start[k]
    for ours, theirs in part.whole:
        row = row.index_copy(0, torch.arange(ours.start, ours.stop), theta[theirs])
    a_of = theta if model.trains_a else model.fixed[k]

    def dense(net: Layer, x: Tensor) -> Tensor:
        match net:
            case Sequential():
                for inner in net.layers:
                    x = dense(inner, x)
                return x
            case Branches():
                return torch.cat([dense(n, x[:, s]) for s, n in zip(net.slices, net.networks, strict=True)], -1)
            case Mlp():
                at = net.chain.start
                for layer in net.layers:
                    i, o = layer.n_in, layer.n_out
                    z = x @ row[at : at + i * o].view(i, o) + row[at + i * o : at + i * o + o]
                    for f in part.factors:
                        if f.weight.start == at:
                            a, b = a_of[f.a].view(i, RANK), theta[f.b].view(RANK, o)
                            z = z + ALPHA[k] / RANK * (x @ a) @ b
                    x = {"identity": z, "tanh": torch.tanh(z), "relu": torch.relu(z)}[layer.activation]
                    at += (i + 1) * o
                return x
        raise TypeError(net)

    return dense(net, x)


def log_std(model: Adapted, k: int, theta: Tensor) -> Tensor:
    columns = model.log_std_columns
    return theta[columns] if columns.stop > columns.start else model.start[k, model.base.log_std_columns]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("trains_a", [False, True])
@pytest.mark.parametrize("net", ["trunk", "branches"])
def test_merged_networks_are_the_adapted_ones(plan: str, trains_a: bool, net: str) -> None:
    base = make_model("box", net=net)
    base.theta, base.grad = base.theta.float(), base.grad.float()
    model = adapted(base, PLANS[plan], trains_a)
    model.merge()
    x = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(2))
    mean, value = base.policy(x)[0].mean, base.value(x)[0]
    for k in range(2):
        with_adapters = written(model, model.policy_part, base.policy_net, k, model.theta[k], x[k])
        values = written(model, model.value_part, base.value_net, k, model.theta[k], x[k]).squeeze(-1)
        torch.testing.assert_close(mean[k], with_adapters, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(value[k], values, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(base.theta[k, base.log_std_columns], log_std(model, k, model.theta[k]))


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("trains_a", [False, True])
@pytest.mark.parametrize(("kind", "net"), [("box", "trunk"), ("box", "branches"), ("discrete", "trunk")])
def test_the_gradient_is_that_of_the_formula(plan: str, trains_a: bool, kind: str, net: str) -> None:
    base = make_model(kind, net=net)
    model = adapted(base, PLANS[plan], trains_a)
    batch = make_batch(base, 20)
    heads = model.heads(batch.obs, batch.action)
    value_loss = (heads.value - batch.ret).square().mean(1)
    gradient(-(heads.log_prob * batch.advantage).mean(1) + 0.7 * value_loss - 0.1 * heads.entropy, heads)
    for k in range(2):
        theta = model.theta[k].clone().requires_grad_()
        outputs = written(model, model.policy_part, base.policy_net, k, theta, batch.obs[k])
        value = written(model, model.value_part, base.value_net, k, theta, batch.obs[k]).squeeze(-1)
        pi: torch.distributions.Distribution
        if kind == "discrete":
            pi = torch.distributions.Categorical(logits=outputs)
        else:
            normal = torch.distributions.Normal(outputs, log_std(model, k, theta).exp().expand_as(outputs))
            pi = torch.distributions.Independent(normal, 1)
        loss = -(pi.log_prob(batch.action[k]) * batch.advantage[k]).mean()
        loss = loss + 0.7 * (value - batch.ret[k]).square().mean() - 0.1 * pi.entropy().mean()
        (expected,) = torch.autograd.grad(loss, theta)
        torch.testing.assert_close(model.grad[k], expected)
        assert expected.abs().sum() > 0


@pytest.mark.parametrize("trains_a", [False, True])
def test_a_change_of_the_adapters_is_pushed_forward(trains_a: bool) -> None:
    base = make_model("box")
    model = adapted(base, PLANS["all"], trains_a)
    x = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    v = torch.randn(2, model.policy_size, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    d_mean, d_log_std = model.policy_jvp(model.policy(x)[1], v)
    for k in range(2):
        full = torch.cat([v[k], torch.zeros(model.theta.shape[1] - model.policy_size, dtype=v.dtype)])

        def outputs(theta: Tensor, k: int = k) -> Tensor:
            return written(model, model.policy_part, base.policy_net, k, theta, x[k])

        _, expected = torch.func.jvp(outputs, (model.theta[k],), (full,))
        torch.testing.assert_close(d_mean[k], expected)
        torch.testing.assert_close(d_log_std[k], v[k, model.log_std_columns])


@pytest.mark.parametrize("trains_a", [False, True])
def test_adapters_begin_where_the_networks_are(trains_a: bool) -> None:
    base = make_model("box")
    before = base.theta.clone()
    model = adapted(base, PLANS["all"], trains_a, moved=False)
    model.merge()
    assert torch.equal(base.theta, before)
    widths = [f.n_in for f in (*model.policy_part.factors, *model.value_part.factors)]
    spread = [(model._a[:, f.a] * f.n_in**0.5).std() for f in model.policy_part.factors]
    assert len(widths) == 6 and all(0.4 < s < 1.8 for s in spread)  # normal with variance 1 / I


def test_the_stage_with_a_goes_on_from_the_one_without() -> None:
    base = make_model("box")
    convex = adapted(base, PLANS["all"], False)
    convex.merge()
    reached = base.theta.clone()
    after = Adapted(base, PLANS["all"], ALPHA, (0, 1), True)
    after.take_over(convex)
    base.theta.zero_()
    after.merge()
    for layer in (*after.policy_part.factors, *after.value_part.factors):
        assert torch.equal(layer.w(base.theta), layer.w(reached)) and layer.w(reached).abs().min() > 0
    assert torch.equal(base.theta[:, base.log_std_columns], reached[:, base.log_std_columns])
    assert torch.equal(after.start, convex.start)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("trains_a", [False, True])
def test_every_trained_number_is_in_one_parameter_tensor(plan: str, trains_a: bool) -> None:
    model = adapted(make_model("box"), PLANS[plan], trains_a)
    times = torch.zeros(model.theta.shape[1])
    for columns in model.parameter_columns():
        times[columns] += 1
    batch = make_batch(model.base, 20)
    heads = model.heads(batch.obs, batch.action)
    gradient((heads.log_prob * batch.advantage).mean(1) + heads.value.square().mean(1), heads)
    assert torch.equal(times, (model.grad != 0).any(0).float())


def second_differences(model: Adapted, along: Tensor, x: Tensor, target: Tensor) -> Tensor:
    """Return of each run those of E (V - target)^2 at 21 points of a line through the trained parameters."""
    losses, origin = [], model.theta.clone()
    for t in torch.linspace(-3, 3, 21, dtype=origin.dtype):
        model.theta.copy_(origin + t * along)
        losses.append((model.value(x)[0] - target).square().mean(1))
    model.theta.copy_(origin)
    return torch.stack(losses).diff(dim=0).diff(dim=0)


def test_a_quadratic_loss_is_convex_in_b_of_a_linear_layer_and_not_in_a_and_b() -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, 30, 4, generator=generator, dtype=torch.float64)
    target = torch.randn(2, 30, generator=generator, dtype=torch.float64)
    lowest = {}
    for trains_a in (False, True):
        model = adapted(make_model("box"), AdapterPlan(RANK, "all", "output", False, True), trains_a)
        lines = torch.randn(40, *model.theta.shape, generator=generator, dtype=torch.float64)
        bends = torch.stack([second_differences(model, line, x, target) for line in lines])
        assert bends.abs().amax() > 1e-3  # the loss does change along them
        lowest[trains_a] = bends.min()
    assert lowest[False] >= -1e-10
    assert lowest[True] < -1e-3
