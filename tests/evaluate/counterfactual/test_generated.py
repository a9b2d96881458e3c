"""Effects of generated cells, against generators whose effects and biases are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from fakes.configs import SCORE
from fakes.screens import additive, exact
from omegaconf import OmegaConf
from torch import Tensor

from perturbrl import paths, registry
from perturbrl.effects.observed import effects_of, observe_effects
from perturbrl.evaluate.counterfactual import Prediction, read_predictions, score
from perturbrl.evaluate.counterfactual.export import write_predictions
from perturbrl.evaluate.counterfactual.generated import GeneratedCells, shrinkage
from perturbrl.generators.cells import CellGenerator, Request
from perturbrl.metrics_info import HELD_OUT

TABLE = additive(contexts=("a", "b"))
X = np.asarray(TABLE.screen.x.todense(), dtype=float)
CONFIG = dataclasses.replace(SCORE, n_duplicates=0, n_components=5)


class Known(CellGenerator):
    """Its effect is ``effect_of`` what is known of a condition, [.., K] -> [.., G], and it is biased.

    The bias depends on the noise and on the control cell. Run k has k + 1 times the effect.
    """

    def __init__(self, effect_of: Callable[[Tensor], Tensor], effect: str = "paired", n_runs: int = 1) -> None:
        self.n_runs, self.effect, self.shrinkage, self.effect_of = n_runs, effect, None, effect_of
        self.asked: list[Request] = []

    def sample(self, request: Request) -> Tensor:
        self.asked.append(request)
        size = torch.arange(1.0, self.n_runs + 1)[:, None, None]
        return self.bias(request) + size * self.effect_of(request.known)

    def sample_controls(self, request: Request) -> Tensor:
        return self.bias(request) + torch.zeros(self.n_runs, 1, 1)

    def bias(self, request: Request) -> Tensor:
        return request.control + 3.0 * request.noise.sin() + 0.5 * request.control.square() + 2.0


def linear(known: Tensor) -> Tensor:
    """An effect of G genes that is linear in what is known."""
    return known @ torch.randn(known.shape[-1], X.shape[1], generator=torch.Generator().manual_seed(0))


def task(table, part="test", residual="none"):
    node = OmegaConf.load(paths.conf_dir() / "env" / "counterfactual.yaml")
    node.pop("defaults")
    config = registry.envs.bind(OmegaConf.merge(node, {"residual": residual}))
    controls = getattr(table.split, f"control_{part}")
    return registry.envs["counterfactual"].build([config], table, controls, 32, "cpu"), controls


def generated(generator, part="test", residual="none", table=TABLE):
    env, controls = task(table, part, residual)
    return GeneratedCells(generator, env, table, controls, seed=0)


def test_pairing_cancels_the_bias_of_a_generator_exactly():
    truth = observe_effects(TABLE, CONFIG)
    made = generated(Known(linear))
    exactly = linear(made.env.dynamics.known(torch.as_tensor(truth.conditions))).numpy()
    np.testing.assert_allclose(made.changes(truth.conditions, 10).change[0], exactly, atol=1e-4)
    direct = generated(Known(linear, "direct")).changes(truth.conditions, None).change[0]
    assert np.abs(direct - exactly).mean() > 5.0


def test_a_direct_effect_is_measured_from_the_controls_of_the_context():
    truth = observe_effects(TABLE, CONFIG)
    made = generated(Known(linear, "direct"))
    change = made.changes(truth.conditions, None).change[0]
    for i, condition in enumerate(truth.conditions):
        rows = truth.controls[truth.contexts[i]]
        request = made._request(rows, np.full(len(rows), condition))
        expected = made.generator.sample(request)[0].numpy().mean(0) - X[rows].mean(0)
        np.testing.assert_allclose(change[i], expected, atol=1e-4)


def test_cells_are_the_real_controls_with_their_own_differences_and_runs_shrink_apart():
    truth = observe_effects(TABLE, CONFIG)
    made = generated(Known(linear, n_runs=2), residual="train_mean")
    made.factor = torch.tensor([0.5, 2.0]).double()
    condition = int(truth.conditions[0])
    rows = made.controls[TABLE.screen.condition[made.controls] == TABLE.screen.control_of(condition)]
    effect = linear(made.env.dynamics.known(torch.tensor(condition))).numpy()
    begin = made.env.dynamics.residual[condition]
    assert np.abs(begin).max() > 0.1
    np.testing.assert_allclose(
        made.cells(rows, condition).toarray(), np.maximum(X[rows] + begin + 0.5 * effect, 0), atol=1e-4
    )
    both = made.changes(truth.conditions[:1], None).change[:, 0]
    np.testing.assert_allclose(both, begin + np.array([[0.5 * 1], [2.0 * 2]]) * effect, atol=1e-4)


def test_both_samples_of_a_pair_have_the_same_noise_and_control_and_so_have_all_conditions():
    truth = observe_effects(TABLE, CONFIG)
    generator = Known(linear)
    made = generated(generator)
    rows = made.controls[:7]
    for condition in truth.conditions[:2]:
        made.effects(rows, np.full(7, condition))
    one, two = generator.asked
    assert torch.equal(one.noise, two.noise) and torch.equal(one.control, two.control)
    assert not torch.equal(one.known, two.known)
    assert len({row.numpy().tobytes() for row in one.noise}) == 7


def test_the_factor_is_that_of_least_squares_on_validation_conditions():
    table = exact(n_singles=6, n_doubles=2)
    singles = [k for k, c in enumerate(table.screen.conditions) if len(c.targets) == 1]
    held = np.isin(table.screen.condition, singles[:2])
    split = dataclasses.replace(
        table.split, validation=np.flatnonzero(held), train=np.setdiff1d(table.split.train, np.flatnonzero(held))
    )
    table = dataclasses.replace(table, split=split, description=np.eye(len(table.screen.conditions), 9).astype("f4"))
    truth = effects_of(table, CONFIG, split.validation, split.control_validation, "validation")
    made = generated(Known(linear), "validation", table=table)
    known = made.env.dynamics.known(torch.as_tensor(truth.conditions))
    true = torch.as_tensor(truth.change).float()

    def shrunk(scale: float, n_runs: int = 1) -> list[float]:
        weights = torch.linalg.lstsq(known, scale * true, driver="gelsd").solution
        return shrinkage(generated(Known(lambda k: k @ weights, n_runs=n_runs), "validation", table=table), truth, None)

    np.testing.assert_allclose(shrunk(2.0, 2), [0.5, 0.25], atol=1e-3)
    np.testing.assert_allclose(shrunk(0.8), [1.0], atol=1e-6)  # never enlarged
    np.testing.assert_allclose(shrunk(-1.0), [0.0], atol=1e-6)  # nor turned round
    np.testing.assert_allclose(shrunk(0.0), [1.0], atol=1e-6)


def test_a_generator_that_knows_the_effects_earns_what_the_best_actions_earn():
    table = exact(n_singles=6, n_doubles=2)
    table = dataclasses.replace(table, description=np.eye(len(table.screen.conditions)).astype("f4"))
    env, controls = task(table, "train")
    known = env.dynamics.known(torch.as_tensor(env.part.conditions))
    weights = torch.linalg.lstsq(known, torch.as_tensor(env.part.effect).float(), driver="gelsd").solution
    returns = GeneratedCells(Known(lambda k: k @ weights), env, table, controls, 0).returns()
    torch.testing.assert_close(returns.returns, returns.best, atol=1e-4, rtol=1e-4)
    still = GeneratedCells(Known(lambda k: torch.zeros(len(k), 60)), env, table, controls, 0).returns()
    assert still.returns.abs().max() < 1e-5


@pytest.mark.parametrize("effect", ["paired", "direct"])
def test_exported_cells_score_as_the_run(tmp_path, effect):
    truth = observe_effects(TABLE, CONFIG)
    made = generated(Known(linear, effect))
    change = made.changes(truth.conditions, 5).change[0]

    def cells(condition: int):
        at = truth.conditions.tolist().index(condition)
        context = truth.contexts[at]
        return None if at == 1 else made.cells(truth.controls[context][: truth.n_compared(at)], condition)

    write_predictions(tmp_path / "pred.h5ad", change, truth, {"run": "made"}, cells)
    rows = {"run": Prediction(change, cells), "file": read_predictions(tmp_path / "pred.h5ad", truth)}
    scores = score(truth, rows | {"means": Prediction(change)})
    for name in HELD_OUT:
        np.testing.assert_array_equal(scores.values["run"][name], scores.values["file"][name], err_msg=name)
    assert not np.array_equal(scores.values["run"]["energy_ratio"], scores.values["means"]["energy_ratio"])
