from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fakes.configs import SCORE
from fakes.screens import SINGLES, made_raw, made_screen, made_split
from fakes.screens import names as condition_names

from perturbrl.data.schema import CellTable
from perturbrl.effects.observed import effects_of
from perturbrl.evaluate.counterfactual.curve import ValidationCurve
from perturbrl.evaluate.counterfactual.metrics import score
from perturbrl.metrics_info import columns_of
from perturbrl.report.held_out import DESIGN
from perturbrl.runner.dataset import DatasetInfo
from perturbrl.runner.hydra.compose import compose_job
from perturbrl.screens.describe import describe
from perturbrl.screens.held_out import held_out_names, sentences
from perturbrl.screens.schema import PerturbationTable, Screen
from tests.fakes.configs import description_config

ARMS = made_raw(labels=("stim",), contexts=("B cells", "CD14 Mono"))
DRUGS = made_raw(labels=("dexa", "bud"), contexts=("P1", "P2", "P3"), doses=(1.0, 10.0, 30.0))
REPLICATED = made_raw(labels=SINGLES, batches=("b1", "b2", "b3"), n=60, n_control=60)


def described(screen: Screen, kind: str, **changes: object) -> PerturbationTable:
    return describe(screen, made_split(screen, kind, **changes), description_config(kinds=["one_hot"]))


@pytest.mark.parametrize(
    ("raw", "columns", "kind", "settings", "expected"),
    [
        (ARMS, {"context": "line"}, "unseen_context", {"held_out": "CD14 Mono"}, "line CD14 Mono"),
        (DRUGS, {"context": "line", "dose": "amount"}, "unseen_context", {"held_out": "P2"}, "line P2"),
        (DRUGS, {"context": "line", "dose": "amount"}, "unseen_dose", {}, "amount 30 of bud, dexa"),
        (REPLICATED, {}, "unseen_batch", {"held_out": "b3"}, "batch b3"),
        (ARMS, {"context": "line"}, "iid_cells", {}, "cells of conditions that train too"),
    ],
)
def test_what_is_held_out_is_named(raw, columns, kind, settings, expected) -> None:
    screen = made_screen(raw, **columns)
    assert held_out_names(screen, made_split(screen, kind, **settings)) == expected


def test_held_out_genes_are_named(tmp_path) -> None:
    screen = made_screen()
    split = made_split(screen, "unseen_single")
    genes = sorted(condition_names(screen, split.test))
    assert held_out_names(screen, split) == f"perturbations {', '.join(genes)}"


def test_a_run_says_what_it_holds_out() -> None:
    table = described(made_screen(ARMS, context="line"), "unseen_context", held_out="CD14 Mono")
    messages = DatasetInfo.of(table).messages
    assert "held out for the test: line CD14 Mono" in messages
    assert set(sentences(table.screen, table.split)) < set(messages)


def test_two_cell_types_under_one_perturbation_can_be_split() -> None:
    screen = made_screen(ARMS, context="line")
    split = made_split(screen, "unseen_context", held_out="CD14 Mono")
    assert condition_names(screen, split.test) == {"stim|CD14 Mono"}
    assert condition_names(screen, split.train) == condition_names(screen, split.validation) == {"stim|B cells"}
    assert not set(split.train) & set(split.validation)
    assert any("validation holds out cells" in note for note in split.notes)


def test_the_design_of_one_perturbation_is_recorded_and_leaves_out_what_is_undefined() -> None:
    many = made_raw(labels=("G1",), contexts=("B cells", "CD14 Mono"), n=200, n_control=200)
    table = described(made_screen(many, context="line"), "unseen_context", held_out="CD14 Mono")
    truth = effects_of(table, SCORE, table.split.test, table.split.control_test, "test")
    scores = score(truth, {})
    assert [scores.header[key] for key in DESIGN] == [1, 1, 1]
    columns = columns_of(**truth.design)
    for metric in columns.ranking:  # what is left has a value, and what is left out for being alone has none
        assert np.isfinite(scores.rows["train_mean"][metric]), metric
    assert np.isnan(scores.rows["train_mean"]["pds_cosine"])


def test_many_perturbations_keep_all_columns() -> None:
    table = described(made_screen(), "unseen_single", test_fraction=0.4)
    truth = effects_of(table, SCORE, table.split.test, table.split.control_test, "test")
    assert truth.design["n_perturbations"] > 2 and not columns_of(**truth.design).left_out


@pytest.mark.parametrize(("encoder", "said"), [("random_gat", True), ("pca", False), ("none", False)])
def test_a_run_says_that_its_features_are_random_projections(encoder: str, said: bool) -> None:
    x = np.zeros((4, 2), dtype=np.float32)
    rows = np.arange(2), np.arange(2, 4)
    cells = CellTable(
        x, ("a", "b"), {"rna": slice(0, 2)}, np.zeros(4), *rows, pd.DataFrame(index=list("abcd")), "made", ""
    )
    messages = DatasetInfo.of(cells, encoder).messages
    assert any("random projections" in message for message in messages) is said


@pytest.mark.parametrize(
    ("lines", "first"), [(("B", "T"), "mse_norm"), (("B", "T", "NK", "Mono"), "pearson_delta_ctrl")]
)
def test_validation_curves_show_what_can_rank(lines: tuple[str, ...], first: str) -> None:
    screen = made_screen(made_raw(labels=("stim",), contexts=lines), context="line")
    table = describe(screen, made_split(screen, "unseen_context"), description_config(kinds=["one_hot"]))
    config = compose_job(["env=counterfactual"], Path(), "curve").config
    curve = ValidationCurve(config.protocol, [config.env], table, torch.device("cpu"))
    assert curve.names == (first, "mse", "mean_abs_action", "return", "return_share")
