from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fakes.screens import exact, noisy, table_of

from perturbrl import registry
from perturbrl.effects.baselines import BaselineContext, baseline_config, baseline_names, covered, make_baseline
from perturbrl.effects.baselines.descriptors import inputs
from perturbrl.effects.groups import group_cells
from perturbrl.errors import UserError
from perturbrl.metrics_info import SIMPLE
from perturbrl.screens.schema import Condition

CONTEXT = BaselineContext(seed=1, action_rms=0.2)


def changes(table, conditions):
    """Naive mean changes of training cells: loops over cells."""
    screen, split = table.screen, table.split
    x = screen.x.toarray().astype(np.float64)
    out = []
    for c in conditions:
        own = [r for r in split.train if screen.condition[r] == c]
        controls = [r for r in split.control_train if screen.condition[r] == screen.control_of(c)]
        out.append(x[own].mean(axis=0) - x[controls].mean(axis=0))
    return np.array(out)


def fitted(name, table):
    baseline = make_baseline(name, CONTEXT)
    baseline.fit(table)
    assert baseline.name == name
    return baseline


@pytest.fixture(scope="module")
def table():
    return noisy(n_genes=80, cells=12, shift=0.3)


@pytest.fixture(scope="module")
def doubles():
    return exact(contexts=("a", "b"))


def test_no_change_and_random(table):
    asked = table.conditions_of(table.split.test)
    assert not fitted("no_change", table).predict(asked).any()
    drawn = fitted("random", table).predict(asked)
    assert np.sqrt(np.mean(drawn**2)) == pytest.approx(CONTEXT.action_rms, rel=0.1)
    np.testing.assert_array_equal(fitted("random", table).predict(asked[3:5]), drawn[3:5])
    assert len({tuple(row) for row in drawn}) == len(asked)


def test_train_mean_equals_a_loop(table, doubles):
    train = table.conditions_of(table.split.train)
    expected = changes(table, train).mean(axis=0)
    for row in fitted("train_mean", table).predict(table.conditions_of(table.split.test)):
        np.testing.assert_allclose(row, expected, atol=1e-6)
    train = doubles.conditions_of(doubles.split.train)
    for c in doubles.conditions_of(doubles.split.test):
        context = doubles.screen.conditions[c].context
        same = [t for t in train if doubles.screen.conditions[t].context == context]
        found = fitted("train_mean", doubles).predict(np.array([c]))[0]
        np.testing.assert_allclose(found, changes(doubles, same).mean(axis=0), atol=1e-6)


def test_an_unseen_context_gets_the_mean_of_the_others(doubles):
    screen, split = doubles.screen, doubles.split
    out = np.array([screen.conditions[c].context == "b" for c in screen.condition])
    kept = dataclasses.replace(
        split, train=split.train[~out[split.train]], control_train=split.control_train[~out[split.control_train]]
    )
    zero_shot = dataclasses.replace(doubles, split=kept)
    expected = changes(zero_shot, zero_shot.conditions_of(kept.train)).mean(axis=0)
    asked = np.array([c for c in doubles.conditions_of(split.test) if screen.conditions[c].context == "b"])
    for name in ("train_mean", "mlp", "kernel_ridge", "knn", "bilinear"):
        assert np.isfinite(fitted(name, zero_shot).predict(asked)).all()
    np.testing.assert_allclose(fitted("train_mean", zero_shot).predict(asked)[0], expected, atol=1e-6)


@pytest.mark.parametrize("shots", [1, 4, 5])
def test_a_few_shots_of_a_context_are_no_mean_of_it(doubles, shots):
    screen, split = doubles.screen, doubles.split
    own = [c for c in doubles.conditions_of(split.train) if screen.conditions[c].context == "b"][shots:]
    kept = split.train[~np.isin(screen.condition[split.train], own)]
    few = dataclasses.replace(doubles, split=dataclasses.replace(split, train=kept))
    asked = np.array([c for c in doubles.conditions_of(split.test) if screen.conditions[c].context == "b"])
    every = few.conditions_of(kept)
    same = [c for c in every if screen.conditions[c].context == "b"]
    expected = changes(few, same if shots == 5 else every).mean(axis=0)
    np.testing.assert_allclose(fitted("train_mean", few).predict(asked)[0], expected, atol=1e-6)


def test_best_constant_is_the_least_squares_action_over_training_cells():
    a, b, control = Condition(("g0",)), Condition(("g1",)), Condition(())
    rng = np.random.default_rng(0)
    labels = [control] * 8 + [a] * 10 + [b] * 2
    table = table_of(rng.random((20, 5)).astype(np.float32), labels, {a, b}, set())
    found = fitted("best_constant", table).predict(np.array([1]))[0]
    x = table.screen.x.toarray().astype(np.float64)
    target = x[table.split.train] - x[table.split.control_train].mean(axis=0)
    np.testing.assert_allclose(found, target.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found, changes(table, [1] * 5 + [2]).mean(axis=0), atol=1e-6)


def test_additive_is_exact_where_effects_add(doubles):
    asked = doubles.conditions_of(doubles.split.test)
    found = fitted("additive", doubles).predict(asked)
    screen = doubles.screen
    x = screen.x.toarray().astype(np.float64)
    for c, change in zip(asked, found, strict=True):
        truth = x[screen.condition == c].mean(axis=0) - x[screen.condition == screen.control_of(c)].mean(axis=0)
        np.testing.assert_allclose(change, truth, atol=1e-5)


def test_additive_and_matching_mean_say_what_singles_allow():
    a, b, c = (Condition((g,)) for g in ("g0", "g1", "g2"))
    ab, cd = Condition(("g0", "g1")), Condition(("g2", "g9"))
    rng = np.random.default_rng(0)
    labels = [Condition(())] * 8 + [x for x in (a, b, c, ab, cd) for _ in range(3)]
    table = table_of(rng.random((len(labels), 6)).astype(np.float32), labels, {a, b, c}, {ab, cd})
    index = {x: i for i, x in enumerate(table.screen.conditions)}
    single = dict(zip((a, b, c), changes(table, [index[x] for x in (a, b, c)]), strict=True))
    asked = np.array([index[ab], index[cd]])
    additive = fitted("additive", table).predict(asked)
    assert covered(additive).tolist() == [True, False]
    np.testing.assert_allclose(additive[0], single[a] + single[b], atol=1e-6)
    matching = fitted("matching_mean", table).predict(asked)
    mean = np.mean(list(single.values()), axis=0)
    np.testing.assert_allclose(matching[0], (single[a] + single[b]) / 2, atol=1e-6)
    np.testing.assert_allclose(matching[1], (single[c] + mean) / 2, atol=1e-6)


def test_additive_never_uses_singles_that_are_tested():
    a, b, ab = Condition(("g0",)), Condition(("g1",)), Condition(("g0", "g1"))
    labels = [Condition(())] * 8 + [x for x in (a, b, ab) for _ in range(3)]
    table = table_of(np.random.default_rng(0).random((17, 6)).astype(np.float32), labels, {a}, {b, ab})
    assert not covered(fitted("additive", table).predict(table.conditions_of(table.split.test))).any()


def test_transfer_mean_averages_the_other_contexts():
    contexts = ("x", "y", "z")
    conditions = [Condition(("g0",), c) for c in contexts] + [Condition(("g1",), "x")]
    labels = [Condition((), c) for c in contexts for _ in range(8)] + [c for c in conditions for _ in range(4)]
    x = np.random.default_rng(0).random((len(labels), 5)).astype(np.float32)
    table = table_of(x, labels, {conditions[0], conditions[1]}, {conditions[2], conditions[3]})
    index = {c: i for i, c in enumerate(table.screen.conditions)}
    found = fitted("transfer_mean", table).predict(np.array([index[conditions[2]], index[conditions[3]]]))
    expected = changes(table, [index[conditions[0]], index[conditions[1]]]).mean(axis=0)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    assert np.isnan(found[1]).all()


def naive_bilinear(table, asked, k=10, ridge=0.1):
    """Written from the formulas of the paper, with explicit inverses and scikit-learn's PCA."""
    from sklearn.decomposition import PCA

    screen = table.screen
    train = table.conditions_of(table.split.train)
    y = changes(table, train).T
    x = screen.x.toarray().astype(np.float64)
    mu0 = x[table.split.control_train].mean(axis=0)
    profiles = np.column_stack([y + mu0[:, None], mu0])
    # genes are samples and conditions variables: PCA centres each condition over genes
    g = PCA(n_components=min(k, profiles.shape[1]), svd_solver="full").fit_transform(profiles)

    def row(c):
        return g[[screen.features.index(t) for t in screen.conditions[c].targets]].sum(axis=0)

    p = np.array([row(c) for c in train] + [np.zeros(g.shape[1])])
    y = np.column_stack([y, np.zeros(len(y))])
    b = y.mean(axis=1)
    unit = np.eye(g.shape[1])
    w = np.linalg.inv(g.T @ g + ridge * unit) @ g.T @ (y - b[:, None]) @ p @ np.linalg.inv(p.T @ p + ridge * unit)
    return np.array([b + g @ w @ row(c) for c in asked])


def test_bilinear_equals_the_formulas(table):
    asked = table.conditions_of(table.split.test)
    expected = naive_bilinear(table, asked)
    np.testing.assert_allclose(fitted("bilinear", table).predict(asked), expected, atol=1e-6)
    assert np.abs(expected).max() > 0.1


def test_bilinear_adds_the_targets_of_a_combination_and_knows_signs():
    table = exact()
    asked = table.conditions_of(table.split.test)
    np.testing.assert_allclose(fitted("bilinear", table).predict(asked), naive_bilinear(table, asked), atol=1e-6)
    known = fitted("bilinear", table)
    both = known.predict(asked)
    singles = [
        [table.screen.conditions.index(Condition((t,))) for t in table.screen.conditions[c].targets] for c in asked
    ]
    offset = known.predict(np.array([0]))[0]
    expected = [known.predict(np.array(s)).sum(axis=0) - offset * (len(s) - 1) for s in singles]
    np.testing.assert_allclose(both, expected, atol=1e-9)
    down = {t: (t, -1.0) for c in table.screen.conditions for t in c.targets}
    turned = dataclasses.replace(table, screen=dataclasses.replace(table.screen, genes=down))
    # W P' is even in the sign of all embeddings at once
    np.testing.assert_allclose(fitted("bilinear", turned).predict(asked), both, atol=1e-9)


def test_bilinear_is_silent_on_what_is_no_gene(table):
    screen = dataclasses.replace(table.screen, features=("other", *table.screen.features[1:]))
    index = screen.conditions.index(Condition(("g0",)))
    found = fitted("bilinear", dataclasses.replace(table, screen=screen)).predict(np.array([index, index + 1]))
    assert covered(found).tolist() == [False, True]


def test_tuning_reads_validation_and_chooses_what_is_best_there(table):
    model = fitted("bilinear_tuned", table)
    held = table.conditions_of(table.split.validation)
    screen = table.screen
    x = screen.x.toarray().astype(np.float64)
    truth = [
        x[[r for r in table.split.validation if screen.condition[r] == c]].mean(axis=0)
        - x[table.split.control_validation].mean(axis=0)
        for c in held
    ]
    best = np.square(model.predict(held) - truth).sum()
    for k in (2, 5, 10, 20):
        for ridge in (0.1, 1.0, 100.0):
            assert best <= np.square(naive_bilinear(table, held, k, ridge) - truth).sum() + 1e-6


def test_knn_and_kernel_ridge_equal_loops(table):
    asked, train = table.conditions_of(table.split.test), table.conditions_of(table.split.train)
    x, y = inputs(table), changes(table, table.conditions_of(table.split.train))
    knn, ridge = fitted("knn", table), fitted("kernel_ridge", table)
    expected = [y[np.argsort([np.linalg.norm(x[c] - x[t]) for t in train])[: knn.k]].mean(axis=0) for c in asked]
    np.testing.assert_allclose(knn.predict(asked), expected, atol=1e-6)
    square = np.array([[np.sum((x[a] - x[b]) ** 2) for b in train] for a in [*asked, *train]])
    scale = 2 * ridge.width**2 * np.median(square[len(asked) :][np.triu_indices(len(train), 1)])
    kernel = np.exp(-square / scale)
    fit = np.linalg.solve(kernel[len(asked) :] + ridge.ridge * np.eye(len(train)), y - y.mean(axis=0))
    np.testing.assert_allclose(ridge.predict(asked), y.mean(axis=0) + kernel[: len(asked)] @ fit, atol=1e-6)


@pytest.mark.parametrize("name", ["kernel_ridge", "mlp"])
def test_what_reads_descriptions_beats_the_mean_where_effects_follow_them(name):
    table = noisy(n_genes=60, n_conditions=80, cells=10, strength=0.8)
    asked = table.conditions_of(table.split.test)
    moments = group_cells(table, table.split.test, table.split.control_test, "test").moments(table.screen.x)
    truth = moments.mean[:-1] - moments.mean[-1]
    error = {row: np.square(fitted(row, table).predict(asked) - truth).mean() for row in (name, "train_mean")}
    assert error[name] < 0.7 * error["train_mean"]


def test_permuted_shuffles_the_bilinear_rows(table):
    asked = table.conditions_of(table.split.test)
    known, shuffled = fitted("bilinear", table).predict(asked), fitted("permuted", table).predict(asked)
    np.testing.assert_allclose(np.sort(known, axis=0), np.sort(shuffled, axis=0))
    assert not np.allclose(known, shuffled)


@pytest.mark.parametrize("name", baseline_names())
def test_nothing_reads_test_cells_and_the_same_seed_says_the_same(name, table):
    asked = table.conditions_of(table.split.test)
    x = table.screen.x.copy()
    hidden = np.zeros(x.shape[0], dtype=bool)
    hidden[np.concatenate([table.split.test, table.split.control_test])] = True
    x.data[np.repeat(hidden, np.diff(x.indptr))] = 99.0
    other = dataclasses.replace(table, screen=dataclasses.replace(table.screen, x=x))
    first, second = fitted(name, table).predict(asked), fitted(name, other).predict(asked)
    assert first.dtype == np.float64 and first.shape == (len(asked), table.screen.x.shape[1])
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", [*SIMPLE, "mlp"])
def test_works_without_validation(name, table):
    split = dataclasses.replace(table.split, validation=np.empty(0, dtype=np.int64))
    found = fitted(name, dataclasses.replace(table, split=split)).predict(table.conditions_of(table.split.test))
    assert found.shape == (12, 80)


def test_nothing_to_learn_from(table):
    without = dataclasses.replace(table.split, train=np.empty(0, dtype=np.int64))
    with pytest.raises(UserError, match="no perturbed cells among the training cells"):
        fitted("train_mean", dataclasses.replace(table, split=without))
    without = dataclasses.replace(table.split, control_train=np.empty(0, dtype=np.int64))
    with pytest.raises(UserError, match="no control cells"):
        fitted("train_mean", dataclasses.replace(table, split=without))


OTHER = {
    "bilinear": {"dimensions": 2, "ridge": 5.0},
    "bilinear_tuned": {"dimensions": [3], "ridges": [0.5]},
    "kernel_ridge": {"widths": [7.0], "ridges": [50.0]},
    "knn": {"neighbours": [2]},
    "mlp": {
        "hidden": 7,
        "optimizer": "sgd",
        "learning_rate": 0.02,
        "weight_decay": 0.5,
        "batch": 3,
        "epochs": 2,
        "patience": 1,
    },
    "permuted": {"dimensions": 2, "ridge": 5.0},
}
COMMON = {"name", "row", "residual"}  # which file it is, where it stands, and what env.residual may name


def test_rows_are_places_in_one_order() -> None:
    rows = [baseline_config(name).row for name in baseline_names()]
    assert rows == sorted(set(rows))


@pytest.mark.parametrize("name", baseline_names())
def test_every_setting_of_a_baseline_has_an_effect(name):
    config = baseline_config(name)
    keys = {field.name for field in dataclasses.fields(config)} - COMMON
    assert keys == set(OTHER.get(name, {}))
    table = noisy(n_genes=60, n_conditions=80, cells=10, strength=0.8)
    asked = table.conditions_of(table.split.test)
    for key in keys:
        changed = registry.baselines[name].build(dataclasses.replace(config, **{key: OTHER[name][key]}), CONTEXT)
        changed.fit(table)
        assert not np.array_equal(changed.predict(asked), fitted(name, table).predict(asked)), key


def test_an_unknown_baseline_is_refused_with_those_there_are():
    with pytest.raises(UserError, match=r"^baseline: 'knm' is not known \(did you mean 'knn'\?\); choose additive"):
        make_baseline("knm", CONTEXT)
