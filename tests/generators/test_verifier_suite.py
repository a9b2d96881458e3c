"""Sums of verifiers, their calibration, and what is refused: leaks before all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from perturbrl import registry
from perturbrl.config import bind
from perturbrl.errors import UserError
from perturbrl.generators.training_cells import TrainingCells, training_cells
from perturbrl.generators.verifiers.base import make_verifier
from perturbrl.generators.verifiers.calibration import calibrate, halves, write_calibration, wrong_labels
from perturbrl.generators.verifiers.suite import Suite, SuiteConfig, make_suite
from perturbrl.records import read_parquet
from perturbrl.rng import numpy_generator

from .toy import CONTEXTS, HELD_OUT, NAMES, TARGETS, candidates, toy_cells

CELLS = toy_cells()
GROUPS = torch.tensor([2, 3, 4])
X = candidates(3, 6)
SMALL = {"rmse_topk": {"k": 3}, "energy_witness": {"components": 0}, "plausibility": {"k": 4, "weight": 2.0}}


def suite(verifiers: dict[str, Any] | None = None, normalise: str = "group", clip: float = 100.0) -> Suite:
    given = {"verifiers": SMALL if verifiers is None else verifiers, "normalise": normalise, "clip": clip}
    return make_suite(bind(SuiteConfig, given, "agent"))


# --- leaks


@pytest.mark.parametrize("name", ["pearson_topk", "rmse_topk", "de_spearman", "energy_witness"])
def test_a_held_out_condition_is_refused(name: str) -> None:
    given = {"k": 3} if "topk" in name else {"genes": 5} if name == "de_spearman" else {"components": 0}
    verifier = make_verifier(name, given).fit(CELLS)
    with pytest.raises(UserError, match=rf"^verifier.{name}: condition 'C\|a' has no training cells.*need none$"):
        verifier.score(X, torch.tensor([2, HELD_OUT, 4]))
    with pytest.raises(UserError, match=r"condition 'control\|a' has no training cells"):
        verifier.score(X, torch.tensor([2, 0, 4]))


def test_a_held_out_condition_is_scored_by_what_reads_no_cell_of_it() -> None:
    whole = suite().fit(CELLS)
    with pytest.raises(UserError, match=r"rmse_topk: condition 'C\|a' has no training cells"):
        whole.rewards(X, torch.tensor([2, HELD_OUT, 4]))
    open_to_all = whole.without_cells()
    assert [v.name for v in open_to_all.verifiers] == ["plausibility"]
    assert torch.isfinite(open_to_all.rewards(X, torch.tensor([2, HELD_OUT, 4])).total).all()
    with pytest.raises(UserError, match="verifiers: none of rmse_topk can score a condition without its cells"):
        suite({"rmse_topk": {"k": 3}}).without_cells()


def test_held_out_cells_change_no_score() -> None:
    """What the verifiers know comes from the cells that they are given: those of other parts are not among them."""
    more = torch.cat([CELLS.x, 100 * torch.ones(4, 12)])
    labels = torch.cat([CELLS.condition, torch.full((4,), HELD_OUT)])
    everything = training_cells(more, labels, names=NAMES, targets=TARGETS, genes=CELLS.genes, contexts=CONTEXTS)
    trained = everything.subset(torch.nonzero(everything.condition != HELD_OUT)[:, 0])
    for name, score in suite().fit(CELLS).rewards(X, GROUPS).scores.items():
        assert torch.equal(score, suite().fit(trained).rewards(X, GROUPS).scores[name])


def test_a_context_without_training_controls_is_refused() -> None:
    cells = CELLS.subset(torch.nonzero(CELLS.condition != 1)[:, 0])
    verifier = make_verifier("pearson_topk", {"k": 3}).fit(cells)
    with pytest.raises(UserError, match=r"condition 'A\|b' has no training control cells in its context"):
        verifier.score(X, GROUPS)
    assert torch.isfinite(make_verifier("rmse_topk", {"k": 3}).fit(cells).score(X, GROUPS)).all()


# --- sums


def test_rewards_are_the_weighted_sum_of_standardised_scores() -> None:
    rewards = suite().fit(CELLS).rewards(X, GROUPS)
    total = np.zeros((3, 6))
    for name, score in rewards.scores.items():
        values = score.double().numpy()
        total += SMALL[name].get("weight", 1.0) * (
            (values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True)
        )
    np.testing.assert_allclose(rewards.total.numpy(), total / np.sqrt(6.0), rtol=1e-4, atol=1e-5)


def test_batch_divides_by_one_spread_and_none_by_none() -> None:
    one = {"rmse_topk": {"k": 3}}
    score = suite(one).fit(CELLS).rewards(X, GROUPS).scores["rmse_topk"]
    centred = score - score.mean(1, keepdim=True)
    batch = suite(one, "batch").fit(CELLS).rewards(X, GROUPS).total
    torch.testing.assert_close(batch, centred / centred.square().mean().sqrt())
    torch.testing.assert_close(suite(one, "none").fit(CELLS).rewards(X, GROUPS).total, score)


def test_the_clip_bounds_a_reward() -> None:
    assert float(suite(clip=0.25).fit(CELLS).rewards(X, GROUPS).total.abs().max()) == 0.25


def test_equal_candidates_have_no_reward() -> None:
    total = suite().fit(CELLS).rewards(X[:, :1].expand(-1, 6, -1), GROUPS).total
    assert torch.equal(total, torch.zeros(3, 6))


def test_a_verifier_that_does_not_apply_leaves_the_sum_to_the_others(tmp_path: Path) -> None:
    weights, signs = tmp_path / "weights.csv", tmp_path / "signs.csv"
    weights.write_text("gene,pathway,weight\n" + "\n".join(f"g{k},one,1.0\ng{k},two,{k - 5.0}" for k in range(12)))
    signs.write_text("target,pathway,sign\nA,one,1\nA,two,-1\n")
    pathway = {"weights": str(weights), "reference": "literature", "signs": str(signs)}
    both = suite({"rmse_topk": {"k": 3}, "pathway": pathway}).fit(CELLS).rewards(X, GROUPS).total
    alone = suite({"rmse_topk": {"k": 3}}).fit(CELLS).rewards(X, GROUPS).total
    torch.testing.assert_close(both[2], alone[2])  # no sign for B
    assert not torch.allclose(both[:2], alone[:2])


def test_a_diverged_candidate_is_seen() -> None:
    x = X.clone()
    x[0, 0, 0] = torch.inf
    total = suite().fit(CELLS).rewards(x, GROUPS).total
    assert not torch.isfinite(total[0]).any() and torch.isfinite(total[1:]).all()


# --- calibration


def well_separated() -> TrainingCells:
    return toy_cells(n_genes=30, sizes=(60, 60, 40, 40, 40, 0))


def test_real_cells_score_above_controls_and_wrong_labels() -> None:
    names = {"pearson_topk": {"k": 5}, "rmse_topk": {"k": 5}, "de_spearman": {"genes": 20}}
    names |= {"energy_witness": {"components": 0}}
    frame = calibrate(lambda: suite(names).verifiers, well_separated(), seed=0).set_index("verifier")
    assert (frame["real"] > frame["control"] + frame["control_se"]).all()
    assert (frame["real"] > frame["shuffled"] + frame["shuffled_se"]).all()
    assert frame["n_conditions"].eq(3).all() and frame["n_cells"].eq(60).all()
    assert frame.loc["de_spearman", "real"] > 0.8
    # generated as the real cells are: E|X - X'| is as large as E|X - Y|, and the witness is zero on average
    assert abs(frame.loc["energy_witness", "real"]) < 3 * frame.loc["energy_witness", "real_se"] + 0.1


def test_plausibility_reads_no_label() -> None:
    frame = calibrate(lambda: [make_verifier("plausibility", {"k": 5})], well_separated(), seed=0)
    assert frame.loc[0, "real"] == frame.loc[0, "shuffled"]


def test_a_calibration_is_read_again(tmp_path: Path) -> None:
    frame = calibrate(lambda: suite().verifiers, CELLS, seed=1, least=3)
    write_calibration(tmp_path / "calibration.parquet", frame)
    assert read_parquet(tmp_path / "calibration.parquet").equals(frame)


def test_the_halves_are_disjoint_and_even() -> None:
    one, two = halves(CELLS, numpy_generator(0, "test"))
    assert (one.counts + two.counts).equal(CELLS.counts) and int((one.counts - two.counts).max()) <= 1
    assert not (set(map(tuple, one.x.tolist())) & set(map(tuple, two.x.tolist())))


def test_wrong_labels_are_of_the_same_context_where_they_can() -> None:
    context = torch.tensor([0, 0, 0, 1, 1, 2])
    chosen = torch.tensor([0, 1, 2, 3, 4, 5])
    wrong = wrong_labels(chosen, context, numpy_generator(0, "test"))
    assert (wrong != chosen).all() and context[wrong][:5].equal(context[:5])
    assert wrong_labels(chosen[:1], context, numpy_generator(0, "test")).tolist() == [-1]


def test_a_calibration_without_enough_cells_is_refused() -> None:
    with pytest.raises(UserError, match="calibration: no condition has 80 training cells with controls"):
        calibrate(lambda: suite().verifiers, CELLS, seed=0, least=40)


# --- bad input, one line each


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("nobody", {}, "verifier: 'nobody' is not known; choose de_spearman, "),
        ("pearson_topc", {}, "did you mean 'pearson_topk'"),
        ("pearson_topk", {"n": 3}, "verifier.pearson_topk.n: unknown key"),
        ("pearson_topk", {"k": 0}, "verifier.pearson_topk.k: must be at least 1"),
        ("pearson_topk", {"k": 20, "cells": 10}, "verifier.pearson_topk.k: 20 is above .*cells = 10"),
        ("rmse_topk", {"weight": -1.0}, "verifier.rmse_topk.weight: must be at least 0"),
        ("pathway", {}, "verifier.pathway.weights: no file; which=file needs a table of columns gene, pathway, weight"),
        ("pathway", {"which": "regulons", "reference": "literature"}, "verifier.pathway.signs: no file"),
        ("plausibility", {"k": 30, "cells": 30}, "verifier.plausibility.k: 30 must be below"),
    ],
)
def test_a_wrong_setting_is_refused(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_verifier(name, given)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("pearson_topk", {"k": 9}, r"verifier.pearson_topk.k: 9, but condition 'A\|b' has 8 training cells; .* most 8"),
        ("rmse_topk", {"k": 9}, r"verifier.rmse_topk.k: 9, but condition 'A\|b' has 8 training cells"),
        ("de_spearman", {}, "verifier.de_spearman.genes: 50, but there are 12 genes; give at most 12"),
        ("plausibility", {"k": 54}, "verifier.plausibility.k: 54, but there are 54 training cells; give at most 53"),
        (
            "energy_witness",
            {"components": 50},
            "verifier.energy_witness.components: 50, but 12 is the most that 54 cells of 12 genes",
        ),
        ("pathway", {"which": "regulons", "landscape": {"n_cells": 20}}, "which=regulons: 0 of its .* genes are among"),
        ("pathway", {"which": "regulons", "landscape": {"name": "kang18"}}, "landscape.name: the source kang18 has no"),
    ],
)
def test_settings_that_do_not_suit_the_cells_are_refused(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make_verifier(name, given).fit(CELLS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("gene,pathway,weight\ng0,one,nan\n", "row 2: weight of 'g0' in 'one' is 'nan', which is not a finite number"),
        ("gene,pathway,weight\ng0,one,1\ng1,one,\n", "row 3: weight of 'g1' in 'one' is '', which is not a finite"),
        ("gene,pathway,weight\ng0,one,much\n", "is 'much', which is not a finite number"),
        ("gene,pathway,weight\nX,one,1\nY,one,1\n", "0 of its 2 genes are among the 12 measured genes, at most 0 of a"),
        ("gene,pathway,weight\ng0,one,1\ng0,one,2\n", "row 3: 'g0' in 'one' is given a second time"),
        ("gene,pathway,weight\n", "holds no rows"),
        ("gene,set\ng0,one\n", "no column pathway or weight; needs a table"),
        ("", "cannot be read as a table"),
        (None, "no such file; give a table"),
    ],
)
def test_a_damaged_pathway_file_is_refused(content: str | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        make_verifier("pathway", {"weights": str(file)}).fit(CELLS)
    assert str(caught.value).startswith("verifier.pathway.weights=") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("target,pathway,sign\nA,one,2\n", "row 2: a sign must be -1, 0 or 1"),
        ("target,pathway,sign\nZ,one,1\n", "no sign for a target of this screen and a pathway in use"),
    ],
)
def test_damaged_signs_are_refused(content: str, message: str, tmp_path: Path) -> None:
    weights, signs = tmp_path / "weights.csv", tmp_path / "signs.csv"
    weights.write_text("gene,pathway,weight\n" + "\n".join(f"g{k},one,1.0" for k in range(6)))
    signs.write_text(content)
    given = {"weights": str(weights), "reference": "literature", "signs": str(signs)}
    with pytest.raises(UserError, match=f"^verifier.pathway.signs=.*{message}"):
        make_verifier("pathway", given).fit(CELLS)


def test_a_group_of_one_is_refused() -> None:
    with pytest.raises(UserError, match="verifier.energy_witness: a group of 1 candidate cannot be scored.*at least 2"):
        make_verifier("energy_witness", {"components": 0}).fit(CELLS).score(X[:, :1], GROUPS)
    with pytest.raises(UserError, match="verifiers: a group of one candidate has no spread; use a group of at least 2"):
        suite({"rmse_topk": {"k": 3}}).fit(CELLS).rewards(X[:, :1], GROUPS)
    assert make_verifier("rmse_topk", {"k": 3}).fit(CELLS).score(X[:, :1], GROUPS).shape == (3, 1)


def test_a_suite_needs_a_weight() -> None:
    with pytest.raises(UserError, match="verifiers: none has a weight above 0"):
        suite({"rmse_topk": {"weight": 0.0}})
    with pytest.raises(UserError, match="agent.verifiers: must not be empty"):
        suite({})


@pytest.mark.parametrize(
    ("x", "condition", "genes", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), ["g"], "2 columns, but 1 names of genes"),
        (torch.zeros(3, 1), torch.zeros(2, dtype=torch.int64), ["g"], "3 cells, but conditions of 2"),
        (torch.zeros(1, 1), torch.tensor([9]), ["g"], "a condition is out of range"),
        (torch.full((1, 1), torch.nan), torch.tensor([0]), ["g"], "a value of x is not finite"),
        (torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64), ["g"], "at least one cell"),
    ],
)
def test_cells_that_do_not_fit_together_are_refused(x: Any, condition: Any, genes: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"^training cells: .*{message}"):
        training_cells(x, condition, names=NAMES, targets=TARGETS, genes=genes, contexts=CONTEXTS)


# --- settings


def test_every_file_has_a_verifier_and_every_key_is_alive() -> None:
    from perturbrl import paths

    files = {file.stem for file in (paths.conf_dir() / "verifier").glob("*.yaml")}
    assert files == set(registry.verifiers)
    for name in files:
        assert set(registry.verifiers.defaults(name)) == set(registry.verifiers[name].schema.__dataclass_fields__)


@pytest.mark.parametrize(
    ("name", "given", "changed"),
    [
        ("pearson_topk", {"k": 3}, {"k": 2}),
        ("pearson_topk", {"k": 3}, {"cells": 4}),
        ("rmse_topk", {"k": 3}, {"k": 2}),
        ("rmse_topk", {"k": 3}, {"cells": 4}),
        ("de_spearman", {"genes": 6}, {"genes": 8}),
        ("energy_witness", {"components": 0}, {"components": 3}),
        ("energy_witness", {"components": 0}, {"cells": 4}),
        ("energy_witness", {"components": 0}, {"repulsion": 0.0}),
        ("plausibility", {"k": 4}, {"k": 5}),
        ("plausibility", {"k": 4}, {"cells": 20}),
        ("plausibility", {"k": 4}, {"components": 3}),
    ],
)
def test_a_setting_changes_scores(name: str, given: dict[str, Any], changed: dict[str, Any]) -> None:
    before = make_verifier(name, given).fit(CELLS).score(X, GROUPS)
    assert not torch.allclose(before, make_verifier(name, given | changed).fit(CELLS).score(X, GROUPS))
