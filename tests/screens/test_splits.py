from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from fakes.screens import PAIRS, SINGLES, made_raw, made_screen, made_split, names
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from perturbrl import paths, registry
from perturbrl.data.split import holds_out_cells
from perturbrl.errors import UserError
from perturbrl.screens.leaks import LEAST_CELLS
from perturbrl.screens.schema import Screen

USES = ("train", "validation", "test", "control_train", "control_validation", "control_test")
SCREEN = made_screen()
WIDE = made_screen(made_raw(contexts=("K", "T", "U")), context="line")
DOSED = made_screen(made_raw(labels=("dexa", "bud"), doses=(1.0, 3.0, 10.0, 30.0)), dose="amount")
REPLICATED = made_screen(made_raw(labels=SINGLES, batches=("b1", "b2", "b3", "b4"), n=60, n_control=60))
ON = {
    **dict.fromkeys(("unseen_single", "combinations", "additive", "iid_cells"), SCREEN),
    **{"unseen_context": WIDE, "unseen_dose": DOSED, "unseen_batch": REPLICATED},
}
KINDS = sorted(ON)
seeds = settings(max_examples=15)


def targets(screen: Screen, rows: np.ndarray) -> set[str]:
    return {t for k in np.unique(screen.condition[rows]) for t in screen.conditions[k].targets}


def contexts(screen: Screen, rows: np.ndarray) -> set[str]:
    return {screen.conditions[k].context for k in np.unique(screen.condition[rows])}


@seeds
@given(st.sampled_from(KINDS), st.integers(0, 2**31))
def test_every_split_is_disjoint_sorted_and_the_same_for_the_same_seed(kind: str, seed: int) -> None:
    screen = ON[kind]
    split, again = made_split(screen, kind, seed=seed), made_split(screen, kind, seed=seed)
    rows = np.concatenate([getattr(split, use) for use in USES])
    assert len(np.unique(rows)) == len(rows)
    for use in USES:
        own = getattr(split, use)
        assert len(own) and (np.diff(own) > 0).all() and own.dtype == np.int64
        np.testing.assert_array_equal(own, getattr(again, use))
        assert (screen.is_control[own] == use.startswith("control")).all()
    assert split.sha256 == again.sha256 and len(split.sha256) == 64
    assert split.strata.keys() == set(screen.condition[np.concatenate([split.test, split.validation])].tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_other_seeds_give_other_splits(kind: str) -> None:
    assert len({made_split(ON[kind], kind, seed=seed).sha256 for seed in range(5)}) > 1


@pytest.mark.parametrize("kind", ["unseen_single", "combinations", "additive", "iid_cells"])
def test_half_of_the_controls_of_each_batch_train_and_a_quarter_each_validates_and_tests(kind: str) -> None:
    split = made_split(WIDE, kind)
    controls = np.flatnonzero(WIDE.is_control)
    for condition in np.unique(WIDE.condition[controls]):
        for batch in range(2):
            own = controls[(WIDE.condition[controls] == condition) & (WIDE.batch[controls] == batch)]
            shares = [np.isin(own, getattr(split, use)).sum() / len(own) for use in USES[3:]]
            np.testing.assert_allclose(shares, [0.5, 0.25, 0.25], atol=1 / len(own))


@seeds
@given(st.integers(0, 2**31))
def test_unseen_single_holds_out_genes_wholly(seed: int) -> None:
    split = made_split(SCREEN, "unseen_single", seed=seed)
    out, kept = targets(SCREEN, split.test), targets(SCREEN, split.train)
    assert len(out) == round(0.25 * len(SINGLES)) and not out & kept
    assert not targets(SCREEN, split.validation) & (out | kept) and len(targets(SCREEN, split.validation)) == 1
    assert all("+" not in name for name in names(SCREEN, split.test)) and set(split.strata.values()) == {"single"}
    unused = {p for p in PAIRS if set(p.split("+")) & (out | targets(SCREEN, split.validation))}
    assert split.notes[0] == f"{len(unused)} combinations with a held-out gene are not used"
    assert names(SCREEN, split.train) == (set(SINGLES) | set(PAIRS)) - out - targets(SCREEN, split.validation) - unused


def test_knock_out_and_over_expression_of_a_gene_are_held_out_together() -> None:
    labels = [f"G{k}_{kind}" for k in range(8) for kind in ("ko", "oe")]
    screen = made_screen(made_raw(labels=labels), effects={"_ko": -1.0, "_oe": 1.0})
    test = names(screen, made_split(screen, "unseen_single").test)
    assert test == {f"{gene}_{kind}" for gene in {n[:2] for n in test} for kind in ("ko", "oe")} and len(test) == 4


@seeds
@given(st.integers(0, 2**31))
def test_combinations_are_named_by_how_many_members_are_seen(seed: int) -> None:
    split = made_split(SCREEN, "combinations", seed=seed)
    out = {n for n in names(SCREEN, split.test) if "+" not in n}
    assert len(out) == 2
    seen = targets(SCREEN, split.train)
    for k in np.unique(SCREEN.condition[np.concatenate([split.test, split.validation])]):
        members = SCREEN.conditions[k].targets
        assert split.strata[int(k)] == ("single" if len(members) == 1 else f"seen{len(seen & set(members))}")
    intact = {p for p in PAIRS if not set(p.split("+")) & out}
    seen2 = names(SCREEN, split.test) & intact
    assert len(seen2) == max(1, round(0.25 * len(intact)))
    assert names(SCREEN, split.test) == out | seen2 | (set(PAIRS) - intact)
    assert not targets(SCREEN, split.train) & out and not targets(SCREEN, split.validation) & out


@seeds
@given(st.integers(0, 2**31))
def test_additive_trains_on_every_single(seed: int) -> None:
    labels = (*SINGLES, *PAIRS, "G0+G11", "G10+G11")  # neither G10 nor G11 alone
    screen = made_screen(made_raw(labels=labels))
    split = made_split(screen, "additive", seed=seed)
    assert set(SINGLES) | {"G0+G11", "G10+G11"} <= names(screen, split.train)
    assert len(names(screen, split.test)) == 4 and len(names(screen, split.validation)) == 1
    assert names(screen, split.test) | names(screen, split.validation) < set(PAIRS)
    assert set(split.strata.values()) == {"seen2"}


@seeds
@given(st.integers(0, 2**31))
def test_an_unseen_context_is_out_with_its_controls(seed: int) -> None:
    split = made_split(WIDE, "unseen_context", seed=seed)
    (test,) = contexts(WIDE, split.test)
    (validation,) = contexts(WIDE, split.validation)
    trained = {"K", "T", "U"} - {test, validation}
    assert contexts(WIDE, split.train) == contexts(WIDE, split.control_train) == trained and len(trained) == 1
    assert test in contexts(WIDE, split.control_test) and validation in contexts(WIDE, split.control_validation)
    assert len(names(WIDE, split.test)) == len(SINGLES) + len(PAIRS) and set(split.strata.values()) == {"context"}


def test_few_shots_of_a_context_train_with_its_controls() -> None:
    split = made_split(WIDE, "unseen_context", held_out="T", few_shot=3)
    shots = {n for n in names(WIDE, split.train) if n.endswith("|T")}
    assert len(shots) == 3 and contexts(WIDE, split.control_train) == {"K", "T", "U"}
    assert len(names(WIDE, split.test)) == len(SINGLES) + len(PAIRS) - 3 and not shots & names(WIDE, split.test)


def test_a_perturbation_that_no_other_context_has_is_not_asked_for() -> None:
    raw = made_raw(contexts=("K", "T"))
    lone = (raw.obs["perturbation"] == "G0") & (raw.obs["line"] == "K")
    screen = made_screen(dataclasses.replace(raw, obs=raw.obs.assign(good=~lone)), context="line", keep="good")
    split = made_split(screen, "unseen_context", held_out="T")
    assert "G0|T" not in names(screen, split.test) and "G1|T" in names(screen, split.test)
    assert split.notes == ("1 conditions of held-out contexts are not used: no other context has them",)
    assert set(split.strata.values()) == {"context", "single"}  # two contexts: validation is on perturbations


@pytest.mark.parametrize(
    ("direction", "test", "validation"), [("extrapolation", 30.0, 10.0), ("interpolation", 3.0, 10.0)]
)
def test_a_dose_is_held_out_of_each_drug(direction: str, test: float, validation: float) -> None:
    split = made_split(DOSED, "unseen_dose", direction=direction)
    assert names(DOSED, split.test) == {f"{drug}@{test:g}" for drug in ("dexa", "bud")}
    assert names(DOSED, split.validation) == {f"{drug}@{validation:g}" for drug in ("dexa", "bud")}
    assert targets(DOSED, split.train) == {"dexa", "bud"} and set(split.strata.values()) == {"dose"}


@pytest.mark.parametrize(("direction", "test"), [("extrapolation", "dexa@3"), ("interpolation", "dexa@1")])
def test_of_two_doses_one_is_left_and_validation_takes_cells(direction: str, test: str) -> None:
    screen = made_screen(made_raw(labels=("dexa",), doses=(1.0, 3.0), n=50), dose="amount")
    split = made_split(screen, "unseen_dose", direction=direction)
    assert names(screen, split.test) == {test} and names(screen, split.validation) == names(screen, split.train)
    assert len(split.validation) == 10 and set(split.strata.values()) == {"dose", "cells"}
    assert "validation holds out cells" in split.notes[0] and "1 test condition only" in split.notes[1]


def test_a_batch_is_held_out_with_its_controls() -> None:
    split = made_split(REPLICATED, "unseen_batch", held_out="b3")
    where = {use: {REPLICATED.batches[b] for b in REPLICATED.batch[getattr(split, use)]} for use in USES}
    assert where["test"] == where["control_test"] == {"b3"}
    assert where["validation"] == where["control_validation"] and len(where["validation"]) == 1
    assert where["train"] == where["control_train"] == {"b1", "b2", "b3", "b4"} - where["test"] - where["validation"]
    assert names(REPLICATED, split.test) == set(SINGLES) and set(split.strata.values()) == {"batch"}


def test_three_batches_leave_two_to_train_on() -> None:
    screen = made_screen(made_raw(labels=SINGLES, batches=("b1", "b2", "b3"), n=60))
    split = made_split(screen, "unseen_batch", held_out="b1")
    assert {screen.batches[b] for b in screen.batch[split.train]} == {"b2", "b3"}
    assert {screen.batches[b] for b in screen.batch[split.validation]} == {"b2", "b3"}
    assert {screen.batches[b] for b in screen.batch[split.control_test]} == {"b1"}


def test_a_condition_with_few_cells_in_the_batch_is_not_asked_for() -> None:
    raw = made_raw(labels=SINGLES, n=60)
    own = np.flatnonzero((raw.obs["perturbation"] == "G0") & (raw.obs["batch"] == "b1"))
    keep = ~np.isin(np.arange(raw.n_cells), own[LEAST_CELLS - 1 :])
    screen = made_screen(dataclasses.replace(raw, obs=raw.obs.assign(keep=keep)), keep="keep")
    split = made_split(screen, "unseen_batch", held_out="b1")
    assert names(screen, split.test) == set(SINGLES) - {"G0"} and "1 conditions have fewer than 5" in split.notes[0]


def test_iid_cells_says_what_it_is() -> None:
    split = made_split(SCREEN, "iid_cells")
    assert names(SCREEN, split.train) == names(SCREEN, split.test) == set(SINGLES) | set(PAIRS)
    assert split.leaks == ("training has cells of every test condition: a sanity check, not prediction",)
    counts = np.bincount(SCREEN.condition[split.test])
    assert set(counts[counts > 0].tolist()) == {6}  # a quarter of 24


@pytest.mark.parametrize(
    ("kind", "screen", "said"),
    [
        ("combinations", DOSED, "2 or more combinations; made has none"),
        ("additive", DOSED, "3 or more combinations of targets that were also measured alone; made has none"),
        ("unseen_context", SCREEN, "2 or more contexts (values of conditions.context=null); made has none"),
        ("unseen_dose", SCREEN, "a perturbation with two doses (values of conditions.dose=null); made has none"),
        ("unseen_single", DOSED, "3 or more genes perturbed alone; made has 2: bud, dexa"),
        ("unseen_batch", made_screen(batch=None), "2 or more batches (values of conditions.batch=null); made has none"),
    ],
)
def test_nothing_to_hold_out_is_one_line(kind: str, screen: Screen, said: str) -> None:
    with pytest.raises(UserError) as error:
        made_split(screen, kind)
    assert str(error.value).startswith(f"split={kind}: needs {said}")


@pytest.mark.parametrize(("kind", "screen"), [("unseen_context", WIDE), ("unseen_batch", REPLICATED)])
def test_a_name_that_is_not_there(kind: str, screen: Screen) -> None:
    with pytest.raises(UserError, match="split.held_out: 'nobody' is no (context|batch) of this screen; choose"):
        made_split(screen, kind, held_out="nobody")


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("unseen_single", {"test_fraction": 1.0}, "split.test_fraction: must be above 0 and below 1, got 1.0"),
        (
            "combinations",
            {"combination_fraction": 0.0},
            "combination_fraction: must be above 0 and below 1, got 0.0",
        ),
        ("unseen_dose", {"direction": "up"}, "split.direction: 'up' is not known"),
        ("unseen_context", {"few_shot": -1}, "split.few_shot: must be at least 0, got -1"),
        ("iid_cells", {"seed": -1}, "split.seed: must be at least 0 and at most 9223372036854775807, got -1"),
        ("iid_cells", {"held_out": "x"}, "split.held_out: unknown key"),
        ("iid_cells", {"kind": "genes"}, "split.kind: 'genes' is not known"),
    ],
)
def test_bad_settings_are_one_line(kind: str, changes: dict, said: str) -> None:
    node = OmegaConf.load(Path(paths.conf_dir()) / "split" / f"{kind}.yaml")
    with pytest.raises(UserError) as error:
        registry.splits.bind(OmegaConf.merge(node, changes))
    assert said in str(error.value)


def test_every_split_of_screens_is_tried() -> None:
    assert set(KINDS) == {kind for kind in registry.splits if not holds_out_cells(kind)}


def test_every_split_of_conf_binds_to_the_schema_of_its_kind() -> None:
    for file in sorted((Path(paths.conf_dir()) / "split").glob("*.yaml")):
        node = OmegaConf.load(file)
        bound = registry.splits.bind(node)
        assert type(bound) is registry.splits[file.stem].schema and bound.kind == file.stem
