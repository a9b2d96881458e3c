"""What is not finite is treated alike by the native kernels and by torch: it is kept, so that divergence is seen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from perturbrl.agents import kernels
from perturbrl.agents.common.rollout import Rollout
from perturbrl.agents.kernels import native, reference
from perturbrl.agents.kernels.chain import Chain, Moments
from perturbrl.agents.optim import Adam

from .helpers import make_learner
from .test_kernels import draw

HUGE = 1e30  # its square overflows
BAD = [torch.nan, torch.inf, -torch.inf, HUGE]
ACTIVATIONS = ["identity", "tanh", "relu"]


def poisoned(x: Tensor, value: float) -> Tensor:
    """``x`` [S, ...] with ``value`` at one place of run 1; run 0 stays healthy."""
    x = x.clone()
    x[1].view(-1)[x[1].numel() // 2] = value
    return x


def assert_alike(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(torch.isfinite(a), torch.isfinite(b))
        torch.testing.assert_close(a.nan_to_num(0, 0, 0), b.nan_to_num(0, 0, 0), rtol=2e-4, atol=2e-4)
        assert torch.isfinite(a[0]).all()


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("where", ["theta", "x", "dx", "dy", "v"])
@pytest.mark.parametrize("sizes", [(5, 7, 3), (40, 33, 1), (1, 1, 2)])
def test_networks(value: float, activation: str, where: str, sizes: tuple[int, ...]) -> None:
    chain = Chain(0, sizes, (activation, "identity"))
    shapes = {"theta": (2, chain.stop), "x": (2, 9, sizes[0]), "dx": (2, 9, sizes[0])}
    shapes |= {"dy": (2, 9, sizes[-1]), "v": (2, chain.stop)}
    given = {name: draw(seed, *shape) / 3 for seed, (name, shape) in enumerate(shapes.items())}
    given[where] = poisoned(given[where], value)
    found = []
    for twin in (native.load(), reference):
        grad = torch.zeros(2, chain.stop)
        y, cache = twin.mlp_forward(chain, given["theta"], given["x"].clone(), False)
        pulled = twin.mlp_vjp(chain, given["theta"], cache, given["dy"], grad, True, False)
        pushed = twin.mlp_jvp(chain, given["theta"], cache, given["v"], given["dx"], False)
        found.append([y, pulled, pushed, grad])
    if value == HUGE and activation == "tanh":  # the native slope of a saturated unit is 1e-7, not 0; times 1e30
        found = [[x * torch.tensor([1.0, 0.0]).view(2, *[1] * (x.dim() - 1)) for x in one] for one in found]
    assert_alike(*found)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("where", ["mean", "action", "log_std", "weight"])
@pytest.mark.parametrize("size", [1, 6, 40])
def test_gaussian(value: float, where: str, size: int) -> None:
    shapes = {"mean": (2, 7, size), "action": (2, 7, size), "log_std": (2, size), "weight": (2, 7)}
    given = {name: draw(seed, *shape) / 3 for seed, (name, shape) in enumerate(shapes.items())}
    given[where] = poisoned(given[where], value)
    found = []
    for twin in (native.load(), reference):
        log_prob, z = twin.gaussian_log_prob(given["mean"], given["action"], given["log_std"])
        found.append([log_prob, z, *twin.gaussian_vjp(z, given["log_std"], given["weight"])])
    assert_alike(*found)


@pytest.mark.parametrize("value", [*BAD, 1e15])
@pytest.mark.parametrize("where", ["grad", "limit"])
@pytest.mark.parametrize("n", [3, 300])
def test_clipping(value: float, where: str, n: int) -> None:
    given = {"grad": draw(0, 2, n), "limit": torch.full((2, 1), 0.5)}
    given[where] = poisoned(given[where], value)
    assert_alike(*([twin.clip_scale(given["grad"], given["limit"])] for twin in (native.load(), reference)))


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_adam(value: float, masked: bool, scaled: bool) -> None:
    found = []
    for name in ("native", "torch"):
        kernels.configure(name, "float32")
        adam = Adam(draw(0, 2, 37), [0.1, 0.1])
        for step in range(3):
            grad = poisoned(draw(step + 1, 2, 37), value) if step == 1 else draw(step + 1, 2, 37)
            adam.step(grad, torch.tensor([True, True]) if masked else None, torch.ones(2, 1) if scaled else None)
        found.append([adam.theta, adam.m, adam.v, adam.t.unsqueeze(1)])
    assert_alike(*found)


@pytest.mark.parametrize("value", BAD[:3])
def test_value_epochs(value: float) -> None:
    chain = Chain(0, (4, 5, 1), ("tanh", "identity"))
    found = []
    for name in ("native", "torch"):
        theta, obs, ret = draw(0, 2, chain.stop), draw(1, 2, 12, 4), poisoned(draw(2, 2, 12), value)
        grad, adam = torch.zeros_like(theta), Adam(theta, [0.01, 0.01])
        if name == "native":
            moments = Moments(adam.m, adam.v, adam.t, torch.full((2,), 0.01), (0.9, 0.999, 1e-5))
            native.load().value_epoch(chain, theta, grad, moments, (obs, ret, 4), False)
        else:
            for at in range(0, 12, 4):
                v, cache = reference.mlp_forward(chain, theta, obs[:, at : at + 4], False)
                dv = (v - ret[:, at : at + 4, None]) * 2 / 4
                reference.mlp_vjp(chain, theta, cache, dv, grad, False, False)
                adam.step(grad)
        found.append([theta])
    assert_alike(*found)


@pytest.mark.parametrize("field", ["obs", "action", "log_prob", "advantage", "ret"])
@pytest.mark.parametrize("value", BAD[:3])
def test_an_epoch_of_ppo(field: str, value: float) -> None:
    """One number of the batch that is not finite: both kernels end with the same parts of theta not finite."""
    found = []
    for name in ("native", "torch"):
        kernels.configure(name, "float32")
        learner = make_learner("ppo", [3, 1], agent={"normalise_advantage": False, "epochs": 1})
        update, model = learner.stages[0].recipe, learner.model
        m, size, g = 64, model.actions.size, model.policy_net.n_in
        batch = {"obs": draw(0, 2, m, g), "action": draw(1, 2, m, size), "value": draw(3, 2, m)}
        batch["log_prob"] = model.policy(batch["obs"])[0].log_prob(batch["action"])[0]
        batch |= {"advantage": draw(4, 2, m), "ret": draw(5, 2, m)}
        batch[field] = poisoned(batch[field], value)
        update.update(Rollout(**batch), 0)
        found.append([model.theta])
    assert_alike(*found)


@pytest.mark.parametrize("name", ["native", "torch"])
@pytest.mark.parametrize("ratio_sign", [1.0, -1.0])
def test_an_advantage_that_is_not_a_number_reaches_the_parameters(name: str, ratio_sign: float) -> None:
    """Also where the ratio is far outside the clip, whose transitions otherwise give no gradient."""
    kernels.configure(name, "float32")
    learner = make_learner("ppo", [3], agent={"normalise_advantage": False, "epochs": 1})
    model = learner.model
    obs, action = draw(0, 1, 64, model.policy_net.n_in), draw(1, 1, 64, model.actions.size)
    log_prob = model.policy(obs)[0].log_prob(action)[0] + ratio_sign
    advantage = draw(2, 1, 64)
    advantage[0, 10] = torch.nan
    batch = Rollout(obs, action, log_prob, torch.zeros(1, 64), advantage, draw(3, 1, 64))
    learner.stages[0].recipe.update(batch, 0)
    assert learner.model.first_not_finite(0) == "policy network"
