"""Each verifier against a loop over single cells, and the properties that a score of single cells must have."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, pdist
from scipy.stats import spearmanr

from perturbrl import registry
from perturbrl.generators.verifiers.base import Verifier, make_verifier
from perturbrl.generators.verifiers.de_spearman import ranks
from perturbrl.generators.verifiers.space import distances, products
from perturbrl.landscape.config import LandscapeConfig
from perturbrl.landscape.dataset import design, gene_names

from .toy import HELD_OUT, candidates, toy_cells, with_x

CELLS = toy_cells()
GROUPS = torch.tensor([2, 3, 4])
X = candidates(3, 6)
SMALL: dict[str, dict[str, Any]] = {
    "pearson_topk": {"k": 3, "cells": 8},
    "rmse_topk": {"k": 3, "cells": 8},
    "de_spearman": {"genes": 7},
    "energy_witness": {"components": 0},
    "plausibility": {"k": 4, "cells": 20},
    "pathway": {},
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As runs have (``threads``): more share out the work of one group otherwise than that of many."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("weights") / "weights.csv"
    rows = [("g0", "one", 2.0), ("g1", "one", -1.0), ("g2", "two", 0.5), ("g5", "two", 1.5), ("other", "two", 9.0)]
    rows += [("g3", "three", 1.0), ("g4", "three", -1.0), ("other", "lost", 1.0)]
    pd.DataFrame(rows, columns=["gene", "pathway", "weight"]).to_csv(file, index=False)
    return str(file)


def fitted(name: str, weights: str, **changes: Any) -> Verifier:
    return make_verifier(name, given_settings(name, weights) | changes).fit(CELLS)


def given_settings(name: str, weights: str) -> dict[str, Any]:
    return SMALL[name] | ({"weights": weights, "least_genes": 2} if name == "pathway" else {})


def real(condition: int, most: int = 10**6) -> np.ndarray:
    rows = CELLS.rows(condition).numpy()
    n = min(most, len(rows))
    return CELLS.x[rows[[k * len(rows) // n for k in range(n)]]].numpy()


def control(condition: int) -> np.ndarray:
    return CELLS.x[CELLS.rows(0 if condition in (2, 4) else 1)].numpy().mean(axis=0)


def pearson(x: np.ndarray, p: int, group: np.ndarray, i: int) -> float:
    mu = control(p)
    similar = sorted((np.corrcoef(x - mu, y - mu)[0, 1] for y in real(p, 8)), reverse=True)
    return float(np.mean(similar[:3]))


def rmse(x: np.ndarray, p: int, group: np.ndarray, i: int) -> float:
    return -float(np.mean(sorted(np.sqrt(np.mean((x - y) ** 2)) for y in real(p, 8))[:3]))


def spearman(x: np.ndarray, p: int, group: np.ndarray, i: int) -> float:
    change = real(p).mean(axis=0) - control(p)
    top = np.argsort(-np.abs(change))[:7]
    return float(spearmanr((x - control(p))[top], change[top])[0])


def witness(x: np.ndarray, p: int, group: np.ndarray, i: int) -> float:
    others = [np.linalg.norm(x - other) for j, other in enumerate(group) if j != i]
    return float(np.mean(others) - np.mean([np.linalg.norm(x - y) for y in real(p)]))


def plausible(x: np.ndarray, p: int, group: np.ndarray, i: int) -> float:
    every = CELLS.x.numpy()
    pool = every[[k * len(every) // 20 for k in range(20)]]

    def near(cell: np.ndarray, others: np.ndarray) -> float:
        return float(np.mean(sorted(np.linalg.norm(cell - y) for y in others)[:4]))

    own = [near(pool[k], np.delete(pool, k, axis=0)) for k in range(20)]
    return -abs(near(x, pool) - float(np.mean(own))) / float(np.std(own, ddof=1))


def pathways(x: np.ndarray, p: int, group: np.ndarray, i: int) -> float:
    def activity(cell: np.ndarray) -> np.ndarray:
        return np.array([2 * cell[0] - cell[1], cell[3] - cell[4], 0.5 * cell[2] + 1.5 * cell[5]])

    centred = [activity(y - control(4)) for y in real(0)] + [activity(y - control(3)) for y in real(1)]
    scale = np.sqrt(np.mean(np.square(centred), axis=0))
    a, b = activity(x - control(p)) / scale, activity(real(p).mean(axis=0) - control(p)) / scale
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


LOOPS = {
    "pearson_topk": pearson,
    "rmse_topk": rmse,
    "de_spearman": spearman,
    "energy_witness": witness,
    "plausibility": plausible,
    "pathway": pathways,
}


def test_every_verifier_has_a_loop() -> None:
    assert set(registry.verifiers) == set(LOOPS)


@pytest.mark.parametrize("name", LOOPS)
def test_scores_equal_a_loop_over_cells(name: str, weights: str) -> None:
    scores = fitted(name, weights).score(X, GROUPS)
    loop = [
        [LOOPS[name](x, int(p), group.numpy(), i) for i, x in enumerate(group.numpy())]
        for p, group in zip(GROUPS, X, strict=True)
    ]
    assert scores.shape == (3, 6)
    np.testing.assert_allclose(scores.numpy(), loop, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", LOOPS)
def test_a_run_among_others_is_that_run_alone(name: str, weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = fitted(name, weights)
    runs = torch.stack([X, X.flip(0) + 1, X - 1])
    together = verifier.score(runs, torch.stack([GROUPS, GROUPS, GROUPS.flip(0)]))
    assert torch.equal(together[0], verifier.score(X, GROUPS))
    assert torch.equal(together[2], verifier.score(X - 1, GROUPS.flip(0)))
    monkeypatch.setattr("perturbrl.generators.verifiers.base.BLOCK", 1)  # a group at a time
    assert torch.equal(together[0], verifier.score(X, GROUPS))


@pytest.mark.parametrize("form", [products, distances], ids=lambda f: f.__name__)
def test_a_group_gives_the_same_whatever_stands_beside_it(form: Any) -> None:
    """To the last bit, at every size: rows that begin within a line of the cache are summed in another order."""
    draws = torch.Generator().manual_seed(0)
    for b, m, k in itertools.product((1, 2, 5, 8), (4, 7, 13, 59), (3, 12, 17, 39)):
        one, other = (torch.randn(5, rows, k, generator=draws) for rows in (b, m))
        together = form(one, other)
        for q in range(5):
            assert torch.equal(together[q : q + 1], form(one[q : q + 1], other[q : q + 1])), (b, m, k, q)


@pytest.mark.parametrize("name", LOOPS)
@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(6)), genes=st.permutations(range(12)))
def test_the_order_of_candidates_and_genes_does_not_matter(
    name: str, weights: str, order: list[int], genes: list[int]
) -> None:
    verifier = fitted(name, weights)
    scores = verifier.score(X, GROUPS)[:, order]
    mixed = with_x(CELLS, CELLS.x[:, genes], [CELLS.genes[k] for k in genes])
    moved = make_verifier(name, given_settings(name, weights)).fit(mixed).score(X[:, order][:, :, genes], GROUPS)
    torch.testing.assert_close(moved, scores, rtol=1e-4, atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(scale=st.floats(0.1, 10), offset=st.floats(-5, 5))
@pytest.mark.parametrize("name", ["pearson_topk", "de_spearman"])
def test_correlations_do_not_see_size_and_offset_of_a_change(name: str, scale: float, offset: float) -> None:
    verifier = make_verifier(name, SMALL[name]).fit(CELLS)
    mu = CELLS.mean_control[CELLS.context[GROUPS]].unsqueeze(1)
    torch.testing.assert_close(
        verifier.score(mu + scale * (X - mu) + offset, GROUPS), verifier.score(X, GROUPS), rtol=1e-3, atol=2e-4
    )


@settings(max_examples=10, deadline=None)
@given(scale=st.floats(0.1, 10), offset=st.floats(-5, 5))
@pytest.mark.parametrize(("name", "power"), [("rmse_topk", 1), ("energy_witness", 1), ("plausibility", 0)])
def test_distances_scale_with_all_cells(name: str, power: int, scale: float, offset: float) -> None:
    moved = make_verifier(name, SMALL[name]).fit(with_x(CELLS, scale * CELLS.x + offset))
    scores = make_verifier(name, SMALL[name]).fit(CELLS).score(X, GROUPS)
    torch.testing.assert_close(moved.score(scale * X + offset, GROUPS), scale**power * scores, rtol=1e-3, atol=1e-3)


def test_the_pathway_score_does_not_see_the_size_of_a_response(weights: str) -> None:
    verifier = fitted("pathway", weights)
    mu = CELLS.mean_control[CELLS.context[GROUPS]].unsqueeze(1)
    torch.testing.assert_close(verifier.score(mu + 3 * (X - mu), GROUPS), verifier.score(X, GROUPS))
    torch.testing.assert_close(verifier.score(mu - (X - mu), GROUPS), -verifier.score(X, GROUPS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("repulsion", [1.0, 0.5])
@pytest.mark.parametrize("components", [0, 12])
def test_the_energy_witness_sums_to_the_energy_distance(repulsion: float, components: int) -> None:
    """D = 2 E|X - Y| - E|X - X'| - E|Y - Y'| over different cells; twelve of twelve components change no distance."""
    verifier = make_verifier("energy_witness", {"components": components, "repulsion": repulsion}).fit(CELLS)
    scores = verifier.score(X, GROUPS).double().numpy()
    for k, p in enumerate(GROUPS):
        x, y = X[k].double().numpy(), real(int(p)).astype(float)
        distance = 2 * cdist(x, y).mean() - pdist(x).mean() - pdist(y).mean()
        total = -2 * scores[k].sum() / len(x)
        np.testing.assert_allclose(
            total + (2 * repulsion - 1) * pdist(x).mean() - pdist(y).mean(), distance, rtol=1e-5, atol=1e-5
        )


def test_the_energy_witness_is_half_the_gradient_of_the_energy_distance() -> None:
    verifier = make_verifier("energy_witness", SMALL["energy_witness"]).fit(CELLS)
    x, y = X[:1].clone().requires_grad_(), CELLS.x[CELLS.rows(2)]
    energy = 2 * torch.cdist(x[0], y).mean() - torch.pdist(x[0]).mean()
    (gradient,) = torch.autograd.grad(energy, x)
    # only the scored cell moves: the others of its group are held fixed
    frozen = X[:1].expand(6, -1, -1).clone()
    alone = X[0].clone().requires_grad_()
    frozen = torch.where(torch.eye(6, dtype=torch.bool)[..., None], alone[:, None], frozen)
    reward = verifier.score(frozen, torch.tensor([2] * 6)).diagonal().mean()
    (of_reward,) = torch.autograd.grad(reward, alone)
    torch.testing.assert_close(-2 * of_reward, gradient[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LOOPS)
def test_gradients_exist_where_they_are_promised(name: str, weights: str) -> None:
    verifier = fitted(name, weights)
    x = X.clone().requires_grad_()
    scores = verifier.score(x, GROUPS)
    assert scores.requires_grad or not verifier.differentiable
    if verifier.differentiable:
        (gradient,) = torch.autograd.grad(scores.sum(), x)
        assert torch.isfinite(gradient).all() and gradient.abs().amax(-1).min() > 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=2, max_size=12))
def test_ranks_of_equal_values_are_their_mean(values: list[int]) -> None:
    expected = pd.Series(values).rank().to_numpy()
    np.testing.assert_array_equal(ranks(torch.tensor([values], dtype=torch.float32))[0].numpy(), expected)


@pytest.mark.parametrize("name", LOOPS)
def test_a_value_that_is_not_finite_is_no_good_score(name: str, weights: str) -> None:
    x = X.clone()
    x[1, 2, :] = torch.nan
    scores = fitted(name, weights).score(x, GROUPS)
    assert torch.isnan(scores[1, 2]) and torch.isfinite(scores[[0, 2]]).all()


# --- pathways


def test_signs_score_a_held_out_condition_without_its_cells(weights: str, tmp_path: Path) -> None:
    signs = tmp_path / "signs.csv"
    signs.write_text("target,pathway,sign\nC,one,1\nC,two,-1\nA,one,-1\nA,lost,1\n")
    verifier = fitted("pathway", weights, reference="literature", signs=str(signs))
    mu = CELLS.mean_control[0]
    up = mu.clone()
    up[0] += 1.0  # pathway one
    up[3] += 5.0  # pathway three, of which nothing is expected
    scores = verifier.score(torch.stack([up, 2 * mu - up])[None], torch.tensor([HELD_OUT]))
    np.testing.assert_allclose(scores[0].numpy(), [2**-0.5, -(2**-0.5)], rtol=1e-5)
    of_a, of_b = verifier.score(X[:2], torch.tensor([2, 4]))
    assert torch.isfinite(of_a).all() and torch.isnan(of_b).all()  # the file names nothing for B
    assert verifier.applies(torch.tensor([2, 4, HELD_OUT])).tolist() == [True, False, True]


def test_coverage_says_what_is_measured(weights: str) -> None:
    table = fitted("pathway", weights).coverage().set_index("pathway")
    assert table.loc["two"].tolist() == [3, 2, True] and table.loc["lost"].tolist() == [1, 0, False]


def test_regulons_are_the_wiring_of_the_landscape() -> None:
    """Cells in which one regulator's targets rise respond in that regulator's regulon."""
    given = {"n_target_genes": 40, "n_proteins": 5, "n_cells": 200, "seed": 3}
    node = {**registry.sources.defaults("landscape"), **given}
    made = design(LandscapeConfig(**{str(k): v for k, v in node.items()}))
    weights = made.targets.weights
    genes = gene_names(made.network, weights.shape[1])
    cells = toy_cells(len(genes), genes=genes)
    verifier = make_verifier("pathway", {"which": "regulons", "landscape": given, "least_genes": 1}).fit(cells)
    coverage = verifier.coverage().set_index("pathway")
    assert coverage["measured"].to_dict() == {
        name: int(n) for name, n in zip(made.network.genes, (weights != 0).sum(1), strict=True) if n
    }
