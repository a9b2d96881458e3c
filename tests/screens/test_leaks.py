"""Each leak of the protocol, made on purpose, must be refused with a sentence that names it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fakes.screens import made_raw, made_screen, made_split, names, replaced

from perturbrl.errors import UserError
from perturbrl.screens.genes import training_rows
from perturbrl.screens.leaks import check_split, require_training_rows
from perturbrl.screens.schema import Condition, Screen, ScreenSplit

EMPTY = np.zeros(0, dtype=np.int64)


def check_refused(screen: Screen, split: ScreenSplit, said: str) -> None:
    with pytest.raises(UserError) as error:
        check_split(screen, split)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.fixture(scope="module")
def screen() -> Screen:
    return made_screen()


@pytest.fixture(scope="module")
def split(screen: Screen) -> ScreenSplit:
    return made_split(screen)


def cells_of(screen: Screen, name: str) -> np.ndarray:
    return np.flatnonzero(np.array([screen.conditions[k].name == name for k in screen.condition]))


@pytest.mark.parametrize("use", ["train", "validation", "test"])
def test_an_empty_set(screen: Screen, split: ScreenSplit, use: str) -> None:
    check_refused(screen, replaced(split, **{use: EMPTY}), f"leaves no {use} cells")


def test_a_tiny_test_condition(screen: Screen, split: ScreenSplit) -> None:
    name = sorted(names(screen, split.test))[0]
    few = np.union1d(np.setdiff1d(split.test, cells_of(screen, name)), cells_of(screen, name)[:4])
    check_refused(screen, replaced(split, test=few), f"fewer than 5 test cells in {name}")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("train", "test"),
        ("validation", "test"),
        ("control_train", "control_test"),
        ("control_validation", "control_train"),
    ],
)
def test_a_cell_with_two_uses(screen: Screen, split: ScreenSplit, first: str, second: str) -> None:
    both = np.append(getattr(split, first), getattr(split, second)[:1])
    with pytest.raises(UserError, match=r"^split=.*: 1 cells are in both \w+ and \w+") as error:
        check_split(screen, replaced(split, **{first: both}))
    assert first in str(error.value) and second in str(error.value)


def test_a_control_among_perturbed_cells(screen: Screen, split: ScreenSplit) -> None:
    moved = {"control_test": split.control_test[1:], "train": np.append(split.train, split.control_test[:1])}
    check_refused(screen, replaced(split, **moved), "train holds 1 control cells")


def test_a_test_condition_that_trains(screen: Screen, split: ScreenSplit) -> None:
    name = sorted(names(screen, split.test))[0]
    own = cells_of(screen, name)
    moved = replaced(split, train=np.append(split.train, own[:10]), test=np.setdiff1d(split.test, own[:10]))
    check_refused(screen, moved, f"{name} is in training and in the test")


@pytest.mark.parametrize("twin", [("G1", "G0"), ("G0", "G1", "ctrl"), ("control", "G0", "G1")])
def test_one_condition_under_two_spellings(screen: Screen, split: ScreenSplit, twin: tuple[str, ...]) -> None:
    """A screen that was not made by load_screen might hold both A+B and B+A, or ctrl+A and A."""
    assert any(c.targets == ("G0", "G1") for c in screen.conditions)
    last = len(screen.conditions) - 1
    spelled = (*screen.conditions[:last], Condition(twin))
    check_refused(dataclasses.replace(screen, conditions=spelled), split, "are one condition")


@pytest.mark.parametrize("kind", ["unseen_single", "combinations"])
def test_a_held_out_gene_in_a_training_combination(screen: Screen, kind: str) -> None:
    split = made_split(screen, kind)
    gene = next(n for n in sorted(names(screen, split.test)) if "+" not in n)
    pair = next(c.name for c in screen.conditions if gene in c.targets and len(c.targets) == 2)
    own = cells_of(screen, pair)
    moved = replaced(split, train=np.union1d(split.train, own), test=np.setdiff1d(split.test, own))
    moved = replaced(moved, validation=np.setdiff1d(split.validation, own))
    check_refused(screen, moved, f"{gene} of the held-out condition {gene} (single) is in a training condition")


def test_a_held_out_gene_that_was_never_alone() -> None:
    """Its combinations are the only conditions that tell whether it trains."""
    screen = made_screen(
        made_raw(labels=("G0", "G1", "G2", "G3", "G0+G9", "G1+G9", "G2+G9", "G0+G1", "G1+G2", "G2+G3"))
    )
    split = next(
        s for s in (made_split(screen, seed=k) for k in range(50)) if {"G0+G9", "G1+G9"} <= names(screen, s.test)
    )
    own = cells_of(screen, "G0+G9")
    moved = replaced(split, train=np.union1d(split.train, own), test=np.setdiff1d(split.test, own))
    check_refused(screen, moved, "is in a training condition")


@pytest.mark.parametrize(
    ("test", "train"),
    [
        ("STAT1g1", "STAT1g2"),
        ("STAT1_sg1", "STAT1_sg2"),
        ("IRF1.rep1", "IRF1.rep2"),
        ("KLF1_plate3", "KLF1"),
        ("G9-1", "G9-2"),  # G9 is measured
        ("NKX2-1", "NKX2"),
        ("BRD4_1", "BRD4_2"),
    ],
)
def test_a_suffix_that_puts_one_perturbation_on_both_sides(test: str, train: str) -> None:
    screen = made_screen(made_raw(labels=(test, train, "A", "B")))
    split = made_split(screen, "iid_cells")
    rows = {"test": cells_of(screen, test), "validation": cells_of(screen, "B")}
    rows["train"] = np.union1d(cells_of(screen, train), cells_of(screen, "A"))
    strata = dict.fromkeys(range(len(screen.conditions)), "single")
    split = replaced(split, kind="unseen_single", strata=strata, **rows)
    check_refused(screen, split, f"test target {test!r} and training target {train!r} look like guides or replicates")
    tuned = replaced(split, train=rows["validation"], validation=rows["train"])
    check_refused(screen, tuned, f"test target {test!r} and validation target {train!r} look like guides or replicates")


def test_a_test_condition_that_validates(screen: Screen, split: ScreenSplit) -> None:
    name = sorted(names(screen, split.test))[0]
    own = cells_of(screen, name)
    moved = replaced(split, test=np.setdiff1d(split.test, own[:5]), validation=np.union1d(split.validation, own[:5]))
    check_refused(screen, moved, f"{name} is in validation and in the test")


@pytest.mark.parametrize("pair", [("STAT1", "STAT3"), ("MAP2K3", "MAP2K6"), ("NKX2-1", "NKX2-5"), ("Atg5", "Atg7")])
def test_genes_that_differ_in_a_number_are_two_genes(pair: tuple[str, str]) -> None:
    screen = made_screen(made_raw(labels=(*pair, "A", "B")))
    held_out = [made_split(screen, "unseen_single", seed=seed).test for seed in range(6)]
    names = {screen.conditions[screen.condition[cells[0]]].name for cells in held_out}
    assert len(names) > 1 and names & set(pair)  # one of the two was held out while the other was not, and not refused


def test_a_suffix_that_is_removed_is_no_leak() -> None:
    screen = made_screen(made_raw(labels=("STAT1g1", "STAT1g2", "A", "B")), strip_suffix="g[0-9]+$")
    assert "STAT1" in {c.name for c in screen.conditions}
    made_split(screen, "unseen_single")


def test_an_additive_model_would_use_a_test_single(screen: Screen) -> None:
    split = made_split(screen, "additive")
    pair = next(n for n in sorted(names(screen, split.test)) if "+" in n)
    single = pair.split("+")[0]
    own = cells_of(screen, single)
    moved = replaced(split, train=np.setdiff1d(split.train, own), test=np.union1d(split.test, own))
    k = next(k for k, c in enumerate(screen.conditions) if c.name == single)
    moved = replaced(moved, strata={**split.strata, k: "single"})
    check_refused(screen, moved, f"but {single} is a test condition: an additive model would read test cells")


def test_a_condition_without_a_stratum(screen: Screen, split: ScreenSplit) -> None:
    k = int(screen.condition[split.test[0]])
    strata = {c: s for c, s in split.strata.items() if c != k}
    check_refused(screen, replaced(split, strata=strata), f"{screen.conditions[k].name} has no stratum")


@pytest.mark.parametrize("use", ["test", "validation"])
def test_no_control_of_the_same_context(use: str) -> None:
    screen = made_screen(made_raw(contexts=("K", "T")), context="line")
    split = made_split(screen)
    context = np.array([screen.conditions[k].context for k in screen.condition])
    rows = getattr(split, f"control_{use}")
    check_refused(
        screen, replaced(split, **{f"control_{use}": rows[context[rows] == "K"]}), f"no control_{use} cells in T"
    )


def test_controls_of_other_batches_only(screen: Screen) -> None:
    split = made_split(screen)
    batch = np.array(screen.batches)[screen.batch]
    moved = replaced(
        split,
        test=split.test[batch[split.test] == "b1"],
        control_test=split.control_test[batch[split.control_test] == "b2"],
    )
    check_refused(screen, moved, "test cells lie in batches without control_test cells")


def test_a_batch_on_both_sides() -> None:
    screen = made_screen(made_raw(n=60, batches=("b1", "b2", "b3")))
    split = made_split(screen, "unseen_batch", held_out="b2")
    k = split.test[:3]
    check_refused(screen, replaced(split, test=split.test[3:], train=np.append(split.train, k)), "share the batch b2")


def test_no_training_controls(screen: Screen, split: ScreenSplit) -> None:
    check_refused(screen, replaced(split, control_train=EMPTY), "no control_train cells")


@pytest.mark.parametrize("use", ["test", "validation", "control_test", "control_validation"])
def test_fitting_on_cells_that_are_not_for_training(split: ScreenSplit, use: str) -> None:
    rows = training_rows(split)
    require_training_rows(split, rows, "a PCA")
    with pytest.raises(UserError, match="a PCA: fitted on 1 cells that are not for training"):
        require_training_rows(split, np.append(rows, getattr(split, use)[0]), "a PCA")
