"""A model keeps the arithmetic that it was built with, has any number of layers, and gives its memory back."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from perturbrl.agents import kernels
from perturbrl.agents.common.natural import fisher_vector_product
from perturbrl.agents.kernels import native, reference
from perturbrl.agents.kernels.chain import Chain
from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.envs.base import ActionSpace

from .helpers import make_learner, policy_config
from .test_kernels import draw, everything


@pytest.mark.parametrize("n_layers", [1, 15, 16, 17, 40])
def test_networks_of_any_depth_agree_with_torch(n_layers: int) -> None:
    sizes = tuple(16 + k % 3 for k in range(n_layers + 1))
    chain = Chain(2, sizes, (*["tanh"] * (n_layers - 1), "identity"))
    ours, theirs = (everything(twin, chain, 2, 9, 0, False) for twin in (native.load(), reference))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["ppo", "trpo"])
@pytest.mark.parametrize("depth", [16, 40])
def test_agents_with_deep_networks_learn_alike_on_either_twin(name: str, depth: int) -> None:
    found = []
    for one in ("torch", "native"):
        kernels.configure(one, "float32")
        learner = make_learner(name, [3, 1], agent={"lr": 1e-4}, policy={"hidden": [6] * depth})
        assert learner.stages[0].executor == one
        start = learner.model.theta.clone()
        learner.iterate(0)
        found.append(learner.model.theta - start)
    assert found[0].norm() > 1e-4
    assert (found[0] - found[1]).norm() < 2e-2 * found[0].norm()


@pytest.mark.parametrize("name", ["ppo", "trpo", "trpo_ppo"])
def test_what_is_configured_later_changes_no_model(name: str) -> None:
    """Steps, logs and actions of a learner are its own arithmetic's, bit for bit, whatever was configured last."""
    found = []
    for later in ("torch", "native"):
        kernels.configure("torch", "bf16")
        learner = make_learner(name, [3, 1])
        kernels.configure(later, "float32")
        learner.iterate(0)
        found.append((learner.model.theta, learner.model.act(learner.collector.obs)))
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_a_model_sets_torch_s_precision_of_products_around_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, plain = [], reference.mlp_forward

    def forward(*args):
        seen.append(torch.get_float32_matmul_precision())
        return plain(*args)

    monkeypatch.setattr(reference, "mlp_forward", forward)
    kernels.configure("torch", "tf32")
    learner = make_learner("ppo", [3])
    kernels.configure("torch", "float32")
    learner.model.act(learner.collector.obs)
    assert seen == ["high"] and torch.get_float32_matmul_precision() == "highest"


def test_using_puts_back_what_was_configured() -> None:
    kernels.configure("torch", "float32")
    with kernels.using("native", "tf32") as inside:
        assert kernels.current() is inside and (inside.name, inside.precision) == ("native", "tf32")
        assert torch.get_float32_matmul_precision() == "high"
    assert (kernels.current().name, kernels.current().precision) == ("torch", "float32")
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(("chosen", "has_bf16", "found"), [
    ("auto", True, "bf16"), ("auto", False, "float32"), ("torch", True, "float32"),
])  # fmt: skip
def test_precision_auto_takes_bfloat16_where_the_processor_multiplies_it(monkeypatch, chosen, has_bf16, found) -> None:
    monkeypatch.setattr(native.load(), "has_bf16", has_bf16)
    with kernels.using(chosen, "auto") as inside:
        assert inside.precision == found and not kernels.emulates_bf16()


@pytest.mark.parametrize("name", ["ppo", "trpo", "trpo_ppo"])
def test_parameters_and_gradients_are_given_back(name: str, twin: str) -> None:
    """Of models of different shapes none is kept alive."""
    alive = []
    for width in range(3, 6):
        learner = make_learner(name, [3, 1], policy={"hidden": [width]})
        learner.iterate(0)
        alive += [weakref.ref(learner.model.theta), weakref.ref(learner.model.grad)]
    del learner
    gc.collect()
    assert [ref for ref in alive if ref() is not None] == []


def fisher_of(twin: str, precision: str, kind: str, runs: slice, sizes: tuple[list[int], int], n: int) -> torch.Tensor:
    """H v + damping v of some of three runs, by one twin."""
    (hidden, n_features), slices = sizes, {"all": slice(0, sizes[1])}
    with kernels.using(twin, precision):
        model = ActorCritic(policy_config(hidden=hidden), n_features, slices, ActionSpace(kind, 5), 3)
    model.theta = (0.3 * draw(0, *model.theta.shape))[runs].contiguous()
    obs, v, damping = (
        draw(1, 3, n, n_features)[runs],
        draw(2, 3, model.policy_size)[runs],
        torch.tensor([0.1, 0.2, 0.3]),
    )
    assert model.fisher_is_native == (twin == "native" and (precision == "float32" or native.load().has_bf16))
    dist, cache = model.policy(obs)
    return fisher_vector_product(model, dist, cache, v, damping[runs].unsqueeze(1), 0.2)


@pytest.mark.parametrize("kind", ["box", "discrete"])
@pytest.mark.parametrize("sizes", [([40, 33], 7), ([8], 3), ([1, 16], 32)])
@pytest.mark.parametrize("n", [1, 150])
def test_the_native_fisher_product_agrees_with_torch(kind: str, sizes: tuple[list[int], int], n: int) -> None:
    """In one call, with states of two blocks; run k of a population is run k alone, bit for bit."""
    ours, theirs = (fisher_of(twin, "float32", kind, slice(0, 3), sizes, n) for twin in ("native", "torch"))
    torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-5)
    assert torch.equal(ours[1:2], fisher_of("native", "float32", kind, slice(1, 2), sizes, n))


def test_the_native_fisher_product_rounds_to_bfloat16_as_torch_does() -> None:
    if not native.load().has_bf16:
        pytest.skip("this processor does not multiply bfloat16")
    asked = [("native", "bf16"), ("torch", "bf16"), ("torch", "float32")]
    ours, theirs, exact = (fisher_of(*one, "box", slice(0, 3), ([40, 33], 7), 600) for one in asked)
    assert (ours - theirs).norm() < 0.5 * (theirs - exact).norm() < 0.05 * exact.norm()
