"""The parts of the inference, against closed forms and brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from perturbrl.landscape.infer.demands import Rule, demands
from perturbrl.landscape.infer.information import association, plug_in
from perturbrl.landscape.infer.order import Branch, without_short_runs
from perturbrl.landscape.infer.solver import Problem, best_rule
from perturbrl.landscape.infer.trajectory import binarise, two_means
from perturbrl.landscape.network import truth_table

pytest.importorskip("z3")


def entropy(*p: float) -> float:
    return -sum(q * np.log2(q) for q in p if q > 0)


@pytest.mark.parametrize(
    ("joint", "bits"),
    [
        ([[0.25, 0.25], [0.25, 0.25]], 0.0),
        ([[0.12, 0.28], [0.18, 0.42]], 0.0),  # independent, unequal shares
        ([[0.5, 0.0], [0.0, 0.5]], 1.0),
        ([[0.7, 0.0], [0.0, 0.3]], entropy(0.7, 0.3)),
        # a symmetric channel that errs with chance 0.1: 1 - h(0.1)
        ([[0.45, 0.05], [0.05, 0.45]], 1 - entropy(0.1, 0.9)),
        ([[0.5, 0.25], [0.0, 0.25]], entropy(0.75, 0.25) - 0.5 * entropy(0.5, 0.5)),
    ],
)
def test_mutual_information_has_its_closed_form(joint, bits):
    assert plug_in(np.array(joint)) == pytest.approx(bits, abs=1e-12)


def test_association_has_the_bias_off_and_the_sign_and_p_of_a_g_test():
    rng = np.random.default_rng(0)
    a = rng.random(400) < 0.4
    binary = np.stack([a, a ^ (rng.random(400) < 0.2), ~a ^ (rng.random(400) < 0.3), rng.random(400) < 0.5], axis=1)
    found = association(binary, 400)
    for i, j in combinations(range(4), 2):
        table = np.array([[np.sum((binary[:, i] == x) & (binary[:, j] == y)) for y in (0, 1)] for x in (0, 1)])
        g, p, *_ = chi2_contingency(table, correction=False, lambda_="log-likelihood")
        assert found.p[i, j] == found.p[j, i] == pytest.approx(p)
        assert found.bits[i, j] == pytest.approx(max((g - 1) / (2 * 400 * np.log(2)), 0))
        assert found.sign[i, j] == np.sign(np.corrcoef(binary[:, i], binary[:, j])[0, 1])
    assert found.sign[0, 1] == 1 and found.sign[0, 2] == -1


def test_bias_correction_centres_the_information_of_independent_genes_on_zero():
    rng = np.random.default_rng(1)
    n, draws = 50, 4000
    a, b = rng.random((2, draws, n)) < 0.5
    both = np.stack([[(x & y).mean(1) for y in (~b, b)] for x in (~a, a)]).transpose(2, 0, 1)
    bias = 1 / (2 * n * np.log(2))
    raw = plug_in(both)
    assert abs(raw.mean() - bias) < 4 * raw.std() / np.sqrt(draws) + 0.1 * bias


def test_averaged_cells_count_as_fewer():
    a = np.arange(100) < 50
    binary = np.stack([a, np.roll(a, 15)], axis=1)
    assert association(binary, 100).p[0, 1] < association(binary, 10).p[0, 1]


def test_two_means_is_the_best_cut_of_all():
    rng = np.random.default_rng(2)
    for _ in range(20):
        values = np.round(rng.gamma(1.0, 2.0, 30), 1)
        levels = np.unique(values)
        parts = [(values[values <= cut], values[values > cut]) for cut in levels[:-1]]
        low, high = min(parts, key=lambda part: sum(((p - p.mean()) ** 2).sum() for p in part))
        assert two_means(values) == pytest.approx((low.mean() + high.mean()) / 2)


def test_binarise_separates_two_levels_of_each_gene():
    rng = np.random.default_rng(3)
    on = rng.random((200, 3)) < [0.2, 0.5, 0.8]
    values = on * [1.0, 5.0, 100.0] + rng.normal(0, [0.1, 0.5, 10.0], (200, 3))
    assert (binarise(values) == on).all()


@pytest.mark.parametrize(
    ("before", "least", "after"),
    [
        ("0001000", 2, "0000000"),
        ("1000111", 2, "0000111"),
        ("0001110", 2, "0001111"),
        ("0011001", 2, "0011000"),
        ("01", 5, "11"),
        ("0000", 9, "0000"),
    ],
)
def test_short_runs_join_their_neighbours(before, least, after):
    assert "".join("01"[int(x)] for x in without_short_runs(np.array([c == "1" for c in before]), least)) == after


def branch(*states: str) -> Branch:
    on = np.array([[c == "1" for c in state] for state in states])
    return Branch("b", on, np.arange(len(on), dtype=float), np.arange(1))


def asked(branches: list[Branch], gene: int, lag: int) -> dict[str, bool]:
    d = demands(branches, gene, lag)
    return {"".join("01"[int(x)] for x in s): bool(v) for s, v in zip(d.states, d.value, strict=True)}


def test_demands_of_a_cascade():
    path = branch("000", "100", "110", "111")
    assert asked([path], 1, 0) == {"000": False, "100": True, "110": True, "111": True}
    assert asked([path], 2, 0) == {"000": False, "100": False, "110": True, "111": True}
    assert asked([path], 2, 1) == {"000": False, "110": True, "111": True}, "it may wait in the state before"
    assert asked([path], 2, 9) == {"110": True, "111": True}


def test_a_gene_that_changes_in_one_branch_only_may_change_where_the_branches_part():
    toggle = [branch("00", "10"), branch("00", "01")]
    assert asked(toggle, 0, 0) == {"00": True, "10": True, "01": False}
    assert asked(toggle, 1, 0) == {"00": True, "10": False, "01": True}


def test_waiting_does_not_reach_past_an_earlier_change():
    there_and_back = branch("00", "10", "11", "01")
    assert asked([there_and_back], 0, 5) == {"00": True, "11": False, "01": False}


def test_rule_text_has_the_values_of_the_rule():
    rng = np.random.default_rng(4)
    names = ("a", "b", "c", "d")
    on = np.array([[bool(n >> k & 1) for k in (3, 2, 1, 0)] for n in range(16)])
    for _ in range(60):
        edges = tuple(int(e) for e in np.flatnonzero(rng.random(4) < 0.6))
        rule = Rule(edges, tuple(int(s) for s in rng.choice([-1, 1], len(edges))), str(rng.choice(["and", "or"])))
        text = rule.text(names)
        if edges:
            assert truth_table(text, names) == tuple(rule.value(on).tolist()), text
        else:
            assert text == "True" and rule.value(on).all()


def brute_force(problem: Problem) -> tuple[int, int] | None:
    """The fewest missed values and then the highest score over all rules in which every edge is needed."""
    best = None
    for size in range(min(problem.most, len(problem.signs)) + 1):
        for edges in combinations(range(len(problem.signs)), size):
            rule = Rule(edges, tuple(int(problem.signs[e]) for e in edges), problem.form)
            missed = rule.value(problem.on) != problem.value
            if (missed & problem.must).any() or not all(rule.support(problem.on, problem.value)):
                continue
            rank = -int(missed.sum()), sum(problem.units[e] for e in edges)
            best = rank if best is None else max(best, rank)
    return best


@pytest.mark.parametrize("form", ["and", "or"])
def test_solver_finds_what_brute_force_finds(form):
    rng = np.random.default_rng(5)
    outcomes = []
    for _ in range(60):
        n_edges, n_states = int(rng.integers(1, 5)), int(rng.integers(2, 7))
        on = rng.random((n_states, n_edges)) < 0.5
        signs = rng.choice([-1, 1], n_edges)
        truth = Rule(tuple(range(n_edges)), tuple(int(s) for s in signs), form).value(on)
        value = truth ^ (rng.random(n_states) < 0.15)
        must = np.full(n_states, True) if rng.random() < 0.4 else rng.random(n_states) < 0.3
        problem = Problem(on, value, must, signs, rng.random(n_edges), form, int(rng.integers(1, 5)))
        expected, solution = brute_force(problem), best_rule(problem, 20)
        outcomes.append(expected)
        if expected is None:
            assert solution is None
            continue
        assert solution is not None and solution.proven
        assert (-solution.wrong, solution.units) == expected
        assert all(solution.rule.support(on, value)), "no edge in vain"
    assert None in outcomes and any(o and o[0] < 0 for o in outcomes) and any(o and o[0] == 0 for o in outcomes)


def test_without_time_nothing_is_claimed():
    problem = Problem(np.eye(3, dtype=bool), np.ones(3, bool), np.ones(3, bool), np.ones(3), np.ones(3), "and", 3)
    assert best_rule(problem, 0) is None
