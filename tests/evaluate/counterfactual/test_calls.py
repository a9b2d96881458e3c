from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse, stats
from sklearn import metrics

from perturbrl.evaluate.counterfactual.differential_expression import (
    AgainstControl,
    Calls,
    agreement,
    average_precision,
    classification,
    matthews,
)

BOOLS = st.lists(st.booleans(), min_size=12, max_size=12).map(np.array)
CLASSES = st.lists(st.sampled_from([-1, 0, 1]), min_size=12, max_size=12).map(np.array)
SCORES = st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.3, 0.3, 4.0]), min_size=12, max_size=12).map(np.array)


@given(BOOLS, BOOLS)
def test_matthews_equals_sklearn(a, b):
    assert matthews(a, b) == pytest.approx(metrics.matthews_corrcoef(a, b), abs=1e-12)


@given(BOOLS, SCORES)
def test_average_precision_equals_sklearn(truth, score):
    if truth.any():
        assert average_precision(truth, score) == pytest.approx(metrics.average_precision_score(truth, score))
    else:
        assert np.isnan(average_precision(truth, score))


def test_average_precision_without_information_is_the_prevalence():
    assert average_precision(np.arange(10) < 3, np.zeros(10)) == pytest.approx(0.3)


@given(CLASSES, CLASSES, SCORES)
def test_classification_equals_sklearn(a, b, z):
    found = classification(a, b, z)
    expected = metrics.precision_recall_fscore_support(a, b, average="macro", zero_division=0)
    assert [found["precision"], found["recall"], found["f1"]] == pytest.approx(list(expected[:3]))
    assert found["accuracy"] == pytest.approx((a == b).mean())
    ranked = {1: z, -1: -z, 0: -np.abs(z)}
    areas = [metrics.average_precision_score(a == c, ranked[c]) for c in np.unique(a)]
    assert found["auprc"] == pytest.approx(np.mean(areas))


def calls(significant: list[int], log_fold: list[float]) -> Calls:
    mask = np.array(significant, dtype=bool)
    return Calls(np.where(mask, 5.0, 0.1), np.where(mask, 0.001, 0.9), mask, np.array(log_fold))


def test_agreement_by_hand():
    real = calls([1, 1, 1, 0, 0], [1.0, -1.0, 1.0, 0.2, -0.1])
    said = calls([1, 1, 0, 1, 0], [2.0, 1.0, 0.0, 0.3, 0.0])
    found = agreement(real, said, 0.25)
    assert found["de_jaccard"] == 2 / 4
    assert found["direction_fidelity"] == 2 / 3  # genes 0 and 3 have the true sign, gene 1 not
    # up: genes 0, 2 against 0, 1, 3; down: gene 1 against none; unchanged: 3, 4 against 2, 4
    assert found["accuracy"] == 2 / 5
    assert found["precision"] == pytest.approx((1 / 3 + 0 + 1 / 2) / 3)


def test_silence_and_flooding_score_low():
    real = calls([1, 1, 0, 0, 0, 0, 0, 0], [1.0, 1.0, 0, 0, 0, 0, 0, 0])
    silent, flood = calls([0] * 8, [0.0] * 8), calls([1] * 8, [1.0] * 8)
    assert agreement(real, silent, 0.25)["direction_fidelity"] == 0
    assert agreement(real, silent, 0.25)["de_jaccard"] == 0
    assert agreement(real, flood, 0.25)["de_jaccard"] == 0.25
    assert agreement(real, flood, 0.25)["de_mcc"] == 0
    assert agreement(real, real, 0.25)["direction_fidelity"] == 1


def test_genes_that_either_arm_expresses_are_tested_and_fold_changes_are_those_of_linear_means():
    rng = np.random.default_rng(0)
    counts = rng.poisson([5.0, 5.0, 5.0, 0.0, 100.0, 0.0], (200, 6))
    control = sparse.csr_matrix(np.log1p(counts), dtype=np.float32)
    tester = AgainstControl(control, [slice(0, 6)], alpha=0.05, min_cpm=5.0)
    assert tester.expressed.tolist() == [True, True, True, False, True, False]
    more = rng.poisson([5.0, 20.0, 1.0, 50.0, 100.0, 0.0], (200, 6))
    cells = sparse.csr_matrix(np.log1p(more), dtype=np.float32)
    assert tester.genes(cells, np.ones(6, bool)).tolist() == [True, True, True, True, True, False]
    assert tester.genes(cells, np.arange(6) > 0).tolist() == [False, True, True, True, True, False]
    assert tester.calls(cells, np.ones(6, bool)).log_fold[3] > 20
    shown = [0, 1, 2, 4]
    found = tester.calls(cells, np.isin(np.arange(6), shown))
    expected = np.log2(more[:, shown].mean(axis=0) / counts[:, shown].mean(axis=0))
    np.testing.assert_allclose(found.log_fold, expected, rtol=1e-4)
    assert found.significant.tolist()[1:3] == [True, True]
    assert found.classes(0.25).tolist()[1:3] == [1, -1]
    assert len(tester.calls(cells, np.arange(6) < 3).z) == 3


def test_false_discovery_rates_are_those_of_benjamini_and_hochberg():
    rng = np.random.default_rng(2)
    control, moved = rng.poisson(5.0, (60, 12)), rng.poisson(rng.uniform(4.0, 8.0, 12), (60, 12))
    tester = AgainstControl(sparse.csr_matrix(np.log1p(control), dtype=np.float32), [slice(0, 12)], 0.05, 5.0)
    found = tester.calls(sparse.csr_matrix(np.log1p(moved), dtype=np.float32), np.ones(12, bool))
    p = 2 * stats.norm.sf(np.abs(found.z))
    rates = [min(p[j] * 12 / (p <= p[j]).sum() for j in range(12) if p[j] >= p[i]) for i in range(12)]
    np.testing.assert_allclose(found.fdr, rates, rtol=1e-9)
    assert found.significant.tolist() == [rate < 0.05 for rate in rates] and 0 < found.significant.sum() < 12


def test_the_gate_counts_within_a_modality():
    x = np.zeros((50, 4))
    x[:, 0], x[:, 1], x[:, 2], x[:, 3] = 1e6, 1.0, 10.0, 10.0
    control = sparse.csr_matrix(np.log1p(x), dtype=np.float32)
    apart = AgainstControl(control, [slice(0, 2), slice(2, 4)], 0.05, 5.0)
    together = AgainstControl(control, [slice(0, 4)], 0.05, 500.0)
    assert apart.expressed.tolist() == [True, False, True, True]
    assert together.expressed.tolist() == [True, False, False, False]


def test_features_with_negative_values_are_compared_as_logs():
    rng = np.random.default_rng(1)
    control, moved = rng.normal(-1.0, 0.1, (60, 2)), rng.normal([np.log(2) - 1, -1.0], 0.1, (60, 2))
    tester = AgainstControl(sparse.csr_matrix(control, dtype=np.float32), [slice(0, 2)], 0.05, 5.0)
    found = tester.calls(sparse.csr_matrix(moved, dtype=np.float32), np.ones(2, bool))
    assert tester.expressed.all()
    np.testing.assert_allclose(found.log_fold, [1.0, 0.0], atol=0.1)
