"""A model keeps the arithmetic that it was built with, has any number of layers, and gives its memory back."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from perturbrl.agents import kernels
from perturbrl.agents.kernels import native, reference
from perturbrl.agents.kernels.chain import Chain

from .helpers import make_learner
from .test_kernels import everything


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
