"""Every optimiser in every agent: runs are independent and resume to the last bit; the log says what was switched."""

from __future__ import annotations

import pytest
import torch

from perturbrl.agents import kernels
from perturbrl.agents.optim import Adam, PolicyValueAdam, PopulationOptimiser, network_optimiser
from perturbrl.errors import UserError
from perturbrl.optim import ASGDAdam
from perturbrl.optim.settings import NAMES

from .helpers import agent_config, make_learner, make_model
from .test_population import train

OTHERS = [name for name in NAMES if name != "adam"]
SEEDS = (3, 1)
LR = {"lr": 1e-2, "optimizer.lr_min": 1e-3}
SWITCHED = [f"{part}_lr_max_share" for part in ("policy", "value")]


def settings(agent: str, optimizer: str) -> dict:
    parts = ("trpo.", "ppo.") if agent == "trpo_ppo" else ("",)
    chosen = {f"{part}optimizer": optimizer for part in parts}
    rates = LR if optimizer.startswith("asgd") else {"lr": 1e-2}
    return chosen | {f"{part}{key}": value for part in parts for key, value in rates.items()}


pytestmark = pytest.mark.usefixtures("one_thread")


CASES = [
    *(("ppo", name) for name in OTHERS),
    *(("trpo", name) for name in ("sgd", "asgd_amsgrad")),
    ("trpo_ppo", "asgd_adam"),
]


@pytest.mark.parametrize(("agent", "optimizer"), CASES)
def test_a_run_is_that_run_alone_and_goes_on_from_its_state(agent: str, optimizer: str) -> None:
    agent_settings = settings(agent, optimizer)
    together, alone = (make_learner(agent, seeds, agent=agent_settings) for seeds in (SEEDS, SEEDS[1:]))
    before = together.model.theta.clone()
    logs, own_logs = train(together), train(alone)
    assert torch.equal(together.model.theta[1], alone.model.theta[0])
    assert not torch.equal(together.model.theta, before)
    for log, own in zip(logs, own_logs, strict=True):
        for key in log:
            torch.testing.assert_close(log[key][1], own[key][0], equal_nan=True, msg=key)

    first, rest = (make_learner(agent, SEEDS, agent=agent_settings) for _ in range(2))
    train(first, 0, 2)
    rest.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    train(rest, 2, 3)
    assert torch.equal(rest.model.theta, together.model.theta)
    for name, tensor in together.state().items():
        assert torch.equal(tensor.nan_to_num(), rest.state()[name].nan_to_num()), name


@pytest.mark.parametrize(("agent", "columns"), [("ppo", SWITCHED), ("trpo", SWITCHED[1:])])
def test_the_log_says_the_share_of_tensors_at_lr_max(agent: str, columns: list[str]) -> None:
    shares = {}
    for adaptive in (0.0, 0.5, 1e6):
        learner = make_learner(agent, SEEDS, agent=settings(agent, "asgd_adam") | {"optimizer.adaptive": adaptive})
        (log,) = train(learner, 0, 1)
        assert [key for key in log if key.endswith("lr_max_share")] == columns
        shares[adaptive] = torch.stack([log[key] for key in columns])
    assert (shares[0.0] == 1).all(), "a factor of 0 never takes lr_min"
    assert (shares[0.5] > 0).all() and (shares[0.5] < 1).any()
    assert (shares[1e6] < shares[0.5]).any() and (shares[1e6] <= shares[0.5]).all()
    (log,) = train(make_learner(agent, SEEDS, agent={"optimizer": "amsgrad"}), 0, 1)
    assert not any(key.endswith("lr_max_share") for key in log)


def test_tensors_are_the_weights_biases_and_log_std_of_the_networks() -> None:
    """A switch of its own for each: with the class of torch, given the same tensors, the same numbers."""
    model = make_model("box")
    model.theta, model.grad = model.theta.float(), model.grad.float()
    columns = model.parameter_columns()
    sizes = [part.stop - part.start for part in columns]
    assert sizes == [4 * 5, 5, 5 * 4, 4, 4 * 3, 3, 3, 4 * 5, 5, 5 * 4, 4, 4 * 1, 1]
    assert model.log_std_columns in columns
    config = agent_config("ppo", **settings("ppo", "asgd_adam"), **{"optimizer.adaptive": 1.0})
    optimiser = network_optimiser(model, [config] * 2)
    leaves = [model.theta[1, part].clone().requires_grad_() for part in columns]
    own = ASGDAdam(leaves, lr=1e-2, lr_min=1e-3, eps=1e-5, adaptive=1.0)
    used = torch.zeros(model.theta.shape[1])
    for part in columns:
        used[part] = 1
    for seed in range(3):
        grad = torch.randn(model.theta.shape, generator=torch.Generator().manual_seed(seed)) * used
        for leaf, part in zip(leaves, columns, strict=True):
            leaf.grad = grad[1, part].clone()
        own.step()
        optimiser.step(grad)
    assert 0 < own.param_groups[0]["share_at_max"] < 1
    assert torch.equal(torch.cat([model.theta[1, part] for part in columns]), torch.cat(leaves).detach())


def test_a_masked_run_stays_bit_identical() -> None:
    for name in OTHERS:
        theta = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
        config = agent_config("ppo", optimizer=name).optimizer
        optimiser = PopulationOptimiser(theta, [1e-2] * 3, config, [slice(0, 9), slice(9, 16)], "policy")
        optimiser.step(torch.ones(3, 16))
        before = [x.clone() for x in (theta, *optimiser.state().values())]
        grad = torch.ones(3, 16)
        grad[1] = torch.nan
        optimiser.step(grad, torch.tensor([True, False, True]), torch.full((3, 1), 0.5))
        for now, then in zip((theta, *optimiser.state().values()), before, strict=True):
            assert torch.equal(now[1], then[1]), name
            assert torch.isfinite(now).all() and not torch.equal(now[0], then[0])


def test_only_adam_is_fused_and_another_says_so_once() -> None:
    with kernels.using("auto", "float32") as arithmetic:
        adam, padam = (make_learner("ppo", [0], agent=settings("ppo", name)).stages[0] for name in ("adam", "padam"))
    assert isinstance(adam.recipe.adam, PolicyValueAdam) and adam.notes == ()
    assert padam.executor == "torch"
    if arithmetic.name == "native":
        assert adam.executor == "native"
        assert padam.notes == ("optimizer=padam: steps run one by one in torch, the native kernels know adam only",)


def test_the_smaller_rate_must_be_the_smaller_one() -> None:
    with pytest.raises(UserError, match=r"^agent\.optimizer\.lr_min: must be at most lr = 0\.0001, got 0\.1$"):
        agent_config("ppo", optimizer="asgd_adam", lr=1e-4, **{"optimizer.lr_min": 0.1})


def test_moments_of_another_optimiser_are_not_handed_over() -> None:
    theta = torch.zeros(2, 16)
    settings_of = agent_config("ppo", optimizer="amsgrad").optimizer
    amsgrad = PopulationOptimiser(theta, [1e-2] * 2, settings_of, [slice(0, 16)], "")
    with pytest.raises(UserError, match=r"^optimizer: the state of another optimiser .* \(it has no v_max\)"):
        amsgrad.load_state(Adam(theta, [1e-2] * 2).state())
    both = {"handover": "parameters_and_moments", "ppo.optimizer": "amsgrad"}
    with pytest.raises(UserError):
        train(make_learner("trpo_ppo", [0], agent=both))
    train(make_learner("trpo_ppo", [0], agent=both | {"trpo.optimizer": "amsgrad"}))
