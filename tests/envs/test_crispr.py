from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perturbrl.envs.paper.crispr import CrisprEvents
from perturbrl.mixing import mix32_


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("largest", "prob"), [(1, 1.0), (5, 0.8), (7, 0.3), (4, 0.0)])
def test_sizes_are_uniform_on_one_to_the_largest_with_the_given_probability(largest, prob):
    n = 200_000
    sizes = CrisprEvents([largest], [prob], 8, "cpu").sizes(uniform(1, n))
    share = torch.bincount(sizes[0].long(), minlength=largest + 1) / n
    expected = torch.tensor([1 - prob] + [prob / largest] * largest)
    assert len(share) == largest + 1
    assert (share - expected).abs().max() < 5 * (0.25 / n) ** 0.5


@given(st.integers(1, 5000), st.floats(1e-3, 1))
def test_no_size_exceeds_the_largest(largest, prob):
    just_below = torch.nextafter(torch.tensor([[prob]]), torch.tensor(0.0))
    assert CrisprEvents([largest], [prob], 8, "cpu").sizes(just_below).item() == largest


@pytest.mark.parametrize("n_features", [2, 7, 64])
def test_draws_are_uniform_and_independent_of_one_another(n_features):
    n, slots = 200_000, 6
    draws = CrisprEvents([slots], [1.0], n_features, "cpu").draws(uniform(1, n, 3))[0]
    k = 2 * n_features
    for j in range(slots):
        assert_uniform(draws[:, j], k)
    for i in range(slots):
        for j in range(i):
            assert_uniform(draws[:, i] * k + draws[:, j], k * k)


def assert_uniform(values, k):
    """Chi-square within 5 standard deviations of its mean."""
    expected = len(values) / k
    chi2 = ((torch.bincount(values, minlength=k) - expected) ** 2 / expected).sum().item()
    assert abs(chi2 - (k - 1)) < 5 * (2 * (k - 1)) ** 0.5


def test_a_gene_is_knocked_out_doubled_or_left():
    cells = torch.ones(1, 20_000, 3)
    CrisprEvents([2], [0.9], 3, "cpu").apply_(cells, uniform(1, 20_000, 3))
    assert set(cells.unique().tolist()) == {0.0, 1.0, 2.0, 4.0}
    n_four = (cells == 4).sum().item() / 20_000
    assert n_four == pytest.approx(0.9 * 0.5 * 3 / 36, abs=0.005), "two over-expressions of one gene multiply"


def test_a_smaller_event_is_the_beginning_of_a_larger_one():
    u = uniform(1, 100, 3)
    few, many = (CrisprEvents([m], [1.0], 11, "cpu").draws(u) for m in (3, 12))
    assert torch.equal(few, many[..., :3])


def test_an_event_in_blocks_is_the_event_at_once(monkeypatch):
    largest, prob, u = [900, 200, 1], [0.9, 0.5, 1.0], uniform(3, 500, 3)
    cells = uniform(3, 500, 7, seed=1) - 0.5
    at_once = CrisprEvents(largest, prob, 7, "cpu").apply_(cells.clone(), u)
    monkeypatch.setattr("perturbrl.envs.paper.crispr.BLOCK", 16)
    in_blocks = CrisprEvents(largest, prob, 7, "cpu").apply_(cells.clone(), u)
    assert torch.equal(at_once, in_blocks)
    assert torch.equal(torch.signbit(at_once), torch.signbit(in_blocks))


def test_an_event_of_any_number_of_genes_ends_when_every_gene_is_knocked_out(monkeypatch):
    drawn = []

    def counting(words):
        drawn.append(words.numel())
        return mix32_(words)

    monkeypatch.setattr("perturbrl.envs.paper.crispr.mix32_", counting)
    cells = CrisprEvents([10**12], [1.0], 64, "cpu").apply_(torch.ones(1, 100, 64), uniform(1, 100, 3))
    assert (cells == 0).all()
    assert sum(drawn) < 100 * 64 * 64, "some 2 G ln G draws a cell, not max_perturb"


@given(st.integers(1, 2**22))
def test_the_largest_uniform_picks_the_last_of_any_number(n):
    assert int(torch.tensor(1 - 2**-24) * n) == n - 1
