"""References: written of finished runs, found by cells and schedule, and what counts as drift from them."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fakes.runs import make_run
from scipy.stats import binom

from perturbrl import paths
from perturbrl.errors import UserError
from perturbrl.metrics_info import PAPER_COLUMNS
from perturbrl.report import drift, reference
from perturbrl.report.reference import Scores

TABLES, AGENTS = ("joint", "rna", "atac"), ("ppo", "trpo", "trpo_ppo")


def make_runs(root: Path, seeds: range, tables: tuple[str, ...] = TABLES, **changes: Any) -> Path:
    """Fabricated runs of every agent on every table, with the parts of a config that a reference is known by."""
    source = {"name": "file", "path": str(root / "cells.h5mu"), "layer": None} | changes.pop("source_settings", {})
    for table in tables:
        for agent in AGENTS:
            for seed in seeds:
                folder = make_run(root, agent, table, seed, **changes)
                config = {"source": source, "data": {"name": table, "n_features": 2000}}
                (folder / paths.CONFIG).write_text(yaml.safe_dump(config))
    return root


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_runs(tmp_path_factory.mktemp("eight"), range(8))


@pytest.fixture(scope="module")
def stored(eight: Path, tmp_path_factory: pytest.TempPathFactory) -> Scores:
    return reference.write(reference.scores_of([eight]), tmp_path_factory.mktemp("stored") / "mine.json")


def changed(scores: Scores, values: dict[tuple[str, str, str], dict[int, float]]) -> Scores:
    return dataclasses.replace(scores, values={**scores.values, **values})


def only(scores: Scores, *seeds: int) -> Scores:
    kept = {key: {s: v for s, v in cell.items() if s in seeds} for key, cell in scores.values.items()}
    return dataclasses.replace(scores, values=kept)


def test_a_reference_holds_every_value_of_every_seed(eight: Path, stored: Scores) -> None:
    scores = reference.scores_of([eight])
    assert scores.values.keys() == stored.values.keys()
    rows = {row for _, row, _ in stored.values}
    assert rows == {*AGENTS, "do_nothing", "random_uniform", "random_sign", "best_constant"}
    assert len(stored.values) == len(TABLES) * len(rows) * len(PAPER_COLUMNS)
    for key, seeds in scores.values.items():
        assert seeds.keys() == set(range(8))
        assert all(math.isclose(stored.values[key][s], v, rel_tol=1e-5) for s, v in seeds.items())
    assert stored.seeds == 8 and stored.agents == AGENTS
    assert stored.made["commit"] == "fabricated0" and stored.made["processor"] and stored.made["date"]
    assert "path" not in stored.source and stored.data["rna"]["sha256"] == "0" * 64


def test_the_same_runs_agree_to_the_last_digit(eight: Path, stored: Scores) -> None:
    check = drift.compare(reference.scores_of([eight]), stored)
    assert check.agrees and all(value.identical for value in check.values)
    assert len(check.values) == len(stored.values)
    (line,) = check.lines()
    assert line.startswith(f"{len(stored.values)} of {len(stored.values)} values agree")


def test_each_value_out_of_its_interval_is_one_line(stored: Scores) -> None:
    key = ("rna", "trpo", "auprc")
    values = np.array(list(stored.values[key].values()))
    far = {0: float(values.mean() + 12 * values.std(ddof=1))}
    check = drift.compare(changed(only(stored, 0), {key: far}), stored)
    assert [(v.table, v.row, v.metric) for v in check.drifted] == [key]
    assert not check.agrees
    first, last = check.lines()
    assert first.startswith("drift: Table II (rna), trpo, AUPRC: ") and " reference " in first and " allowed " in first
    assert "values agree" in last
    content = json.loads(json.dumps(check.to_json(), allow_nan=False))
    assert [v["metric"] for v in content["drifted"]] == ["auprc"] and content["agrees"] is False
    assert content["drifted"][0]["low"] < content["drifted"][0]["reference"] < content["drifted"][0]["high"]


def test_a_value_that_no_seed_changes_has_the_room_of_rounding(stored: Scores) -> None:
    key = ("joint", "do_nothing", "accuracy")
    assert set(stored.values[key].values()) == {1.0}
    assert drift.compare(changed(stored, {key: {0: 0.9985}}), stored).agrees
    check = drift.compare(changed(stored, {key: {0: 0.9970}}), stored)
    assert [(v.table, v.row, v.metric) for v in check.drifted] == [key]


def test_a_run_that_diverged_is_drift(stored: Scores) -> None:
    lost = {key: {0: math.nan} for key in stored.values if key[:2] == ("atac", "ppo")}
    check = drift.compare(changed(only(stored, 0), lost), stored)
    assert {(v.table, v.row) for v in check.drifted} == {("atac", "ppo")} and len(check.drifted) == len(PAPER_COLUMNS)
    assert all("1 of 1 runs diverged" in line for line in check.lines()[:-1])
    json.dumps(check.to_json(), allow_nan=False)


def test_a_row_that_is_gone_is_drift(stored: Scores) -> None:
    kept = {key: seeds for key, seeds in stored.values.items() if key[1] != "trpo_ppo"}
    check = drift.compare(dataclasses.replace(stored, values=kept), stored)
    assert not check.agrees and check.missing == tuple(f"{t}, trpo_ppo: no such run" for t in sorted(TABLES))


ALIKE, UNLIKE = (0.8, 1.0, 1.2), (0.6, 1.0, 1.4)  # the spread of an agent in each table


def drawn(rng: np.random.Generator, seeds: range, widths: tuple[float, ...] = ALIKE, shift: float = 0.0) -> Scores:
    """Scores without drift; metrics share the noise of their seed, as those of one policy do."""
    values = {}
    for width, table in zip(widths, TABLES, strict=True):
        for agent in AGENTS:
            shared = rng.standard_normal(len(seeds))
            for metric in PAPER_COLUMNS:
                noise = width * (0.8 * shared + 0.6 * rng.standard_normal(len(seeds))) + shift
                values[table, agent, metric] = dict(zip(seeds, noise.tolist(), strict=True))
    return Scores({"name": "drawn"}, {table: {} for table in TABLES}, "drawn", AGENTS, values, {})


@pytest.mark.parametrize(
    ("n", "m", "widths", "rate", "draws"),
    [
        (8, 1, ALIKE, 0.01, 100),
        pytest.param(8, 1, ALIKE, 0.01, 1500, marks=pytest.mark.slow),
        pytest.param(5, 5, ALIKE, 0.01, 1500, marks=pytest.mark.slow),
        pytest.param(3, 3, ALIKE, 0.01, 1500, marks=pytest.mark.slow),
        pytest.param(8, 1, UNLIKE, 0.03, 1500, marks=pytest.mark.slow),
        pytest.param(5, 5, UNLIKE, 0.03, 1500, marks=pytest.mark.slow),
    ],
)
def test_runs_without_drift_rarely_fail(n: int, m: int, widths: tuple[float, ...], rate: float, draws: int) -> None:
    """One check in a hundred raises a false alarm; three do where an agent's spread differs more than twofold."""
    rng = np.random.default_rng(11)
    pairs = ((drawn(rng, range(100, 100 + m), widths), drawn(rng, range(n), widths)) for _ in range(draws))
    alarms = sum(not drift.compare(new, old).agrees for new, old in pairs)
    assert alarms <= binom.ppf(0.999, draws, rate)


@pytest.mark.parametrize(("n", "m"), [(8, 1), (5, 5), (3, 3)])
def test_a_shift_of_many_spreads_is_found(n: int, m: int) -> None:
    rng = np.random.default_rng(12)
    for _ in range(10):
        new, old = drawn(rng, range(100, 100 + m), shift=15.0), drawn(rng, range(n))
        assert len(drift.compare(new, old).drifted) > len(new.values) / 2


def test_cells_are_known_by_content_not_by_path(eight: Path, stored: Scores) -> None:
    data = {"rna": {"name": "rna", "n_features": 2000, "sha256": "0" * 64}}
    source = {"name": "file", "path": "/elsewhere/under_another_name.h5mu", "layer": None}
    assert reference.find(source, data, "released", [stored]) is stored
    newer = {"rna": {**data["rna"], "a_setting_to_come": True}}
    assert reference.find(source, newer, "released", [stored]) is stored


@pytest.mark.parametrize(
    ("source", "data", "schedule", "message"),
    [
        ({}, {"sha256": "1" * 64}, "released", "data.sha256: 111111111111, the reference has 000000000000"),
        ({}, {"n_features": 100}, "released", "data.n_features: 100, the reference has 2000"),
        ({"layer": "counts"}, {}, "released", "source.layer: counts, the reference has None"),
        ({"name": "paul15"}, {}, "released", "source: paul15"),
        ({}, {}, "released-quick", "schedule: released-quick"),
        ({}, {"name": "cite"}, "released", "data: it has no cite"),
    ],
)
def test_other_cells_or_budgets_have_no_reference(
    source: dict[str, Any], data: dict[str, Any], schedule: str, message: str, stored: Scores
) -> None:
    settings = {"name": "rna", "n_features": 2000, "sha256": "0" * 64} | data
    with pytest.raises(UserError) as caught:
        reference.find({"name": "file", "layer": None} | source, {settings["name"]: settings}, schedule, [stored])
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": range(2)}, "needs 3 seeds"),
        ({"seeds": range(3), "evaluated": False}, "summary.json cannot be read"),
        (
            {"seeds": range(3), "summary": {"protocol": "counterfactual", "split": {"kind": "x", "sha256": "0"}}},
            "paper",
        ),
    ],
)
def test_what_makes_no_reference_is_said_in_one_line(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    make_runs(tmp_path / "runs", tables=("rna",), **change)
    with pytest.raises(UserError, match=message):
        reference.write(reference.scores_of([tmp_path / "runs"]), tmp_path / "mine.json")
    assert not (tmp_path / "mine.json").exists()


def test_two_sources_make_no_reference(tmp_path: Path) -> None:
    make_runs(tmp_path / "a", range(3), ("rna",))
    make_runs(tmp_path / "b", range(3, 6), ("rna",), source_settings={"layer": "counts"})
    with pytest.raises(UserError, match="another source"):
        reference.scores_of([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize("text", ["{}", '{"format": 9}', "[]", '{"format": 1, "values": [1]}'])
def test_a_file_that_is_no_reference(text: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(text)
    with pytest.raises(UserError, match="mine.json"):
        reference.read(file)


SHIPPED = reference.shipped()


def test_the_quick_tables_of_the_default_source_are_shipped() -> None:
    (quick,) = [s for s in SHIPPED if (s.source["name"], s.schedule) == ("landscape", "released-quick")]
    assert quick.seeds >= 5 and quick.data.keys() == set(TABLES)
    assert {"commit", "processor", "date"} <= quick.made.keys() and "dirty" not in quick.made["commit"]


@pytest.mark.parametrize("stored", SHIPPED, ids=lambda s: s.name)
def test_each_seed_of_a_shipped_reference_agrees_with_the_others(stored: Scores) -> None:
    seeds = sorted(
        set.intersection(*(set(cell) for cell in stored.values.values()))
    )  # tables may have more of their own
    assert len(seeds) >= 3
    for seed in seeds:
        others = only(stored, *(s for s in seeds if s != seed))
        check = drift.compare(only(stored, seed), others)
        assert check.agrees, check.lines()
