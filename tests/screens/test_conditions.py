from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from fakes.configs import conditions_config
from fakes.screens import made_raw, made_screen
from hypothesis import given
from hypothesis import strategies as st

from perturbrl.errors import UserError
from perturbrl.screens.conditions import parse_conditions, parse_label
from perturbrl.screens.schema import Condition

AUTO = conditions_config()
words = st.lists(st.sampled_from(["KLF1", "MAP2K6", "SET", "ctrl", "control", "non-targeting"]), min_size=1, max_size=4)


@given(words, st.randoms())
def test_order_spaces_repeats_and_controls_change_no_label(parts: list[str], random) -> None:
    shuffled = random.sample(parts, len(parts))
    acting = tuple(sorted({p for p in parts if p in ("KLF1", "MAP2K6", "SET")}))
    assert parse_label("+".join(parts), AUTO) == parse_label(" + ".join([*shuffled, parts[0]]), AUTO) == acting


@pytest.mark.parametrize(
    ("label", "changes", "targets"),
    [
        ("dex_1h", {"strip_suffix": "_[0-9]+h$"}, ("dex",)),
        ("STAT1g2", {"strip_suffix": "g[0-9]+$"}, ("STAT1",)),
        ("STAT1g2+STAT1g1", {"strip_suffix": "g[0-9]+$"}, ("STAT1",)),
        ("A_B", {"separator": "_"}, ("A", "B")),
        ("GFP", {"control": ["GFP"]}, ()),
        ("GFP+A", {"control": ["GFP"]}, ("A",)),
        ("A+B", {"control": ["A+B"]}, ()),
        ("DMSO", {}, ()),
    ],
)
def test_labels(label: str, changes: dict, targets: tuple[str, ...]) -> None:
    assert parse_label(label, conditions_config(**changes)) == targets


def cells(**columns: list) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    return pd.DataFrame(columns, index=[f"c{k}" for k in range(n)])


def read(obs: pd.DataFrame, **changes):
    return parse_conditions(obs, conditions_config(**({"min_cells": 1} | changes)), "file")


def test_two_spellings_are_one_condition_and_every_cell_finds_its_own() -> None:
    labels = ["B+A", "ctrl", "A+B", "A+ctrl", "A", "ctrl+A", "NT"]
    parsed = read(cells(guide=labels), perturbation="guide")
    assert [c.name for c in parsed.conditions] == ["control", "A", "A+B"]
    assert parsed.condition.tolist() == [2, 0, 2, 1, 1, 1, 0]
    assert parsed.rows.tolist() == list(range(7)) and parsed.notes == ()


def test_cells_without_a_label_are_left_out_and_counted() -> None:
    parsed = read(cells(guide=["A", None, "ctrl", np.nan, "unassigned", ""]), perturbation="guide")
    assert parsed.rows.tolist() == [0, 2]
    assert parsed.notes == ("4 of 6 cells are left out: no perturbation label in obs['guide']",)


def test_cells_that_are_not_to_be_kept_rare_conditions_and_large_combinations_are_left_out() -> None:
    obs = cells(
        guide=["A"] * 4 + ["B"] * 2 + ["A+B+C"] * 3 + ["ctrl"] * 3, sure=["True"] * 3 + ["False"] + ["True"] * 8
    )
    parsed = read(obs, perturbation="guide", keep="sure", min_cells=3)
    assert [c.name for c in parsed.conditions] == ["control", "A"]
    assert parsed.rows.tolist() == [0, 1, 2, 9, 10, 11]
    assert [n.partition(" of ")[0] for n in parsed.notes] == ["1", "3", "2"]
    assert "max_targets=2" in parsed.notes[1] and "B has fewer than conditions.min_cells=3" in parsed.notes[2]


def test_the_word_of_an_is_control_column_counts() -> None:
    obs = cells(perturbation=["A", "safe-7", "A"], is_control=[False, True, False])
    assert [c.name for c in read(obs).conditions] == ["control", "A"]
    assert [
        c.name for c in read(obs.drop(columns="is_control").assign(x=["A", "ctrl", "A"]), perturbation="x").conditions
    ]


def test_contexts_doses_and_batches() -> None:
    obs = cells(
        perturbation=["dex", "dex", "ctrl", "dex", "ctrl"],
        line=["K", "K", "K", "A", "A"],
        hours=[1, 3, None, 1.0, 0],
        rep=["r2", "r1", "r1", "r1", "r2"],
    )
    parsed = read(obs, context="line", dose="hours", batch="rep")
    assert [c.name for c in parsed.conditions] == ["control|A", "control|K", "dex@1|A", "dex@1|K", "dex@3|K"]
    assert parsed.condition.tolist() == [3, 4, 1, 2, 0]
    assert parsed.batches == ("r1", "r2") and parsed.batch.tolist() == [1, 0, 0, 0, 1]
    assert Condition(("dex",), "K", 3.0) == parsed.conditions[4]


def test_doses_and_durations_after_a_suffix_leave_the_gene() -> None:
    labels = ["ctrl", "STAT1_kd0.7", "STAT1_ko@40", "IRF1_oe1.5@3", "IRF1_oe2b"] * 20
    parsed = read(cells(perturbation=labels), effects={"_ko": -1.0, "_kd": -1.0, "_oe": 1.0})
    assert parsed.genes == {
        "STAT1_kd0.7": ("STAT1", -0.7),
        "STAT1_ko@40": ("STAT1", -1.0),
        "IRF1_oe1.5@3": ("IRF1", 1.5),
    }


def test_effects_name_the_gene_and_its_sign() -> None:
    labels = ["Gata1_ko", "Gata1_oe+Pu1_ko", "control"]
    parsed = read(cells(perturbation=labels), effects={"_ko": -1.0, "_oe": 1.0})
    assert parsed.genes == {"Gata1_ko": ("Gata1", -1.0), "Gata1_oe": ("Gata1", 1.0), "Pu1_ko": ("Pu1", -1.0)}


GOOD = {"perturbation": ["A", "ctrl"], "line": ["x", "x"], "hours": [1.0, 0.0]}


@pytest.mark.parametrize(
    ("columns", "changes", "said"),
    [
        ({"other": ["A", "B"]}, {}, "no column of perturbations was found"),
        (GOOD, {"perturbation": "label"}, "conditions.perturbation='label' is not a column"),
        (GOOD, {"context": "lines"}, "conditions.context='lines' is not a column"),
        (GOOD, {"keep": "line"}, "conditions.keep='line': the column must hold true or false"),
        ({"perturbation": ["A", "B"]}, {}, "no control cells"),
        (GOOD | {"line": ["x", "y"]}, {"context": "line"}, "no control cells in the context x"),
        (GOOD | {"line": ["x", None]}, {"context": "line"}, "no usable value in 1 of 2 cells, first 'c1'"),
        (GOOD | {"hours": ["soon", 0]}, {"dose": "hours"}, "no usable value in 1 of 2 cells, first 'c0'"),
        (GOOD | {"hours": [-1.0, 0]}, {"dose": "hours"}, "no usable value in 1 of 2 cells"),
        ({"perturbation": ["ctrl", "ctrl"]}, {}, "no perturbed cells are left"),
        (GOOD, {"min_cells": 2}, "control has fewer than conditions.min_cells=2 cells"),
        (GOOD, {"control": ["A", "nothere"]}, "conditions.control: nothere is no label of a cell, nor a part of one"),
        (GOOD, {"min_cells": 0}, "conditions.min_cells: must be at least 1, got 0"),
        (GOOD, {"max_targets": 0}, "conditions.max_targets: must be at least 1, got 0"),
        (GOOD, {"separator": ""}, "conditions.separator: must not be empty; give at least one, such as +"),
        (GOOD, {"strip_suffix": "["}, "conditions.strip_suffix: '[' is no regular expression"),
    ],
)
def test_bad_input_is_one_line(columns: dict, changes: dict, said: str) -> None:
    with pytest.raises(UserError) as error:
        read(cells(**columns), **changes)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_cells_left_out_leave_the_screen_too() -> None:
    raw = made_raw()
    sure = np.arange(raw.n_cells) % 7 > 0
    screen = made_screen(dataclasses.replace(raw, obs=raw.obs.assign(sure=sure)), keep="sure", min_cells=5)
    assert screen.obs.index.tolist() == raw.obs.index[sure].tolist() and screen.x.shape[0] == sure.sum()
    labels = [screen.conditions[k].name for k in screen.condition]
    assert labels == raw.obs["perturbation"][sure].tolist()
    x = made_screen(raw, min_cells=5).x.toarray()
    np.testing.assert_array_equal(screen.x.toarray(), x[sure])
