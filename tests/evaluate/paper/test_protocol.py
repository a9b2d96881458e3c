from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import perturbrl.envs  # noqa: F401  (registers the paper's environments)
from perturbrl import paths, registry
from perturbrl.envs.base import ActionSpace
from perturbrl.errors import UserError
from perturbrl.evaluate.actions import as_change, constant, do_nothing, random_sign, random_uniform, together
from perturbrl.evaluate.paper.best_constant import best_constant, later_mean
from perturbrl.evaluate.paper.metrics import MetricConfig
from perturbrl.evaluate.paper.rows import PaperRows
from perturbrl.evaluate.paper.scores import evaluated_cells, population_scores
from perturbrl.evaluate.returns import do_nothing_returns, episode_returns, return_gain
from perturbrl.metrics_info import PAPER as METRICS

from .helpers import cell_table, protocol, quick_scores, register_toy, shift_by, toy

register_toy()
BOX = ActionSpace("box", 6)
ROWS = ["policy", "do_nothing", "random_uniform", "random_sign", "best_constant"]


def env_config(name: str, **changes: object):
    return registry.envs.bind(OmegaConf.merge(OmegaConf.load(paths.conf_dir() / "env" / f"{name}.yaml"), changes))


@pytest.fixture
def extra_metric() -> Iterator[str]:
    name = "error_of_all_features"
    registry.metrics.register(name, MetricConfig)(
        lambda truth, prediction: np.full(truth.shape[1], np.abs(truth - prediction).mean())
    )
    yield name
    del registry.metrics._entries[name]


def test_rows_and_their_order():
    rows = PaperRows(cell_table(), toy(), protocol()).of(shift_by(0.1))
    assert list(rows) == ROWS
    assert set(rows["policy"].numbers()) == {
        *METRICS, "mean_abs_action", "return", "return_gain", "return_gain_se"
    }  # fmt: skip


def test_doing_nothing_is_perfect_and_gains_nothing():
    table = cell_table()
    row = PaperRows(table, toy(), protocol()).floors["do_nothing"]
    numbers = row.numbers()
    for name, metric in METRICS.items():
        assert numbers[name] == (1.0 if metric.better == "up" else 0.0), name
    assert numbers["mean_abs_action"] == numbers["return_gain"] == numbers["return_gain_se"] == 0.0
    assert not row.diverged


@settings(max_examples=30)
@given(st.integers(0, 1000))
def test_the_errors_measure_the_action_alone_while_the_clip_is_inactive(seed):
    generator = torch.Generator().manual_seed(seed)
    x = 8 * torch.rand(30, 6, generator=generator) - 4
    a = 2 * torch.rand(30, 6, generator=generator) - 1
    scores = quick_scores(lambda obs: a, x, BOX, protocol())
    assert scores["mae"] == pytest.approx(scores["mean_abs_action"], rel=1e-12)
    assert scores["mse"] == pytest.approx(float((a.double() ** 2).mean()), rel=1e-12)
    variance = x.double().var(dim=0, unbiased=False)
    assert scores["r2"] == pytest.approx(float((1 - (a.double() ** 2).mean(dim=0) / variance).mean()), rel=1e-9)
    assert scores["recall"] == scores["accuracy"]


def test_a_constant_shift_keeps_pearson_at_one():
    x = torch.from_numpy(cell_table().x[:30])
    scores = quick_scores(shift_by(0.5), x, BOX, protocol())
    assert scores["pearson"] == pytest.approx(1.0, abs=1e-12)
    assert scores["mae"] == pytest.approx(0.5) and scores["accuracy"] < 1


def test_predictions_are_clipped_and_actions_are_brought_into_the_box():
    x = torch.tensor([[4.5], [-4.5], [1.0]])
    scores = quick_scores(shift_by(7.0), x, ActionSpace("box", 1), protocol())
    assert scores["mean_abs_action"] == 1.0
    assert scores["mae"] == pytest.approx((0.5 + 1 + 1) / 3)


def test_a_population_scores_as_its_members_alone():
    x = torch.randn(3, 20, 6, generator=torch.Generator().manual_seed(0))
    acts = [torch.tanh, shift_by(0.2), lambda obs: -obs.clamp(-1, 1)]
    together_scores = population_scores(together(acts), x, BOX, protocol())
    for k, act in enumerate(acts):
        alone = quick_scores(act, x[k], BOX, protocol())
        assert {name: float(values[k]) for name, values in together_scores.items()} == alone


def test_no_graph_is_built():
    weight = torch.zeros(6, requires_grad=True)
    scores = quick_scores(lambda obs: obs * weight, torch.ones(5, 6), BOX, protocol())
    assert scores["mse"] == 0.0
    env = registry.envs["toy"].build([toy()], cell_table(), cell_table().test, 4, "cpu")
    assert not return_gain(lambda obs: obs * weight, env, 0, 100).requires_grad


# ---------------------------------------------------------------- returns


def test_returns_against_a_loop_over_one_cell_at_a_time():
    """The toy pays -|a - goal|^2 + u + mean(obs) a step; episodes last 5 or 6 steps."""
    table, config = cell_table(), toy()
    env = registry.envs["toy"].build([config] * 2, table, table.test, 6, "cpu")
    drawn = []
    step = env.step
    env.step = lambda action, u: (drawn.append(u), step(action, u))[1]
    got = episode_returns(together([do_nothing(BOX), shift_by(0.5)]), env, 3, 100)
    assert got.shape == (2, 6)
    assert len({u[0].numpy().tobytes() for u in drawn}) == len(drawn) == 6, "each step has draws of its own"
    for k, a in enumerate((0.0, 0.5)):
        for b in range(6):
            pay = -float(((a - env.goal) ** 2).expand(6).sum()) + float(env.obs[k, b].double().mean())
            expected = sum(pay + float(drawn[t][k, b, 1]) for t in range(5 + b % 2))
            assert float(got[k, b]) == pytest.approx(expected, abs=1e-4)


def test_every_row_meets_the_same_draws_whatever_its_company():
    table, config = cell_table(), env_config("paper", horizon=8)
    build = registry.envs["paper"].build
    alone = episode_returns(together([shift_by(0.1)]), build([config], table, table.test, 12, "cpu"), 5, 100)
    three = [shift_by(0.9), shift_by(0.1), do_nothing(BOX)]
    crowd = episode_returns(together(three), build([config] * 3, table, table.test, 12, "cpu"), 5, 100)
    assert torch.equal(alone[0], crowd[1])
    other = episode_returns(together([shift_by(0.1)]), build([config], table, table.test, 12, "cpu"), 6, 100)
    assert not torch.equal(alone, other)


def test_gain_with_and_without_a_kept_do_nothing_run():
    table, config = cell_table(), env_config("paper", horizon=8)
    env = registry.envs["paper"].build([config], table, table.test, 12, "cpu")
    nothing = do_nothing_returns(env, 1, 100)
    assert torch.equal(return_gain(shift_by(0.2), env, 1, 100), return_gain(shift_by(0.2), env, 1, 100, nothing))
    assert float(return_gain(do_nothing(BOX), env, 1, 100)) == 0.0


def test_the_policy_row_is_paired_with_the_floors():
    table, config = cell_table(), env_config("paper", horizon=8)
    rows = PaperRows(table, config, protocol()).of(policy := shift_by(0.2))
    env = registry.envs["paper"].build([config], table, table.test, 16, "cpu")
    expected = return_gain(together([policy]), env, 0, 100)
    assert rows["policy"].return_gain == pytest.approx(float(expected))
    again = PaperRows(table, config, protocol()).of(shift_by(0.2))
    for name in ROWS:
        assert rows[name].numbers() == again[name].numbers(), f"{name}: same seed, same result"


def test_an_endless_episode_is_an_error():
    with pytest.raises(UserError, match=r"protocol\.max_steps: .* 4 steps"):
        PaperRows(cell_table(), toy(), protocol(max_steps=4)).of(shift_by(0.1))


# ---------------------------------------------------------------- floors


def test_the_mean_of_later_cells_against_a_double_loop():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(25, 4)).astype(np.float32)
    time = generator.integers(0, 8, 25).astype(np.float64)
    expected = np.zeros(4)
    for i in range(25):
        later = [x[j] for j in range(25) if time[j] > time[i]] or [x[i]]
        expected += np.mean(later, axis=0, dtype=np.float64) / 25
    np.testing.assert_allclose(later_mean(x, time), expected, rtol=1e-6)


def test_the_best_constant_is_found_on_training_cells():
    """The toy's optimum is one shift of every feature: the mean of the cells on which the environment was built."""
    table = cell_table()
    table.x[table.train] += 0.5
    table.x[table.test] -= 0.5
    found = best_constant(table, toy(), protocol(max_steps=100))
    goal = float(registry.envs["toy"].build([toy()], table, table.train, 1, "cpu").goal)
    assert goal > 0.3
    # a grid of factor two around the optimum: never further than a third of it
    assert torch.allclose(found, torch.full((6,), goal), atol=goal / 3 + 1e-6)


def test_the_best_constant_beats_nothing_where_cells_drift_and_else_is_nothing():
    config = env_config("paper", horizon=60, max_perturb=1, perturb_prob=0.0)
    rows = PaperRows(cell_table(400, shift=8.0), config, protocol(return_episodes=128, search_episodes=128))
    best = rows.floors["best_constant"]
    assert best.return_gain > 3 * best.return_gain_se > 0
    still = env_config("paper_discrete", horizon=60, perturb_prob=0.0)
    found = best_constant(cell_table(), still, protocol(search_episodes=32))
    assert int(found) % 3 == 1, "every discrete constant runs into the clip; the best changes nothing"


def test_discrete_constants_are_all_tried():
    found = best_constant(cell_table(), toy("discrete", 18), protocol(max_steps=100))
    assert int(found) == 2, "the toy pays for action 2 alone"


def test_random_rows_cover_the_action_space_and_repeat_with_the_seed():
    obs = torch.zeros(4000, 6)
    a = random_uniform(BOX, 1)(obs)
    assert a.shape == (4000, 6) and float(a.min()) < -0.99 and float(a.max()) > 0.99
    assert float(a.mean()) == pytest.approx(0, abs=0.02) and float(a.abs().mean()) == pytest.approx(0.5, abs=0.01)
    signs = random_sign(BOX, 1)(obs)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(a, random_uniform(BOX, 1)(obs)) and not torch.equal(a, random_uniform(BOX, 2)(obs))
    discrete = ActionSpace("discrete", 18)
    assert set(random_uniform(discrete, 0)(obs).tolist()) == set(range(18))
    assert set(random_sign(discrete, 0)(obs).tolist()) == {k for k in range(18) if k % 3 != 1}


# ---------------------------------------------------------------- discrete actions


def test_a_discrete_action_changes_one_feature_by_a_quarter():
    space = ActionSpace("discrete", 6)
    change = as_change(torch.tensor([0, 1, 2, 3, 4, 5]), space, 2, 0.25)
    assert change.tolist() == [[-0.25, 0], [0, 0], [0.25, 0], [0, -0.25], [0, 0], [0, 0.25]]
    x = torch.tensor([[1.0, -1.0], [-2.0, 2.0]])
    scores = quick_scores(constant(torch.tensor(2)), x, space, protocol())
    assert scores["mae"] == scores["mean_abs_action"] == 0.125
    assert scores["mse"] == 0.25**2 / 2


def test_the_discrete_environment_end_to_end():
    config = env_config("paper_discrete", horizon=6)
    rows = PaperRows(cell_table(), config, protocol()).of(lambda obs: obs.abs().argmax(-1) * 3 + 1)
    policy, nothing = rows["policy"].numbers(), rows["do_nothing"].numbers()
    assert policy == nothing, "action 1 of any feature changes nothing"
    assert rows["random_sign"].mean_abs_action == pytest.approx(0.25 / 6)


# ---------------------------------------------------------------- cells, bad policies, plugins


def test_how_many_cells_the_metrics_see():
    table = cell_table(120)
    assert np.array_equal(evaluated_cells(table, protocol()).numpy(), table.x[table.test[:30]])
    for every in ("all", None, 1000):
        assert np.array_equal(evaluated_cells(table, protocol(n_cells=every)).numpy(), table.x[table.test])
    assert len(PaperRows(cell_table(), toy(), protocol(n_cells="all")).cells) == 40


@pytest.mark.parametrize("bad", ["most", 1, -5])
def test_a_bad_number_of_cells_is_named(bad):
    with pytest.raises(UserError, match=r"protocol\.n_cells: must be all, or a number from 2 up"):
        protocol(n_cells=bad)


def test_a_test_split_of_one_cell_is_refused():
    with pytest.raises(UserError, match="test split of toy has 1 cells"):
        evaluated_cells(cell_table(4), protocol())


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_an_action_that_is_not_finite_flags_the_row_and_spares_the_others(poison):
    table = cell_table()
    rows = PaperRows(table, toy(), protocol()).of(shift_by(poison))
    assert [name for name, row in rows.items() if row.diverged] == ["policy"]
    assert all(np.isnan(v) for v in rows["policy"].numbers().values())
    assert all(np.isfinite(v) for v in rows["best_constant"].numbers().values())
    assert all(np.isnan(v) for v in quick_scores(shift_by(poison), torch.ones(5, 6), BOX, protocol()).values())


def test_divergence_inside_an_episode_alone_flags_the_row():
    table, calls = cell_table(), []

    def act(obs):
        calls.append(1)
        return torch.zeros_like(obs) if len(calls) < 4 else torch.full_like(obs, torch.nan)

    row = PaperRows(table, toy(), protocol()).of(act)["policy"]
    assert row.diverged and row.numbers()["mse"] == 0.0 and np.isnan(row.return_gain)


def test_a_policy_of_the_wrong_shape_is_an_error_in_one_line():
    with pytest.raises(UserError, match=r"expected \[cells, 6\]"):
        quick_scores(lambda obs: obs[:, :2], torch.ones(5, 6), BOX, protocol())
    with pytest.raises(UserError, match="for 5 cells"):
        quick_scores(lambda obs: obs[:2], torch.ones(5, 6), BOX, protocol())
    discrete = ActionSpace("discrete", 18)
    for bad in (18, -1):
        with pytest.raises(UserError, match="from 0 to 17"):
            quick_scores(constant(torch.tensor(bad)), torch.ones(5, 6), discrete, protocol())
    with pytest.raises(UserError, match="whole number"):
        quick_scores(lambda obs: obs[:, 0], torch.ones(5, 6), discrete, protocol())


@pytest.mark.parametrize(("kind", "actions", "needed"), [("box", 4, 6), ("discrete", 7, 18)])
def test_an_environment_whose_actions_are_not_features_is_refused(kind, actions, needed):
    with pytest.raises(UserError, match=f"{actions} {kind} actions for 6 features; the metrics need {needed}"):
        PaperRows(cell_table(), toy(kind, actions), protocol()).of(shift_by(0.1))


def test_a_plugins_metric_joins_the_table(extra_metric):
    rows = PaperRows(cell_table(), toy(), protocol()).of(shift_by(0.25))
    numbers = rows["policy"].numbers()
    assert list(numbers)[:11] == [*METRICS, extra_metric]
    assert numbers[extra_metric] == pytest.approx(0.25)
    assert rows["random_sign"].numbers()[extra_metric] == pytest.approx(1.0), "it sees one row's table at a time"
    assert extra_metric not in quick_scores(shift_by(0.25), torch.ones(5, 6), BOX, protocol())


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("scalar", lambda truth, prediction: 0.0, r"metric=scalar: returned shape \(\); expected \(6,\)"),
        ("return_gain", lambda truth, prediction: truth[0], "metric=return_gain: .* call the metric otherwise"),
    ],
)
def test_a_plugins_mistake_is_named(name, function, message):
    registry.metrics.register(name, MetricConfig)(function)
    try:
        with pytest.raises(UserError, match=message):
            PaperRows(cell_table(), toy(), protocol()).of(shift_by(0.1))
    finally:
        del registry.metrics._entries[name]
