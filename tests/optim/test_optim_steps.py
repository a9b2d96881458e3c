"""Steps of every optimiser: by hand, against torch, and the form for populations against the classes."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import Tensor

from perturbrl import paths
from perturbrl.agents.optim import PopulationOptimiser
from perturbrl.config import bind
from perturbrl.errors import UserError
from perturbrl.optim import ASGDAdam, ASGDAMSGrad, Padam, by_name
from perturbrl.optim.settings import NAMES, AsgdConfig, OptimizerConfig
from perturbrl.optim.switch import Switch

SHAPES = ((3, 4), (4,), (4, 2), (2,))
ENDS = [sum(math.prod(s) for s in SHAPES[:k]) for k in range(len(SHAPES) + 1)]
COLUMNS = [slice(a, b) for a, b in itertools.pairwise(ENDS)]
N = ENDS[-1]


def config(name: str, **changes: Any) -> OptimizerConfig:
    values = OmegaConf.load(paths.conf_dir() / "agent" / "optimizer" / f"{name}.yaml")
    return bind(OptimizerConfig, OmegaConf.merge(values, changes), "agent.optimizer")


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rows(grad: Tensor) -> list[Tensor]:
    return [grad[part].reshape(shape) for part, shape in zip(COLUMNS, SHAPES, strict=True)]


# --- by hand, two steps down the gradients (0.1, -0.2) and (0.3, 0.4) from (1, 2), in Python's floats

LR, G = 0.5, ((0.1, -0.2), (0.3, 0.4))


def adam_like(beta1: float, beta2: float, eps: float, largest: bool, power: float, decay: float = 0.0) -> list[float]:
    out = []
    for theta, grads in zip((1.0, 2.0), zip(*G, strict=True), strict=True):
        m = v = top = 0.0
        for t, g in enumerate(grads, 1):
            m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
            top = max(top, v) if largest else v
            root = math.sqrt(top / (1 - beta2**t)) + eps
            theta = theta - LR * decay * theta - LR * m / (1 - beta1**t) / root ** (2 * power)
        out.append(theta)
    return out


def descent(momentum: float, nesterov: bool) -> list[float]:
    out = []
    for theta, grads in zip((1.0, 2.0), zip(*G, strict=True), strict=True):
        b = 0.0
        for g in grads:
            b = momentum * b + g
            theta -= LR * (g + momentum * b if nesterov else b)
        out.append(theta)
    return out


def rmsprop(alpha: float, eps: float) -> list[float]:
    out = []
    for theta, grads in zip((1.0, 2.0), zip(*G, strict=True), strict=True):
        v = 0.0
        for g in grads:
            v = alpha * v + (1 - alpha) * g * g
            theta -= LR * g / (math.sqrt(v) + eps)
        out.append(theta)
    return out


BY_HAND: dict[str, tuple[dict[str, Any], list[float]]] = {
    "adam": ({"beta1": 0.8, "beta2": 0.6}, adam_like(0.8, 0.6, 1e-5, False, 0.5)),
    "adamw": ({"weight_decay": 0.1}, adam_like(0.9, 0.999, 1e-5, False, 0.5, 0.1)),
    "amsgrad": ({"beta2": 0.1}, adam_like(0.9, 0.1, 1e-5, True, 0.5)),
    "padam": ({"partial": 0.125, "eps": 0.01}, adam_like(0.9, 0.999, 0.01, True, 0.125)),
    "rmsprop": ({"alpha": 0.7}, rmsprop(0.7, 1e-5)),
    "sgd": ({"momentum": 0.9}, descent(0.9, False)),
    "nesterov": ({"momentum": 0.9, "nesterov": True}, descent(0.9, True)),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_two_steps_by_hand(case: str) -> None:
    changes, expected = BY_HAND[case]
    theta = torch.tensor([[1.0, 2.0]])
    optimiser = PopulationOptimiser(theta, [LR], config(case if case in NAMES else "sgd", **changes), [slice(0, 2)], "")
    for g in G:
        optimiser.step(torch.tensor([g]))
    assert theta[0].tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_asgd_by_hand() -> None:
    """After one step v is proportional to g^2: of (1, 1, 16) one is above the mean, of (1, 4) one too."""
    grads, columns = torch.tensor([[1.0, -1.0, 4.0, 1.0, 2.0]]), [slice(0, 3), slice(3, 5)]
    for scope, adaptive, expected in (
        ("tensor", 0.5, [0.1] * 5),  # 1 < 0.5 * 2 is false
        ("tensor", 0.6, [0.001] * 3 + [0.1] * 2),  # 1 < 1.2, and 1 < 0.6 is false
        ("global", 0.6, [0.1] * 5),  # 2 < 0.6 * 3 is false
        ("global", 0.7, [0.001] * 5),  # 2 < 2.1
    ):
        for name in ("asgd_adam", "asgd_amsgrad"):
            theta = torch.zeros(1, 5)
            c = config(name, lr_min=0.001, scope=scope, adaptive=adaptive, eps=1e-12)
            optimiser = PopulationOptimiser(theta, [0.1], c, columns, "policy")
            optimiser.step(grads.clone())
            assert (-theta * grads.sign())[0].tolist() == pytest.approx(expected), (
                "Adam's first step is the sign times lr"
            )
            share = (
                sum(columns[k].stop - columns[k].start > 0 and expected[columns[k].start] == 0.1 for k in (0, 1)) / 2
            )
            assert optimiser.optimiser_log()["policy_lr_max_share"].tolist() == [share]


def test_the_variant_of_2026_by_hand() -> None:
    """It reads the sign of mean(m): (1, -3) is negative (lr_max), (2, 1) is positive (lr_min)."""
    grads, columns = torch.tensor([[1.0, -3.0, 2.0, 1.0]]), [slice(0, 2), slice(2, 4)]
    for scope, expected in (("tensor", [0.1, 0.1, 0.001, 0.001]), ("global", [0.001] * 4)):
        theta = torch.zeros(1, 4)
        c = config("asgd_adam", lr_min=0.001, moment="first", bias_correction=False, beta1=0.9, beta2=0.9, scope=scope)
        PopulationOptimiser(theta, [0.1], c, columns, "").step(grads.clone())
        size = 0.1 / math.sqrt(0.1)  # m / sqrt(v) = 0.1 g / sqrt(0.1 g^2)
        assert (-theta * grads.sign())[0].tolist() == pytest.approx([e * size for e in expected], rel=1e-3)


def test_the_printed_form_never_switches_and_equal_moments_do_not_either() -> None:
    v = draw(0, 1, 1000).square()
    assert v.abs().mean() == v.mean(), "what the paper's pseudo-code compares"
    switch = Switch(lr_min=1e-7, adaptive=0.5, scope="tensor", moment="second")
    equal = torch.full((1, 1001), 0.1)
    assert switch.at_max(switch.votes({"m": equal, "v": equal}, [slice(None)])).all()
    skewed = torch.tensor([[1.0] * 9 + [100.0]])
    assert not switch.at_max(switch.votes({"m": skewed, "v": skewed}, [slice(None)])).any()


# --- against torch, and form against form

TORCH: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "amsgrad": lambda p, **k: torch.optim.Adam(p, amsgrad=True, **k),
    "adamw": lambda p, **k: torch.optim.AdamW(p, weight_decay=1e-4, **k),
}


def of_torch(name: str, c: Any, params: list[Tensor], lr: float) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(params, lr=lr, momentum=c.momentum, nesterov=c.nesterov)
    if name == "rmsprop":
        return torch.optim.RMSprop(params, lr=lr, alpha=c.alpha, eps=c.eps)
    if name == "padam":
        return Padam(params, lr=lr, betas=(c.beta1, c.beta2), eps=c.eps, partial=c.partial)
    if isinstance(c, AsgdConfig):
        kind = ASGDAdam if name == "asgd_adam" else ASGDAMSGrad
        keys = ("lr_min", "adaptive", "scope", "moment", "bias_correction", "eps")
        return kind(params, lr=lr, betas=(c.beta1, c.beta2), **{key: getattr(c, key) for key in keys})
    return TORCH[name](params, lr=lr, betas=(c.beta1, c.beta2), eps=c.eps)


SWITCHING = ("asgd_adam", "asgd_amsgrad")
VARIANTS = [
    *((name, {}) for name in NAMES),
    ("sgd", {"nesterov": True}),
    *(
        (n, {"scope": s, "moment": m})
        for n in ("asgd_adam", "asgd_amsgrad")
        for s, m in (("global", "second"), ("global", "first"))
    ),
    ("asgd_adam", {"moment": "first", "bias_correction": False, "beta2": 0.9}),
]


def both_forms(name: str, changes: dict[str, Any], seed: int, scales: list[float]) -> tuple[Tensor, list[Tensor], Any]:
    """Take a step for each of ``scales``, the sizes of the gradients, with a population of three and with the class."""
    c, rates = config(name, **changes), [1e-2, 3e-3, 0.1]
    theta = draw(seed, 3, N)
    leaves = [p.clone().requires_grad_() for p in rows(theta[1])]
    population, single = PopulationOptimiser(theta, rates, c, COLUMNS, "x"), of_torch(name, c, leaves, rates[1])
    for k, scale in enumerate(scales):
        grad = draw(seed + k + 1, 3, N) * scale
        for leaf, g in zip(leaves, rows(grad[1]), strict=True):
            leaf.grad = g.clone()
        single.step()
        population.step(grad)
    return theta[1], leaves, (population, single)


@pytest.mark.parametrize(("name", "changes"), VARIANTS, ids=str)
@given(seed=st.integers(0, 10_000), scales=st.lists(st.floats(1e-4, 1e3), min_size=1, max_size=5))
@settings(max_examples=15)
def test_a_run_of_the_population_moves_as_the_class(name, changes, seed: int, scales: list[float]) -> None:
    theta, leaves, (population, single) = both_forms(name, changes, seed, scales)
    flat = torch.cat([leaf.detach().reshape(-1) for leaf in leaves])
    if isinstance(single, ASGDAdam):
        assert torch.equal(theta, flat), "one formula"
    else:  # torch rounds otherwise, and a power by where a number stands in memory
        torch.testing.assert_close(theta, flat, rtol=2e-5, atol=1e-6)
    if isinstance(single, ASGDAdam):
        counts = population.state()["switched"][1]
        assert counts[1] == len(SHAPES) * len(scales) and 0 <= counts[0] <= counts[1]


@given(st.integers(0, 10_000), st.integers(1, 4))
@settings(max_examples=15)
def test_the_ends_of_padam_are_amsgrad_and_momentum(seed: int, n_steps: int) -> None:
    one, other = draw(seed, 2, N), draw(seed, 2, N)
    padam = PopulationOptimiser(one, [1e-2] * 2, config("padam", partial=0.5), COLUMNS, "")
    amsgrad = PopulationOptimiser(other, [1e-2] * 2, config("amsgrad"), COLUMNS, "")
    for k in range(n_steps):
        for optimiser in (padam, amsgrad):
            optimiser.step(draw(seed + k + 1, 2, N))
    assert torch.equal(one, other)
    free = draw(seed, 1, N)
    grad = draw(seed + 1, 1, N)
    before = free.clone()
    PopulationOptimiser(free, [1e-2], config("padam", partial=0.0), COLUMNS, "").step(grad.clone())
    torch.testing.assert_close(before - free, 1e-2 * grad, rtol=1e-3, atol=1e-6)


@given(st.integers(0, 10_000), st.floats(0, 3), st.sampled_from(["tensor", "global"]))
@settings(max_examples=30)
def test_a_larger_factor_never_turns_lr_min_into_lr_max(seed: int, adaptive: float, scope: str) -> None:
    state = {"m": draw(seed, 2, N), "v": draw(seed + 1, 2, N).square()}
    less, more = (Switch(1e-7, factor, scope, "second") for factor in (adaptive, adaptive * 2))
    a, b = (s.at_max(s.votes(state, COLUMNS)) for s in (less, more))
    assert (a | ~b).all(), "what takes lr_max with the larger factor takes it with the smaller"
    never = Switch(1e-7, 0.0, scope, "second")
    assert never.at_max(never.votes(state, COLUMNS)).all()
    scaled = {"m": state["m"], "v": state["v"] * 2.0**-20}
    assert torch.equal(less.at_max(less.votes(scaled, COLUMNS)), a), "the size of v does not matter"


# --- the classes


@pytest.mark.parametrize("name", NAMES)
def test_a_class_goes_on_from_its_state_dict(name: str) -> None:
    def steps(params: list[Tensor], optimiser: torch.optim.Optimizer, of: range) -> None:
        for k in of:
            for p, g in zip(params, rows(draw(k, N)), strict=True):
                p.grad = g.clone()
            optimiser.step()

    one = [p.clone().requires_grad_() for p in rows(draw(9, N))]
    whole = by_name(name, one, 1e-2, weight_decay=0.01)
    steps(one, whole, range(2))
    two = [p.detach().clone().requires_grad_() for p in one]
    resumed = by_name(name, two, 1.0)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    steps(one, whole, range(2, 4))
    steps(two, resumed, range(2, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_groups_have_rates_of_their_own_and_a_scheduler_moves_them() -> None:
    a, b = (torch.ones(3, requires_grad=True) for _ in range(2))
    optimiser = ASGDAdam([{"params": [a], "lr": 0.1}, {"params": [b]}], lr=0.01, lr_min=1e-3, eps=1e-12)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, 1, gamma=0.5)
    for p in (a, b):
        p.grad = torch.ones(3)
    optimiser.step()
    assert a.tolist() == pytest.approx([0.9] * 3) and b.tolist() == pytest.approx([0.99] * 3)
    assert [group["share_at_max"] for group in optimiser.param_groups] == [1.0, 1.0]
    schedule.step()
    optimiser.step()
    assert a.tolist() == pytest.approx([0.85] * 3)


def test_weight_decay_is_that_of_adamw_and_gradients_stay() -> None:
    p = torch.full((2,), 2.0, requires_grad=True)
    p.grad = torch.tensor([1.0, -1.0])
    Padam([p], lr=0.1, weight_decay=0.5, partial=0.5, eps=1e-12).step()
    assert p.tolist() == pytest.approx([2 * (1 - 0.05) - 0.1, 2 * (1 - 0.05) + 0.1])
    assert p.grad.tolist() == [1.0, -1.0]


def test_a_closure_is_called_and_parameters_without_gradient_stay() -> None:
    p, still = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimiser = Padam([p, still], lr=0.1)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    assert optimiser.step(closure).item() == 2.0
    assert (p < 1).all() and torch.equal(still, torch.ones(2))


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match=r"optimizer: 'adma' is not known"):
        by_name("adma", [torch.ones(1, requires_grad=True)], 0.1)
    with pytest.raises(UserError, match=r"scope: 'layer' is not known"):
        ASGDAdam([torch.ones(1, requires_grad=True)], scope="layer")
    sparse = torch.ones(3, requires_grad=True)
    sparse.grad = torch.sparse_coo_tensor([[0]], [1.0], (3,), check_invariants=True)
    with pytest.raises(RuntimeError, match="no sparse gradients"):
        Padam([sparse]).step()
