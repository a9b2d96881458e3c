from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from perturbrl.errors import UserError

from .helpers import TASKS, actions, build, cell_table, config, uniforms

EDGES = (0.0, 1 - 2**-24)


def play(env, seed, n_steps):
    u, a = uniforms(env, seed, n_steps + 1), actions(env, seed + 1, n_steps + 1)
    return [env.reset(u[0])], [env.step(a[t], u[t]) for t in range(1, n_steps + 1)]


def test_rewards_of_an_episode_sum_to_the_drop_in_mse():
    env = build([config("paper", horizon=40)] * 2, cell_table(), 5)
    _, steps = play(env, 0, 39)
    state = env.state()
    x = torch.from_numpy(cell_table().x)
    drop = ((x[state["row"]] - x[state["target_row"]]) ** 2).mean(-1) - (
        (state["cells"] - x[state["target_row"]]) ** 2
    ).mean(-1)
    torch.testing.assert_close(sum(s.reward for s in steps), drop, atol=1e-4, rtol=1e-5)


def test_a_deviation_that_stays_costs_more_with_every_step():
    adaptive, fixed = ([config("paper", perturb_prob=0.0, threshold_rate=rate)] for rate in (0.1, 0.0))
    env, released = build(adaptive, cell_table(), 5), build(fixed, cell_table(), 5)
    env.reset(u := uniforms(env, 0))
    released.reset(u)
    still, table = torch.zeros(1, 5, 7), torch.from_numpy(cell_table().x)
    costs = [released.step(still, u).reward - env.step(still, u).reward for _ in range(30)]
    mse = ((env.state()["cells"] - table[env.state()["target_row"]]) ** 2).mean(-1)
    for t, cost in enumerate(costs, start=1):
        torch.testing.assert_close(cost, (1 - 0.9**t) * mse, atol=1e-5, rtol=1e-4)
    assert "threshold" in env.state() and "threshold" not in released.state()


def test_the_first_reward_charges_the_event_of_the_reset():
    env = build([config("paper", perturb_prob=0.0, clip=1e3)], cell_table(), 200)
    u = uniforms(env, 0)
    obs = env.reset(u).clone()
    state, x = env.state(), torch.from_numpy(cell_table().x)
    reward = env.step(torch.zeros(1, 200, 7), u).reward
    target = x[state["target_row"]]
    expected = ((x[state["row"]] - target) ** 2).mean(-1) - ((obs - target) ** 2).mean(-1)
    torch.testing.assert_close(reward, expected, atol=1e-5, rtol=1e-5)
    assert (reward != 0).float().mean() > 0.9
    assert (env.step(torch.zeros(1, 200, 7), u).reward == 0).all()


def test_targets_are_later_cells_of_the_given_ones_and_reach_all_of_them():
    table = cell_table(40, 3)
    env = build([config("paper")], table, 20_000, cells=table.test)
    env.reset(uniforms(env, 0))
    row, target = (env.state()[key][0].numpy() for key in ("row", "target_row"))
    time = table.pseudotime
    seen = {(r, t) for r, t in zip(row.tolist(), target.tolist(), strict=True)}
    expected = {(r, t) for r in table.test for t in table.test if time[t] > time[r]}
    last = time[table.test].max()
    expected |= {(r, r) for r in table.test if time[r] == last}
    assert seen == expected
    counts = np.bincount(row, minlength=40)[table.test]
    assert np.abs(counts / len(row) - 1 / len(table.test)).max() < 0.01


def test_actions_beyond_the_box_are_clipped_and_cells_are_clipped():
    env = build([config("paper", perturb_prob=0.0, clip=1.0, horizon=50)], cell_table(), 4)
    env.reset(uniforms(env, 0))
    for t in range(20):
        cells = env.step(torch.full((1, 4, 7), 9.0), uniforms(env, t)).obs
        assert cells.max() <= 1.0
    assert (cells == 1.0).all(), "twenty steps of 0.25 from -1 reach the clip"


@pytest.mark.parametrize("limit", ["terminated", "truncated"])
@pytest.mark.parametrize("name", TASKS)
def test_the_horizon_ends_every_episode_by_the_flag_that_was_chosen(name, limit):
    env = build([config(name, horizon=3, time_limit=limit)], cell_table(), 4)
    _, steps = play(env, 0, 7)
    for t, step in enumerate(steps, start=1):
        assert getattr(step, limit).all() == (t % 3 == 0)
        assert getattr(step, limit).any() == (t % 3 == 0)
        assert not getattr(step, "truncated" if limit == "terminated" else "terminated").any()
        assert torch.equal(step.obs, step.final_obs) == (t % 3 != 0)


@pytest.mark.parametrize("name", TASKS)
def test_returned_tensors_outlive_later_steps(name):
    env = build([config(name, horizon=4)] * 2, cell_table(), 3)
    first, steps = play(env, 0, 1)
    step = steps[0]
    kept = [t.clone() for t in (first[0], step.obs, step.reward, step.terminated, step.final_obs)]
    play(env, 5, 9)
    for now, then in zip((first[0], step.obs, step.reward, step.terminated, step.final_obs), kept, strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("rate", [0.0, 0.1])
@pytest.mark.parametrize("at", [0, 2, 5, 6])
def test_a_loaded_state_goes_on_as_if_nothing_happened(name, at, rate):
    configs = [config(name, horizon=6, max_perturb=m, threshold_rate=rate) for m in (1, 9)]
    env, other = build(configs, cell_table(), 4), build(configs, cell_table(), 4)
    play(env, 0, at)
    play(other, 7, 3)
    saved = env.state()
    kept = {key: value.clone() for key, value in saved.items()}
    handed_in = {key: value.clone() for key, value in saved.items()}
    other.load_state(handed_in)
    for value in handed_in.values():
        value.zero_()
    u, a = uniforms(env, 1, 15), actions(env, 2, 15)
    for t in range(15):
        one, two = env.step(a[t], u[t]), other.step(a[t], u[t])
        assert all(torch.equal(getattr(one, f), getattr(two, f)) for f in one.__dataclass_fields__)
    assert all(torch.equal(saved[key], kept[key]) for key in kept), "a saved state is a copy"


def test_a_state_of_another_shape_or_task_is_refused():
    env = build([config("paper_discrete")], cell_table(), 4)
    with pytest.raises(UserError, match=r"'row'.*expected shape \(1, 4\), found \(1, 3\)"):
        env.load_state(build([config("paper_discrete")], cell_table(), 3).state())
    with pytest.raises(UserError, match=r"'gene'.*found nothing"):
        env.load_state(build([config("paper")], cell_table(), 4).state())


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("edge", EDGES)
def test_uniforms_at_the_ends_of_their_range_stay_inside(name, edge):
    env = build([config(name, horizon=2, max_perturb=3), config(name, horizon=2)], cell_table(31, 13), 2)
    u = torch.full((2, 2, env.n_uniforms), edge)
    env.reset(u)
    for t in range(5):
        assert env.step(actions(env, t), u).obs.isfinite().all()


class NoWaiting(TorchDispatchMode):
    """Fails at operators that make the host wait for a GPU: values read back, or shapes that depend on values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert torch.Tag.data_dependent_output not in func.tags, func
        by_integers = func is torch.ops.aten.index.Tensor and not any(
            i.dtype == torch.bool for i in args[1] if i is not None
        )
        assert by_integers or torch.Tag.dynamic_output_shape not in func.tags, func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", TASKS)
def test_no_step_reads_a_value_back_to_the_host(name):
    env = build([config(name, horizon=3)] * 2, cell_table(), 4)
    with pytest.raises(AssertionError), NoWaiting():
        torch.ones(1).item()
    with pytest.raises(AssertionError), NoWaiting():
        torch.ones(2)[torch.ones(2) > 0]
    u, a = uniforms(env, 0, 7), actions(env, 1, 7)
    with NoWaiting():
        env.reset(u[0])
        for t in range(7):
            env.step(a[t], u[t])


def test_the_table_is_shared_and_not_copied():
    table = cell_table()
    env = build([config("paper")] * 3, table, 5)
    assert env._x.data_ptr() == table.x.ctypes.data


@pytest.mark.parametrize("name", TASKS)
def test_the_table_is_never_written(name):
    table = cell_table()
    before = table.x.copy()
    env = build([config(name, horizon=3)], table, 5)
    play(env, 0, 8)
    np.testing.assert_array_equal(table.x, before)


BAD = (
    ("paper", {"max_perturb": 0}, "env.max_perturb"),
    ("paper", {"perturb_prob": 1.1}, "env.perturb_prob"),
    ("paper", {"perturb_prob": -0.1}, "env.perturb_prob"),
    ("paper", {"perturb_prob": float("nan")}, "env.perturb_prob"),
    ("paper", {"horizon": 0}, "env.horizon"),
    ("paper", {"step_size": 0.0}, "env.step_size"),
    ("paper", {"clip": float("inf")}, "env.clip"),
    ("paper", {"threshold_rate": 1.5}, "env.threshold_rate"),
    ("paper", {"threshold_rate": 0.1}, "env.threshold_rate: runs trained together need one value"),
    ("paper", {"time_limit": "truncate"}, "env.time_limit.*did you mean 'truncated'"),
    ("paper_discrete", {"reward_gene": "always"}, "env.reward_gene.*episode or step"),
    ("paper_discrete", {"reward_gene_weight": -1.0}, "env.reward_gene_weight"),
    ("paper_discrete", {"max_perturb": -3}, "env.max_perturb"),
)


@pytest.mark.parametrize(("name", "change", "message"), BAD)
def test_a_bad_setting_is_named(name, change, message):
    with pytest.raises(UserError, match=message):
        build([config(name), config(name, **change)], cell_table(), 2)


def test_what_else_cannot_be_built():
    table = cell_table()
    with pytest.raises(UserError, match=r"env.horizon: runs trained together need one value, got 3, 4"):
        build([config("paper", horizon=3), config("paper", horizon=4)], table, 2)
    with pytest.raises(UserError, match="no cells"):
        build([config("paper")], table, 2, cells=np.arange(0))
    with pytest.raises(UserError, match="n_envs"):
        build([config("paper")], table, 0)
    table.pseudotime[table.train[3]] = np.nan
    with pytest.raises(UserError, match=f"row {table.train[3]} .*pseudotime"):
        build([config("paper")], table, 2)
