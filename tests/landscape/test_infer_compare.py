"""Scores of inferred edges against a known network."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from perturbrl.landscape.infer import compare
from perturbrl.landscape.infer.inference import InferredEdge
from perturbrl.landscape.network import Network

TRUTH = {("A", "B"): 1, ("B", "C"): -1, ("C", "A"): 0}


def ranking(*rows):
    pairs, score, sign = zip(*rows, strict=True)
    return compare.Ranking(pairs, np.array(score, dtype=float), np.array(sign))


SIX = ranking(
    *((("A", "B"), 5, 1), (("A", "C"), 4, 1), (("B", "C"), 3, 1)),
    *((("C", "B"), 2, 1), (("C", "A"), 1, -1), (("B", "A"), 0, 0)),
)


def test_precision_and_recall_of_the_first_edges():
    assert compare.scores(SIX, TRUTH, 3, signed=False) == compare.Scores(3, 2 / 3, 2 / 3, (1 + 2 / 3 + 3 / 5) / 3)
    signed = compare.scores(SIX, TRUTH, 3, signed=True)
    assert (signed.precision, signed.recall) == (1 / 3, 1 / 3), "B represses C in truth"
    assert signed.average_precision == pytest.approx((1 + 2 / 5) / 3)


def test_average_precision_is_that_of_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    pairs = [(a, b) for a in "ABCDEF" for b in "ABCDEF" if a != b]
    for _ in range(20):
        truth = {pair: 1 for pair in pairs if rng.random() < 0.3}
        score = rng.integers(0, 5, len(pairs))
        got = compare.scores(ranking(*((p, s, 1) for p, s in zip(pairs, score, strict=True))), truth, 4, signed=True)
        assert got.average_precision == pytest.approx(average_precision_score([p in truth for p in pairs], score))


def test_equal_scores_count_by_expectation():
    tied = ranking((("A", "B"), 1, 1), (("B", "A"), 1, 1), (("B", "C"), 0, 0))
    assert compare.scores(tied, {("A", "B"): 1}, 1, signed=False).precision == 0.5


def test_edges_of_the_truth_between_genes_that_are_not_ranked_are_not_asked_for():
    part = ranking((("A", "B"), 1, 1), (("B", "A"), 0, 0))
    assert compare.scores(part, TRUTH, 1, signed=False).recall == 1


def test_pairs_without_direction_take_the_surer_edge():
    pairs, truth = compare.undirected(SIX, {**TRUTH, ("B", "A"): -1})
    assert dict(zip(pairs.pairs, zip(pairs.score, pairs.sign, strict=True), strict=True)) == {
        ("A", "B"): (5, 1),
        ("A", "C"): (4, 1),
        ("B", "C"): (3, 1),
    }
    assert truth == {("A", "B"): 0, ("B", "C"): -1, ("A", "C"): 0}


def test_true_edges_have_the_signs_of_the_rules():
    network = Network(
        {"A": "A and not B", "B": "A or C", "C": "(A and not B) or (B and not A)", "D": "A", "E": "not A"},
        *(frozenset(), {}, {}, {}, 0.5),
    )
    assert compare.true_edges(network) == {
        ("B", "A"): -1,
        ("A", "B"): 1,
        ("C", "B"): 1,
        ("A", "C"): 0,
        ("B", "C"): 0,
        ("A", "D"): 1,
        ("A", "E"): -1,
    }


def test_edges_of_rules_come_before_all_others():
    edges = [InferredEdge("A", "B", 1, 0.1, 0.0, True, 3, False), InferredEdge("B", "A", -1, 0.9, 0.0, False, 0, False)]
    found = compare.of_edges(edges, ("A", "B", "C"))
    by_pair = dict(zip(found.pairs, zip(found.score, found.sign, strict=True), strict=True))
    assert by_pair["A", "B"][0] > by_pair["B", "A"][0] > by_pair["C", "A"][0] == 0
    assert (by_pair["A", "B"][1], by_pair["B", "A"][1]) == (1, -1)


def test_correlation_ranks_both_directions_equally():
    values = np.random.default_rng(0).normal(size=(50, 3))
    values[:, 1] -= 2 * values[:, 0]
    found = compare.of_matrix(("A", "B", "C"), compare.correlation(values))
    score = dict(zip(found.pairs, found.score, strict=True))
    assert score["A", "B"] == score["B", "A"] == max(score.values())
    assert found.sign[found.pairs.index(("A", "B"))] == -1
