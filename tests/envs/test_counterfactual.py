"""The counterfactual task against what its definition says, computed with plain numpy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from fakes.screens import TEST, TRAIN, additive
from scipy.spatial.distance import cdist

from perturbrl.effects.baselines import BaselineContext, make_baseline, residual_names
from perturbrl.envs import make, make_batched, make_vec
from perturbrl.envs.counterfactual.parts import part_of, spread
from perturbrl.envs.counterfactual.projections import principal
from perturbrl.envs.counterfactual.residual import residual_changes
from perturbrl.envs.counterfactual.rewards import REWARDS, matched
from perturbrl.errors import UserError

from .helpers import actions, build, config, uniforms

TABLE = additive()
X = np.asarray(TABLE.screen.x.todense(), dtype=float)
NAMES = [c.name for c in TABLE.screen.conditions]


def conf(**changes):
    return config("counterfactual", **{"state_size": 5, "action": "genes", "mates": 4, **changes})


def made(part="train", n_envs=8, runs=1, **changes):
    cells = getattr(TABLE.split, f"control_{part}")
    return build([conf(**changes)] * runs, TABLE, n_envs, cells)


def truth(env, condition):
    """Rows of the observed cells of a condition of the environment's part, by its index there."""
    rows = getattr(TABLE.split, env.part.name)
    return rows[TABLE.screen.condition[rows] == env.part.conditions[condition]]


def controls(env):
    return getattr(TABLE.split, f"control_{env.part.name}")


def moved(env):
    """Unchanged cells and their changes in genes, both [B, G], and the conditions [B], of run 0."""
    state = env.state()
    cells = X[env.part.cells[state["cell"][0].numpy()]]
    return cells, env.dynamics.genes(state["change"])[0], state["condition"][0].numpy()


def norm():
    mean = X[TABLE.split.control_train].mean(0)
    env = made()
    return np.mean([((X[truth(env, i)].mean(0) - mean) ** 2).sum() for i in range(len(env.part.conditions))])


def naive(env, kind):
    """The distance of run 0's cells to their populations, from the definition."""
    cells, change, condition = moved(env)
    unit = norm()
    basis = env.dynamics.geometry.latent
    mean = X[controls(env)].mean(0)
    out = []
    for b, (x, d, i) in enumerate(zip(cells, change, condition, strict=True)):
        y = X[truth(env, i)]
        if kind == "shift":
            out.append(((mean + d - y.mean(0)) ** 2).sum() / unit)
        elif kind == "mse":
            out.append(((x + d - y.mean(0)) ** 2).sum() / unit)
        elif kind == "ot":
            first, count = env.part.first[i], env.part.count[i]
            pool = X[env.part.cells[first : first + count]] @ basis
            mate = matched(pool, X[env.part.population[i]] @ basis)
            at = int(env.state()["cell"][0, b]) - first
            out.append((((x + d) @ basis - mate[at]) ** 2).sum() / unit)
        else:
            group = [j for j in range(b // 4 * 4, b // 4 * 4 + 4) if j != b]
            z = (x + d) @ basis
            own = cdist([z], (cells[group] + change[group]) @ basis).mean()
            out.append((2 * cdist([z], y @ basis).mean() - own) / np.sqrt(unit))
    return np.array(out)


@pytest.mark.parametrize("kind", REWARDS)
def test_a_reward_is_the_drop_of_the_distance_by_its_definition(kind):
    env = made(reward=kind, horizon=3)
    u, a = uniforms(env, 0, 4), actions(env, 1, 3)
    env.reset(u[0])
    before = naive(env, kind)
    for t in range(2):
        step = env.step(a[t], u[t + 1])
        after = naive(env, kind)
        np.testing.assert_allclose(step.reward[0], before - after, atol=2e-4)
        before = after


@pytest.mark.parametrize("kind", REWARDS)
@pytest.mark.parametrize("action", ["genes", "pca", "de"])
def test_rewards_of_an_episode_sum_to_the_whole_drop(kind, action):
    env = made(reward=kind, action=action, horizon=4, action_size=3)
    u, a = uniforms(env, 2, 5), actions(env, 3, 4)
    env.reset(u[0])
    start, total = naive(env, kind), np.zeros(env.n_envs)
    for t in range(3):
        total += env.step(a[t], u[t + 1]).reward[0].numpy()
    np.testing.assert_allclose(total, start - naive(env, kind), atol=5e-4)
    last = env.step(a[3], u[4])
    assert last.terminated.all() and not last.truncated.any()


@pytest.mark.parametrize("kind", ["shift", "mse"])
def test_reaching_the_mean_of_the_population_earns_all_there_is(kind):
    env = made(reward=kind, step_size=1000.0)
    env.reset(uniforms(env, 0))
    best = env.best_returns()[0].numpy()
    cells, _, condition = moved(env)
    goal = np.stack([X[truth(env, i)].mean(0) for i in condition])
    away = goal - (X[controls(env)].mean(0) if kind == "shift" else cells)
    a = torch.tensor(away / (1000 * env.dynamics.geometry.reach), dtype=torch.float32)[None]
    assert a.abs().max() < 1
    np.testing.assert_allclose(env.step(a, uniforms(env, 1)).reward[0], best, rtol=1e-3)


def test_doing_nothing_earns_nothing():
    for kind in REWARDS:
        env = made(reward=kind, horizon=2)
        env.reset(uniforms(env, 0))
        for t in range(2):
            reward = env.step(torch.zeros(1, 8, env.action_space.size), uniforms(env, t)).reward
            np.testing.assert_allclose(reward, 0, atol=1e-5)


@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("residual", ["none", "train_mean"])
@pytest.mark.parametrize("action", ["pca", "de", "genes"])
def test_a_demonstration_ends_at_the_nearest_point_that_actions_reach(action, residual, horizon):
    env = made(action=action, action_size=3, residual=residual, horizon=horizon, step_size=50.0)
    u = uniforms(env, 0, horizon + 1)
    env.reset(u[0])
    _, _, condition = moved(env)
    begin = residual_changes(TABLE, residual)[env.part.conditions[condition]]
    wanted = env.part.effect[condition] - begin
    basis = env.dynamics.geometry.change
    nearest = np.linalg.lstsq(basis, wanted.T, rcond=None)[0].T @ basis.T
    last = env.demonstration()
    assert last.shape == (1, 8, env.action_space.size) and last.abs().max() < 1
    for t in range(horizon - 1):
        env.step(last, u[t + 1])
        now = env.demonstration()
        np.testing.assert_allclose(now, last, atol=1e-5)  # evenly
        last = now
    change = env.dynamics.advance(env.state()["change"], last)
    np.testing.assert_allclose(env.dynamics.genes(change)[0], nearest, atol=1e-4)


def test_no_action_earns_more_than_the_one_demonstrated_even_where_it_is_clipped():
    u, rng = uniforms(made(), 0, 2), torch.Generator().manual_seed(0)

    def earns(change):
        env = made(action="pca", action_size=4, step_size=0.7)
        env.reset(u[0])
        shown = env.demonstration()
        return shown, env.step((shown + change).clamp(-1, 1), u[1]).reward

    shown, best = earns(0.0)
    assert shown.abs().max() == 1 and (shown.abs() < 1).any()
    for _ in range(50):
        assert (earns(0.3 * torch.randn(shown.shape, generator=rng))[1] <= best + 1e-5).all()


def test_the_mean_of_a_group_is_the_energy_distance_of_cells():
    env = made(reward="energy", n_envs=8, mates=8)
    env.reset(uniforms(env, 0))
    cells, _, condition = moved(env)
    assert len(set(condition)) == 1
    basis, y = env.dynamics.geometry.latent, X[truth(env, condition[0])]
    among = cdist(cells @ basis, cells @ basis)
    expected = 2 * cdist(cells @ basis, y @ basis).mean() - among.sum() / (8 * 7)
    share = env.distance.start(env.state()["cell"], env.state()["condition"])
    np.testing.assert_allclose(float(share.mean()), expected / np.sqrt(norm()), rtol=1e-4)


def test_optimal_transport_matches_as_the_best_of_all_assignments():
    from itertools import permutations

    rng = np.random.default_rng(0)
    cells, population = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    best = min(permutations(range(5)), key=lambda p: ((cells - population[list(p)]) ** 2).sum())
    np.testing.assert_allclose(matched(cells, population), population[list(best)])
    assert matched(cells, population[:2]).shape == (5, 2)
    assert {tuple(row) for row in matched(cells, population[:2])} == {tuple(row) for row in population[:2]}


def test_what_a_policy_sees():
    env = made(horizon=4, state="genes")
    obs = env.reset(uniforms(env, 0))
    cells, _, condition = moved(env)
    train = X[env.part.cells]
    want = (cells - env.dynamics.geometry.centre) / np.maximum(train.std(0), 1e-2)
    np.testing.assert_allclose(obs[0, :, env.slices["state"]], want, atol=1e-3)
    known = TABLE.description[env.part.conditions]
    known = (known - known.mean(0)) / np.where(known.std(0) > 0, known.std(0), 1)
    varies = TABLE.description[env.part.conditions].std(0) > 0
    np.testing.assert_allclose(obs[0, :, env.slices["description"]][:, varies], known[condition][:, varies], atol=1e-5)
    assert (obs[..., env.slices["time"]] == 1).all()
    a = actions(env, 1)
    step = env.step(a, uniforms(env, 1))
    assert (step.obs[..., env.slices["time"]] == 0.75).all()
    change = np.clip(a[0], -1, 1) * env.dynamics.geometry.reach * conf().step_size
    np.testing.assert_allclose(
        step.obs[0, :, env.slices["state"]], want + change.numpy() / np.maximum(train.std(0), 1e-2), atol=1e-2
    )


def test_training_sees_nothing_of_validation_and_test():
    """Change every cell that is not for training: nothing that a learner meets may move."""
    x = TABLE.screen.x.copy()
    held = np.concatenate([getattr(TABLE.split, f"{c}{p}") for c in ("", "control_") for p in ("validation", "test")])
    x = x.tolil()
    x[held] = 99.0
    other = dataclasses.replace(TABLE, screen=dataclasses.replace(TABLE.screen, x=x.tocsr()))
    for kind in REWARDS:
        for residual in ("none", *residual_names()) if kind == "shift" else ("none", "train_mean", "bilinear"):
            seen = []
            for table in (TABLE, other):
                env = build([conf(reward=kind, action="pca", residual=residual)], table, 8, table.split.control_train)
                obs = env.reset(uniforms(env, 0))
                step = env.step(actions(env, 1), uniforms(env, 2))
                seen.append((obs, step.obs, step.reward))
            for one, two in zip(*seen, strict=True):
                assert torch.equal(one, two), (kind, residual)


def test_start_cells_name_the_part_and_so_the_conditions():
    for part, names in (("train", TRAIN), ("test", TEST)):
        env = made(part)
        assert {NAMES[i] for i in env.part.conditions} == set(names)
        assert set(env.part.cells) <= set(getattr(TABLE.split, f"control_{part}"))
    mixed = np.concatenate([TABLE.split.control_train[:2], TABLE.split.control_test[:2]])
    with pytest.raises(UserError, match="of one part of the split"):
        build([conf()], TABLE, 4, mixed)
    with pytest.raises(UserError, match="no control cells"):
        build([conf()], TABLE, 4, TABLE.split.control_train[:0])


def test_conditions_and_cells_are_drawn_evenly_and_max_train_targets_bounds_training_only():
    env = made(n_envs=4000, max_train_targets=1)
    env.reset(uniforms(env, 0))
    drawn = np.bincount(env.condition[0], minlength=len(TRAIN))
    singles = [NAMES[i] for i in env.part.conditions[drawn > 0]]
    assert set(singles) == {"A", "B", "C", "D"} and drawn[drawn > 0].min() > 850
    cells = np.bincount(env.state()["cell"][0], minlength=len(env.part.cells))
    assert cells.min() > 0
    env = made("test", n_envs=400, max_train_targets=1)
    env.reset(uniforms(env, 0))
    assert {NAMES[env.part.conditions[i]] for i in env.condition[0]} == set(TEST)


def test_cells_of_another_context_are_never_the_start():
    table = additive(contexts=("k562", "rpe1"))
    env = build([conf(state_size=3)], table, 200, table.split.control_train)
    env.reset(uniforms(env, 0))
    for cell, condition in zip(env.state()["cell"][0], env.condition[0], strict=True):
        start = table.screen.conditions[table.screen.condition[env.part.cells[cell]]]
        assert start.is_control
        assert start.context == table.screen.conditions[env.part.conditions[condition]].context
    some = table.split.control_train
    some = some[[table.screen.conditions[i].context == "k562" for i in table.screen.condition[some]]]
    with pytest.raises(UserError, match="context 'rpe1' has no control cell"):
        build([conf()], table, 4, some)


@pytest.mark.parametrize("kind", REWARDS)
@pytest.mark.parametrize("cells", [8, 32])
def test_run_k_of_a_population_is_run_k_alone(kind, cells):
    configs = [
        conf(reward=kind, horizon=2, action="pca", step_size=s, max_train_targets=m) for s, m in ((1.0, 2), (3.0, 1))
    ]
    start = TABLE.split.control_train
    both = build(configs, TABLE, cells, start)
    u, a = uniforms(both, 0, 4), actions(both, 1, 3)
    seen = [both.reset(u[0])] + [s for t in range(3) for s in (lambda x: (x.obs, x.reward))(both.step(a[t], u[t + 1]))]
    for k in range(2):
        alone = build(configs[k : k + 1], TABLE, cells, start)
        own = [alone.reset(u[0, k : k + 1])]
        for t in range(3):
            step = alone.step(a[t, k : k + 1], u[t + 1, k : k + 1])
            own += [step.obs, step.reward]
        for one, two in zip(seen, own, strict=True):
            assert torch.equal(one[k], two[0])


@pytest.mark.parametrize("kind", REWARDS)
def test_an_interrupted_episode_goes_on(kind):
    env, other = (made(reward=kind, horizon=5) for _ in range(2))
    u, a = uniforms(env, 0, 5), actions(env, 1, 4)
    env.reset(u[0])
    env.step(a[0], u[1])
    other.load_state(env.state())
    for t in (1, 2, 3):
        one, two = env.step(a[t], u[t + 1]), other.step(a[t], u[t + 1])
        assert torch.equal(one.obs, two.obs) and torch.equal(one.reward, two.reward)
    with pytest.raises(UserError, match="env state 'change'"):
        made(action="pca", action_size=2).load_state(env.state())


def test_bases_are_orthonormal_and_fitted_on_training_effects():
    for action, size in (("pca", 4), ("de", 5), ("genes", 12)):
        env = made(action=action, action_size=size)
        basis = env.dynamics.geometry.change
        assert basis.shape == (12, size)
        np.testing.assert_allclose(basis.T @ basis, np.eye(size), atol=1e-9)
    env = made(action="pca", action_size=6)
    effect = env.part.effect
    basis = env.dynamics.geometry.change
    np.testing.assert_allclose(effect @ basis @ basis.T, effect, atol=1e-9)
    loud = made(action="de", action_size=3).dynamics.geometry.change.argmax(0)
    control, own = X[env.part.cells], [X[rows] for rows in env.part.population]
    t = [np.abs(y.mean(0) - control.mean(0)) / np.sqrt(y.var(0) / len(y) + control.var(0) / len(control)) for y in own]
    assert set(loud) == set(np.argsort(-np.max(t, axis=0))[:3])


def test_principal_components_agree_with_a_dense_decomposition():
    from scipy import sparse

    x = sparse.random(200, 90, 0.2, "csr", random_state=0)
    v, sd, mean = principal(x, 5)
    dense = x.toarray()
    _, s, vt = np.linalg.svd(dense - dense.mean(0), full_matrices=False)
    np.testing.assert_allclose(mean, dense.mean(0))
    np.testing.assert_allclose(sd, s[:5] / np.sqrt(199), rtol=1e-6)
    np.testing.assert_allclose(np.abs(v.T @ vt[:5].T), np.eye(5), atol=1e-5)


def test_a_residual_starts_from_predictions_of_fits_that_left_the_condition_out():
    changes = residual_changes(TABLE, "train_mean")
    part = part_of(TABLE, TABLE.split.control_train, 256)
    effect = part.effect
    for i, condition in enumerate(part.conditions):
        gap = np.abs(changes[condition] - np.delete(effect, i, axis=0).mean(0)).max()
        assert np.abs(changes[condition] - effect.mean(0)).max() > 1e-3  # it was left out
        assert gap < 2  # and perhaps others of its fold with it
    held = TABLE.conditions_of(TABLE.split.test)
    np.testing.assert_allclose(changes[held], np.tile(effect.mean(0), (len(held), 1)), atol=1e-6)
    env, plain = made(residual="train_mean"), made()
    u = uniforms(env, 0)
    env.reset(u), plain.reset(u)
    still = torch.zeros(1, 8, 12)
    drop = env.step(still, u).reward[0].numpy()
    start = naive_shift(plain, np.zeros(12))
    np.testing.assert_allclose(drop, [start[b] - naive_shift(plain, changes)[b] for b in range(8)], atol=1e-4)


@pytest.mark.parametrize("name", residual_names())
def test_a_residual_of_held_out_conditions_is_the_baseline_itself(name):
    features = (*"ABCDEF", *TABLE.screen.features[6:])  # targets that are measured, for those who need them
    table = dataclasses.replace(TABLE, screen=dataclasses.replace(TABLE.screen, features=features))
    held = table.conditions_of(np.concatenate([table.split.validation, table.split.test]))
    untuned = dataclasses.replace(table, split=dataclasses.replace(table.split, validation=table.split.test[:0]))
    baseline = make_baseline(name, BaselineContext(seed=table.split.seed, action_rms=0.0))
    baseline.fit(untuned)
    changes = residual_changes(table, name)
    np.testing.assert_allclose(changes[held], baseline.predict(held), atol=1e-6)
    own = table.conditions_of(table.split.train)
    assert np.abs(changes[own] - baseline.predict(own)).max(1).min() > 1e-3  # of fits without them
    assert not changes[[c.is_control for c in table.screen.conditions]].any()


def naive_shift(env, changes):
    """Distance by ``shift`` after the change of each condition, at the start of an episode."""
    env.reset(uniforms(env, 0))
    mean, unit = X[controls(env)].mean(0), norm()
    out = []
    for i in env.condition[0].numpy():
        own = changes if changes.ndim == 1 else changes[env.part.conditions[i]]
        out.append(((mean + own - X[truth(env, i)].mean(0)) ** 2).sum() / unit)
    return out


def test_gymnasium_faces():
    env = make("counterfactual", TABLE, state_size=5, horizon=3)
    obs, _ = env.reset(seed=1)
    assert env.observation_space.contains(obs)
    for t in range(3):
        obs, _, terminated, _, _ = env.step(env.action_space.sample())
        assert terminated == (t == 2)
    many = make_vec("counterfactual", TABLE, 8, state_size=5, reward="energy")
    obs, _ = many.reset(seed=1)
    assert obs.shape == (8, many.batched.obs_dim)
    _, reward, terminated, _, infos = many.step(many.action_space.sample())
    assert reward.shape == (8,) and terminated.all() and "final_obs" in infos


BAD = [
    ({"horizon": 0}, "env.horizon: must be at least 1, got 0"),
    ({"step_size": -1.0}, "env.step_size: must be above 0, got -1.0"),
    ({"reward": "mae"}, "env.reward: 'mae'"),
    ({"residual": "additive"}, "env.residual: 'additive'"),
    ({"state": "umap"}, "env.state: 'umap'"),
    ({"action": "all"}, "env.action: 'all'"),
    ({"state_size": 0}, "env.state_size: must be at least 1, got 0"),
    ({"action_size": 0}, "env.action_size: must be at least 1, got 0"),
    ({"pool": 0}, "env.pool: must be at least 1, got 0"),
    ({"max_train_targets": 0}, "env.max_train_targets: must be at least 1, got 0"),
    ({"mates": 3, "reward": "energy"}, "env.mates: 8 cells cannot stand in groups of 3"),
]


@pytest.mark.parametrize(("changes", "said"), BAD)
def test_settings_out_of_range(changes, said):
    with pytest.raises(UserError, match=said):
        made(**changes)


def test_other_errors():
    from .helpers import cell_table

    with pytest.raises(UserError, match="choose split=unseen_single"):
        make_batched("counterfactual", cell_table(), 4)
    with pytest.raises(UserError, match=r"env\.reward: runs trained together need one"):
        build([conf(), conf(reward="mse")], TABLE, 8, TABLE.split.control_train)
    pairs = np.array([len(TABLE.screen.conditions[i].targets) == 2 for i in TABLE.screen.condition])
    split = dataclasses.replace(TABLE.split, train=TABLE.split.train[pairs[TABLE.split.train]])
    with pytest.raises(UserError, match=r"env\.max_train_targets: 1 leaves no condition to train on"):
        build([conf(max_train_targets=1)], dataclasses.replace(TABLE, split=split), 4, split.control_train)


def test_spread_keeps_ends_evenly():
    np.testing.assert_array_equal(spread(np.arange(10), 5), [0, 2, 4, 6, 8])
    np.testing.assert_array_equal(spread(np.arange(3), 5), [0, 1, 2])
