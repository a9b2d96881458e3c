"""Flow matching: what it learns of known distributions, what it may see, and what every agent must do."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fakes.screens import additive
from omegaconf import OmegaConf
from torch import Tensor

from perturbrl import paths, registry
from perturbrl.agents.flow import Flow, FlowLearner
from perturbrl.envs.counterfactual.populations import Populations
from perturbrl.errors import UserError
from perturbrl.generators.cells import Request
from perturbrl.generators.mmd import mmd
from perturbrl.rng import Streams
from perturbrl.runner import resuming
from perturbrl.runner.check_agent import check_agent
from perturbrl.runner.resuming import require_same as assert_same

from .helpers import FakeEnv, agent_config

TABLE = additive()
SMALL = {
    **{"network.hidden": 16, "network.embedding": 8, "network.blocks": 2, "minibatch": 32, "rollout_steps": 64},
    **{"total_steps": 192, "sampling.steps": 4},
}


def settings(**changes: Any) -> Any:
    return agent_config("flow", **{**SMALL, **{key.replace("__", "."): value for key, value in changes.items()}})


def task(table: Any, part: str, runs: int = 1) -> Any:
    node = OmegaConf.load(paths.conf_dir() / "env" / "counterfactual.yaml")
    node.pop("defaults")
    configs = [registry.envs.bind(node)] * runs
    return registry.envs["counterfactual"].build(configs, table, getattr(table.split, f"control_{part}"), 1, "cpu")


def made(table: Any = TABLE, seeds: tuple[int, ...] = (0,), part: str = "train", **changes: Any) -> FlowLearner:
    """A learner on a fake screen."""
    configs = [settings(**changes)] * len(seeds)
    env = task(table, part, len(seeds))
    return registry.agents["flow"].build(configs, [], env, {}, Streams(seeds, "cpu"))


def trained(learner: FlowLearner) -> Tensor:
    for k in range(learner.n_iterations):
        learner.iterate(k)
    return learner.model.theta.clone()


# --- what it learns


def toy(n: int = 4000) -> Populations:
    """Two conditions of correlated normal cells of two genes, and standard normal controls."""
    g = torch.Generator().manual_seed(0)
    draw = [torch.randn(n, 2, generator=g) for _ in range(3)]
    cells = [draw[0] @ MIX[0].T + MEAN[0], draw[1] @ MIX[1].T + MEAN[1]]
    zero, many = torch.zeros(2, dtype=torch.int64), torch.full((2,), n)
    first = torch.tensor([0, n])
    known = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    return Populations(
        *(torch.cat(cells), first, many, draw[2], zero, many),
        *(known, torch.zeros(2, 2), torch.zeros(2, 2), torch.tensor([[2]])),
    )


MEAN = torch.tensor([[2.0, -1.0], [-1.0, 3.0]])
MIX = torch.tensor([[[1.0, 0.0], [0.8, 0.6]], [[0.5, -0.5], [0.0, 1.0]]])


@pytest.mark.parametrize("start", ["noise", "control"])
def test_two_normal_populations_are_recovered_in_mean_and_covariance(start: str) -> None:
    config = settings(
        **{"total_steps": 600 * 256, "rollout_steps": 600 * 256, "minibatch": 256, "lr": 5e-3, "ema": 0.99},
        **{"network__hidden": 32, "network__embedding": 16, "sampling__steps": 50, "path__start": start},
    )
    learner = FlowLearner(Flow([config], toy(), Streams([0], "cpu")), SimpleNamespace())  # type: ignore[arg-type]
    learner.iterate(0)
    g = torch.Generator().manual_seed(1)
    n = 4000
    control, noise = torch.randn(n, 2, generator=g), torch.randn(n, 2, generator=g)
    for k in range(2):
        known = torch.eye(2)[k].expand(n, -1)
        request = Request(control, known, torch.zeros(n, 2), noise)
        cells = learner.model.sample(request)[0]
        torch.testing.assert_close(cells.mean(0), MEAN[k], atol=0.15, rtol=0)
        torch.testing.assert_close(torch.cov(cells.T), MIX[k] @ MIX[k].T, atol=0.25, rtol=0)
        unperturbed = learner.model.sample_controls(request)[0]
        torch.testing.assert_close(unperturbed.mean(0), torch.zeros(2), atol=0.15, rtol=0)
        torch.testing.assert_close(torch.cov(unperturbed.T), torch.eye(2), atol=0.25, rtol=0)


def test_the_loss_is_the_squared_error_of_the_velocity_and_the_discrepancy_of_the_endpoint() -> None:
    learner = made(mmd=0.7, group=4, seeds=(0, 1))
    flow = learner.flow
    theta = torch.randn(flow.theta.shape, generator=torch.Generator().manual_seed(3)) / 3
    batch, noise = flow.batch(0), flow.streams.normal("n", 0, (32, 12))
    parts = flow.loss(theta, batch, noise)
    for s in range(2):
        velocity = flow.model.velocity(
            theta, *(x for x in (_between(batch, noise), batch.t, batch.control, batch.given))
        )[s]
        error = (velocity - (batch.cells - noise)[s]).square().mean()
        end = _between(batch, noise)[s] + (1 - batch.t[s, :, None]) * velocity
        far = torch.stack([mmd(end[k : k + 4], batch.cells[s, k : k + 4]) for k in range(0, 32, 4)]).mean()
        torch.testing.assert_close(parts["velocity_loss"][s], error)
        torch.testing.assert_close(parts["mmd"][s], far)
        torch.testing.assert_close(parts["loss"][s], error + 0.7 * far)


def _between(batch: Any, noise: Tensor) -> Tensor:
    t = batch.t.unsqueeze(-1)
    return (1 - t) * noise + t * batch.cells


def test_the_rate_falls_as_a_cosine_and_the_average_follows() -> None:
    flow = made().flow
    assert flow.rate(0) == 1.0 and flow.rate(flow.n_steps // 2) == pytest.approx(0.5)
    assert made(lr_schedule="constant").flow.rate(3) == 1.0
    plain = made(ema=0.0)
    trained(plain)
    assert torch.equal(plain.model.theta, plain.flow.theta)
    averaged = made()
    trained(averaged)
    assert not torch.equal(averaged.model.theta, averaged.flow.theta)


# --- what it may see


def rows_of(table: Any, part: str) -> set[bytes]:
    rows = np.concatenate([getattr(table.split, part), getattr(table.split, f"control_{part}")])
    return {row.tobytes() for row in table.screen.x[rows].toarray()}


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_task_gives_the_cells_of_its_own_part_alone(part: str) -> None:
    env = task(TABLE, part)
    seen = env.populations(10_000)
    assert {row.numpy().tobytes() for row in torch.cat([seen.cells, seen.controls])} == rows_of(TABLE, part)
    for k, condition in enumerate(env.part.conditions):
        own = seen.cells[seen.first[k] : seen.first[k] + seen.count[k]]
        rows = getattr(TABLE.split, part)
        expected = TABLE.screen.x[rows[TABLE.screen.condition[rows] == condition]].toarray()
        assert np.array_equal(own.numpy(), expected)


def test_cells_of_validation_and_test_change_nothing_that_is_learned() -> None:
    split, x = TABLE.split, TABLE.screen.x.tolil(copy=True)
    hidden = np.concatenate([split.validation, split.test, split.control_validation, split.control_test])
    x[hidden] = 1e3
    other = dataclasses.replace(TABLE, screen=dataclasses.replace(TABLE.screen, x=x.tocsr()))
    assert torch.equal(trained(made()), trained(made(other)))
    x[split.train[:1]] = 1e3
    other = dataclasses.replace(TABLE, screen=dataclasses.replace(TABLE.screen, x=x.tocsr()))
    assert not torch.equal(trained(made()), trained(made(other)))


def test_a_batch_holds_cells_with_what_is_known_of_them() -> None:
    learner = made(control_share=0.4, group=4, minibatch=64, total_steps=64)
    seen, model, batch = learner.flow.seen, learner.model, learner.flow.batch(0)
    cells = (batch.cells * model.spread + model.mean)[0]
    n_controls = 0
    for k, (cell, given) in enumerate(zip(cells, batch.given[0], strict=True)):
        control = (seen.controls - cell).abs().amax(1) < 1e-4
        if control.any():
            n_controls += 1
            assert torch.equal(given, seen.known_control[0])
            beside = (batch.control[0, k] * model.spread + model.mean - cell).abs().max()
            assert beside > 1e-3  # not given itself
        else:
            row = int(((seen.cells - cell).abs().amax(1) < 1e-4).nonzero()[0])
            condition = int((seen.first <= row).sum()) - 1
            assert torch.equal(given, seen.known[condition])
        assert torch.equal(given, batch.given[0, k // 4 * 4])  # a group shares its condition
    assert 0 < n_controls < 64


def test_a_hidden_condition_is_marked_and_guidance_leaves_it_behind() -> None:
    learner = made(drop=0.5)
    model, batch = learner.model, learner.flow.batch(0)
    hidden = batch.given[..., -1] == 1
    assert 0 < hidden.sum() < hidden.numel() and batch.given[hidden][:, :-1].abs().max() == 0
    model.theta.copy_(torch.randn(model.theta.shape, generator=torch.Generator().manual_seed(0)) / 3)
    seen, n = learner.flow.seen, 5
    request = Request(seen.controls[:n], seen.known[:n], seen.known_control[:n], torch.randn(n, 12))
    one_step = {"method": "euler", "steps": 1}

    def sampled(guidance: float) -> Tensor:
        sampling = dataclasses.replace(model.settings.sampling, guidance=guidance, **one_step)
        model.settings = dataclasses.replace(model.settings, sampling=sampling)
        return model.sample(request)

    free, plain = sampled(0.0), sampled(1.0)
    torch.testing.assert_close(sampled(2.5), free + 2.5 * (plain - free), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(free, plain)


# --- what every agent must do


def test_a_run_resumes_to_the_last_bit() -> None:
    changes = {"mmd": 0.5, "group": 4, "path__pairing": "optimal_transport", "drop": 0.1}
    states = resuming.unbroken(lambda: made(**changes), 3)
    assert_same(lambda: made(**changes), states, {"agent": "flow"}, (1, 2))


def test_a_run_of_a_population_is_the_run_alone() -> None:
    together = trained(made(seeds=(3, 5), group=4, mmd=0.5))
    for k, seed in enumerate((3, 5)):
        torch.testing.assert_close(trained(made(seeds=(seed,), group=4, mmd=0.5))[0], together[k], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("network", ["mlp", "transformer"])
def test_it_does_what_every_agent_must_do(network: str) -> None:
    task = ("env=counterfactual", "encoder=none", "env.horizon=1", "source.perturbations=single")
    cells = ("source.n_cells=600", "source.n_target_genes=12", "conditions=landscape", "conditions.min_cells=5")
    sizes = ("hidden=16", "blocks=1", "embedding=8", "neighbours=3", f"kind={network}")
    budget = ("agent.minibatch=16", "agent.rollout_steps=32")
    check_agent("flow", *task, *cells, *(f"agent.network.{size}" for size in sizes), *budget)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minibatch": 24}, r"^agent\.minibatch: 24 does not divide rollout_steps = 64$"),
        ({"group": 5}, r"^agent\.group: 5 does not divide minibatch = 32$"),
        ({"mmd": 0.5}, r"^agent\.mmd: needs cells of one condition side by side; give agent\.group at least 2"),
        ({"path__pairing": "optimal_transport"}, r"^agent\.path\.pairing: needs cells of one condition side by side"),
        (
            {"sampling__guidance": 2.0},
            r"^agent\.sampling\.guidance: needs a flow without a condition; give agent\.drop",
        ),
        ({"control_share": 0.0}, r"^agent\.effect: needs the control as a condition; give agent\.control_share"),
        ({"effect": "direct"}, r"^agent\.shrinkage: validation: only paired differences are shrunk"),
        ({"shrinkage": "best"}, r"^agent\.shrinkage: must be validation or a number of at least 0, got best$"),
        ({"network__kind": "unet"}, r"^agent\.network\.kind: 'unet' is not known; choose mlp or transformer"),
        ({"sampling__steps": 0}, r"^agent\.sampling\.steps: must be"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        settings(**changes)
    assert "\n" not in str(error.value)


def test_a_task_without_perturbed_cells_is_refused() -> None:
    env = FakeEnv(1, 1, 2, "terminated")
    with pytest.raises(
        UserError, match=r"^agent: flow generates cells of perturbations, .* choose env=counterfactual$"
    ):
        registry.agents["flow"].build([settings()], [], env, {}, Streams([0], "cpu"))
