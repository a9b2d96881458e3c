from __future__ import annotations

import dataclasses
import gc
import json
import weakref

import numpy as np
import pytest
from fakes.configs import SCORE as CONFIG
from fakes.screens import exact, noisy
from scipy import sparse

from perturbrl.config import bind
from perturbrl.effects.baselines import BaselineContext, baseline_names, make_baseline
from perturbrl.errors import UserError
from perturbrl.evaluate.counterfactual import Prediction, ScoreConfig, observe_effects, predict, score
from perturbrl.evaluate.counterfactual.emission import Emission
from perturbrl.evaluate.counterfactual.values import ConditionValues
from perturbrl.metrics_info import HELD_OUT as COLUMNS

CONTEXT = BaselineContext(seed=1, action_rms=0.2)
CALLED = ("de_jaccard", "de_mcc", "direction_fidelity", "auprc_de", "accuracy", "precision", "recall", "f1", "auprc")


@pytest.fixture(scope="module")
def truth():
    return observe_effects(noisy(shift=0.3), CONFIG)


@pytest.fixture(scope="module")
def scores(truth):
    rows = {name: predict(make_baseline(name, CONTEXT), truth) for name in baseline_names() if name != "mlp"}
    return score(truth, rows | {"truth": the_truth(truth)})


def the_truth(truth):
    rows = dict(zip(truth.conditions.tolist(), truth.cells, strict=True))
    return Prediction(truth.change, lambda c: truth.table.screen.x[rows[c]])


def test_no_change_scores_what_the_columns_say(scores):
    row = scores.rows["no_change"]
    for name, column in COLUMNS.items():
        if column.no_change is not None:
            assert row[name] == pytest.approx(column.no_change, abs=1e-12), name
    assert row["pearson_delta_ctrl"] == 0
    assert row["auprc_de"] == pytest.approx(scores.header["de_prevalence"], abs=0.05)


def test_the_truth_is_perfect(scores):
    row = scores.rows["truth"]
    for name, column in COLUMNS.items():
        if name == "mse_norm":
            assert row[name] < 0  # its error is nothing where sampling lets one expect some
        elif name == "energy_ratio":
            assert row[name] < 0.01
        else:
            assert row[name] == pytest.approx(column.perfect, abs=1e-9), name


def test_the_noise_free_truth_is_perfect():
    truth = observe_effects(exact(additive=False, n_doubles=6), CONFIG)
    row = score(truth, {"truth": the_truth(truth)}).rows["truth"]
    assert row["pds_cosine"] == 1
    assert [row[name] for name in ("mse_norm", "wmse_ratio", "l2_top")] == pytest.approx([0, 0, 0], abs=1e-9)


def test_an_independent_replicate_of_the_truth_has_no_normalised_error():
    table = noisy(cells=80, strength=0.8, n_conditions=12)
    many = observe_effects(noisy(cells=4000, strength=0.8, n_conditions=12), CONFIG)
    # same seed, same effects: the large screen gives the expected change nearly without noise
    row = score(observe_effects(table, CONFIG), {"expected": Prediction(many.change)}).rows["expected"]
    assert row["mse_norm"] == pytest.approx(0.0, abs=0.03)
    assert row["pds_cosine"] == 1


def test_additive_predictions_of_an_additive_screen_are_perfect():
    truth = observe_effects(exact(), CONFIG)
    found = score(truth, {name: predict(make_baseline(name, CONTEXT), truth) for name in ("additive", "matching_mean")})
    assert found.rows["additive"]["mse_norm"] == pytest.approx(0, abs=1e-6)
    assert found.rows["additive"]["pearson_delta_pert"] == pytest.approx(1, abs=1e-6)
    assert found.rows["matching_mean"]["mse_norm"] > 0.05
    assert found.coverage["additive"] == 1


def test_the_training_mean_is_chance_and_zero_by_definition(scores):
    row = scores.rows["train_mean"]
    assert row["pds_cosine"] == pytest.approx(0.5, abs=1e-12)
    assert row["wmse_ratio"] == pytest.approx(1.0)
    assert row["pearson_delta_pert"] == 0  # no direction is left
    assert all(row[f"calibrated/{name}"] == 0 for name in COLUMNS if name != "energy_ratio")
    frame = scores.frame.query("row == 'train_mean' and metric == 'pearson_delta_pert'")
    assert len(frame) == 12 and frame["value"].isna().all()


def test_a_systematic_shift_rewards_the_mean_only_relative_to_control(scores):
    assert scores.rows["train_mean"]["pearson_delta_ctrl"] > 0.2
    assert scores.header["systematic_variation"] > 0.2


def test_the_duplicate_beats_every_baseline(scores):
    others = set(baseline_names()) - {"kernel_ridge"}
    for name in ("pds_cosine", "pearson_delta_pert", "wmse_ratio", "mse_norm", "de_mcc", "energy_ratio"):
        sign = 1 if COLUMNS[name].better == "up" else -1
        best = max(sign * row[name] for key, row in scores.rows.items() if key in others)
        assert sign * scores.rows["technical_duplicate"][name] > best, name
        assert scores.rows["technical_duplicate"][f"calibrated/{name}"] == pytest.approx(1.0)


def test_rows_of_the_frame_average_to_the_table(scores):
    for (row, metric), part in scores.frame.groupby(["row", "metric"]):
        if "duplicate" not in str(row):
            filled = part["value"].fillna(COLUMNS[str(metric)].undefined)
            assert scores.rows[str(row)][str(metric)] == pytest.approx(filled.mean())
            assert scores.rows[str(row)][f"median/{metric}"] == pytest.approx(filled.median())
    columns = ["row", "condition", "stratum", "n_cells", "effect_size", "metric", "value"]
    assert list(scores.frame.columns) == columns
    assert set(scores.frame["stratum"]) == {"single"}


def test_permuting_labels_of_good_predictions_leaves_chance():
    truth = observe_effects(noisy(n_genes=240, n_conditions=120, cells=8), dataclasses.replace(CONFIG, n_duplicates=0))
    good = predict(make_baseline("kernel_ridge", CONTEXT), truth).change
    order = np.random.default_rng(0).permutation(len(truth.conditions))
    rows = score(truth, {"good": Prediction(good), "shuffled": Prediction(good[order])}).rows
    assert rows["good"]["pds_cosine"] > 0.8 and rows["good"]["pearson_delta_pert"] > 0.4
    assert rows["shuffled"]["pds_cosine"] == pytest.approx(0.5, abs=4 * np.sqrt(1 / 12 / 60))
    assert rows["shuffled"]["pearson_delta_pert"] == pytest.approx(0.0, abs=0.15)


def test_shuffling_genes_changes_nothing(truth, scores):
    table = truth.table
    order = np.random.default_rng(0).permutation(len(table.screen.features))
    screen = dataclasses.replace(
        table.screen,
        x=sparse.csr_matrix(table.screen.x[:, order]),
        features=tuple(table.screen.features[g] for g in order),
    )
    other = observe_effects(dataclasses.replace(table, screen=screen), CONFIG)
    change = predict(make_baseline("kernel_ridge", CONTEXT), truth).change
    found = score(other, {"kernel_ridge": Prediction(change[:, order])}).rows["kernel_ridge"]
    for name, value in scores.rows["kernel_ridge"].items():
        assert found[name] == pytest.approx(value, abs=1e-4), name


def test_what_is_not_finite_is_no_change_and_flagged(truth, scores):
    change = predict(make_baseline("kernel_ridge", CONTEXT), truth).change.copy()
    change[:, 3] = np.nan
    found = score(truth, {"broken": Prediction(change, lambda c: np.full((50, change.shape[1]), np.nan))})
    for name in COLUMNS:
        assert found.rows["broken"][name] == pytest.approx(scores.rows["no_change"][name], abs=1e-12), name
    assert found.flags == ("broken: 12 of 12 predictions are not finite and count as no change",)


def test_where_a_baseline_is_silent_the_mean_speaks_and_coverage_tells(scores):
    assert scores.coverage["additive"] == 0
    assert scores.coverage["bilinear"] == 1
    assert scores.rows["additive"] == pytest.approx(scores.rows["train_mean"], nan_ok=True)


def test_conditions_without_differential_genes_leave_the_cohort_for_all():
    table = noisy(strength=1.0, cells=40)
    silent = table.conditions_of(table.split.test)[:3]
    x = table.screen.x.tolil()
    pool = table.screen.x[table.split.control_test]
    for c in silent:
        rows = np.flatnonzero(table.screen.condition == c)
        x[rows] = pool[: len(rows)]
    screen = dataclasses.replace(table.screen, x=sparse.csr_matrix(x, dtype=np.float32))
    truth = observe_effects(dataclasses.replace(table, screen=screen), CONFIG)
    found = score(truth, {"no_change": Prediction(np.zeros_like(truth.change)), "truth": the_truth(truth)})
    assert found.header["n_excluded_de"] == 3
    for name in CALLED:
        kept = found.frame[found.frame["metric"] == name].groupby("row")["condition"].apply(frozenset)
        assert len(set(kept)) == 1 and len(kept.iloc[0]) == 9
    assert len(found.frame.query("metric == 'mse' and row == 'truth'")) == 12


def test_own_targets_change_nothing(truth, scores):
    change = predict(make_baseline("kernel_ridge", CONTEXT), truth).change
    moved = np.where(truth.used, change, -5.0)
    found = score(truth, {"kernel_ridge": Prediction(moved)}).rows["kernel_ridge"]
    for name in COLUMNS:
        assert found[name] == pytest.approx(scores.rows["kernel_ridge"][name], abs=1e-9), name


def test_same_seed_same_scores(truth):
    rows = {"train_mean": Prediction(truth.centre)}
    config = dataclasses.replace(CONFIG, n_duplicates=1)
    one = dataclasses.replace(truth, config=config)
    assert score(one, rows).frame.equals(score(one, rows).frame)
    other = dataclasses.replace(truth, config=dataclasses.replace(config, seed=9))
    assert not score(one, rows).frame.equals(score(other, rows).frame)


def test_what_was_scored_before_is_scored_the_same_beside_others(truth):
    known = predict(make_baseline("kernel_ridge", CONTEXT), truth)
    metrics = ConditionValues(truth)
    first = score(truth, {"a": known}, metrics)
    later = score(truth, {"b": known, "c": predict(make_baseline("knn", CONTEXT), truth)}, metrics)
    assert later.rows["b"] == pytest.approx(first.rows["a"], nan_ok=True)
    fresh = observe_effects(truth.table, CONFIG)
    assert score(fresh, {"b": Prediction(known.change)}).rows["b"] == pytest.approx(first.rows["a"], nan_ok=True)


def test_nothing_is_kept_of_a_truth_that_is_gone():
    fresh = observe_effects(noisy(cells=8), dataclasses.replace(CONFIG, n_duplicates=1))
    score(fresh, {"train_mean": Prediction(fresh.centre)})
    kept = weakref.ref(fresh)
    del fresh
    gc.collect()
    assert kept() is None


def test_fewer_cells_than_observed_are_flagged(truth):
    x = truth.table.screen.x
    few = Prediction(truth.centre, lambda c: x[truth.controls[""][:10]])
    assert "few: fewer predicted than test cells in 12 conditions" in score(truth, {"few": few}).flags[0]


def test_the_summary_is_json(truth):
    lonely = dataclasses.replace(truth, config=dataclasses.replace(CONFIG, n_duplicates=0))
    summary = score(lonely, {"no_change": Prediction(np.zeros_like(truth.change))}).summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["rows"]["no_change"]["calibrated/mse"] is None  # no replicate, no scale
    assert set(summary) == {"header", "rows", "coverage", "flags"}


@pytest.mark.parametrize(
    "name, shape, said", [("technical_duplicate", None, "call the prediction"), ("x", (12, 3), "shape")]
)
def test_predictions_that_cannot_be_scored(truth, name, shape, said):
    change = truth.change if shape is None else np.zeros(shape)
    with pytest.raises(UserError, match=said):
        score(truth, {name: Prediction(change)})


def test_a_control_cell_stands_for_one_predicted_cell():
    table = noisy(n_genes=80, cells=60)
    split = table.split
    few = dataclasses.replace(table, split=dataclasses.replace(split, control_test=split.control_test[:25]))
    truth = observe_effects(few, CONFIG)
    rows = Emission(truth).rows(0)
    assert len(rows) == len(set(rows)) == truth.n_compared(0) == 25
    found = score(truth, {"no_change": Prediction(np.zeros_like(truth.change))})
    assert found.rows["no_change"]["energy_ratio"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "key, value", [("alpha", 0.0), ("max_cells", 1), ("n_components", 0), ("n_duplicates", -1), ("min_cpm", -5.0)]
)
def test_settings_out_of_range(key, value):
    with pytest.raises(UserError, match=rf"protocol\.score\.{key}.*{value}"):
        bind(ScoreConfig, dataclasses.asdict(CONFIG) | {key: value}, "protocol.score")
