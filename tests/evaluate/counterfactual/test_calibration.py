from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fakes.configs import SCORE as CONFIG
from fakes.screens import noisy

from perturbrl.evaluate.counterfactual import Prediction, observe_effects, score
from perturbrl.evaluate.counterfactual.calibration import calibrate, duplicates, dynamic_range
from perturbrl.metrics_info import HELD_OUT as COLUMNS


def test_calibration_compares_the_same_conditions():
    """Two conditions of three cells cannot be halved: where there is no replicate, none is compared with."""
    table = noisy(n_genes=80, cells=60, strength=1.0)
    split, screen = table.split, table.screen
    asked = table.conditions_of(split.test)
    few = np.concatenate([np.flatnonzero(screen.condition == c)[3:] for c in asked[:2]])
    table = dataclasses.replace(table, split=dataclasses.replace(split, test=np.setdiff1d(split.test, few)))
    truth = observe_effects(table, CONFIG)
    scores = score(truth, {"no_change": Prediction(np.zeros_like(truth.change))})
    assert scores.coverage["technical_duplicate"] == pytest.approx(1 - 2 / len(asked))
    values = scores.frame[scores.frame["metric"] == "mse"].pivot(index="condition", columns="row", values="value")
    u, b, r = values.dropna()[["no_change", "train_mean", "technical_duplicate"]].mean()
    assert scores.rows["no_change"]["calibrated/mse"] == pytest.approx((u - b) / (r - b))
    assert scores.rows["train_mean"]["calibrated/mse"] == 0
    assert scores.rows["technical_duplicate"]["calibrated/mse"] == pytest.approx(1)


def test_calibration_by_hand():
    up, down = COLUMNS["pds_cosine"], COLUMNS["mse"]
    assert calibrate(0.75, 0.5, 1.0, up) == pytest.approx(0.5)
    assert calibrate(3.0, 4.0, 2.0, down) == pytest.approx(0.5)
    assert calibrate(0.4, 0.5, 1.0, up) == pytest.approx(-0.2)  # worse than the mean: never clipped
    assert np.isnan(calibrate(0.75, 0.5, 0.5, up)) and np.isnan(calibrate(0.75, 0.5, 0.4, up))
    assert np.isnan(calibrate(3.0, 2.0, 4.0, down))


def test_dynamic_range_by_hand():
    up, down = COLUMNS["pds_cosine"], COLUMNS["mse"]
    assert dynamic_range(np.array([0.9, 0.75, np.nan]), np.array([0.5, 0.5, 0.5]), up) == pytest.approx(0.65)
    assert dynamic_range(np.array([1.0]), np.array([4.0]), down) == pytest.approx(0.75)
    assert dynamic_range(np.array([-9.0]), np.array([0.5]), up) == -1.0


def test_the_dynamic_range_compares_on_the_same_halves():
    """Squared errors of half the cells carry twice the noise: that is no fault of the replicate."""
    truth = observe_effects(noisy(n_genes=80, cells=60, strength=1.0), CONFIG)
    found = score(truth, {})
    neg, pos = [], []
    for half, predictions in duplicates(truth):
        for change, into in ((half.centre, neg), (predictions["technical_duplicate"].change, pos)):
            error = np.where(half.used, np.square(change - half.change), 0.0)
            into.append(error.sum(axis=1) / half.used.sum(axis=1))
    neg, pos = np.mean(neg, axis=0), np.mean(pos, axis=0)
    expected = np.median(np.clip((neg - pos) / neg, -1, 1))
    assert found.header["drf"]["mse"] == pytest.approx(expected)
