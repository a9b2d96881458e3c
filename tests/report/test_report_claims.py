"""Claims on held-out perturbations: what is a unit, what is counted, and what is exploratory."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fakes.screen_runs import make_screen_run

from perturbrl.report import build_report
from perturbrl.report.claims import Family, best_simple, statements
from perturbrl.report.collect import collect
from perturbrl.report.held_out import HeldOutTable, gather
from perturbrl.report.held_out_section import header, section
from perturbrl.stats import crossed_mean, holm

DECLARED = {"metric": "pds_cosine", "agents": ["ppo", "trpo"], "alpha": 0.05}
PPO = {"claims": {**DECLARED, "agents": ["ppo"]}}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def split(seed: int, conditions: str, cells: str = "", **more: Any) -> dict[str, Any]:
    """A summary whose split has a sha256 of its own, as each draw of controls has."""
    about = {"kind": "fabricated", "seed": seed, "sha256": sha(f"draw {seed}")}
    if cells:
        about["held_out"] = {"conditions": sha(conditions), "cells": sha(cells)}
    return {"split": about, **more}


def one(root: Path) -> HeldOutTable:
    [table] = gather(collect([root]))
    return table


def edit(run: Path, **changes: Any) -> None:
    file = run / "evaluation" / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_one_set_of_test_cells_is_one_split_however_controls_were_drawn(tmp_path: Path) -> None:
    for seed in range(10):
        make_screen_run(tmp_path, seed=seed, skill=0.9, summary=split(seed, "doses", "cells", **PPO))
    table = one(tmp_path)
    assert table.splits == 1 and table.agents[0].n == 10
    [statement] = statements(table)
    assert "1 held-out set with 10 seeds, 12 distinct test conditions, 10 runs" in statement.text
    assert statement.word == "better"
    assert "10 runs on 1 distinct held-out set " in header(table) and "12 distinct test conditions in all" in header(
        table
    )


def test_three_sets_in_five_runs_are_three_units(tmp_path: Path) -> None:
    for seed in range(5):
        cells = f"replicate {seed % 3}"
        make_screen_run(tmp_path, seed=seed, skill=0.9, summary=split(seed, "the same", cells))
    table = one(tmp_path)
    assert table.splits == 3 and table.agents[0].n == 3
    [statement] = statements(table)
    assert "3 held-out sets, 12 distinct test conditions, 5 runs" in statement.text
    assert "too few: 3 held-out sets, where it takes 6" in statement.text


def test_a_condition_that_is_held_out_again_is_no_new_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = []
    for seed in range(8):
        run = make_screen_run(tmp_path, seed=seed, split_seed=seed, skill=0.5, conditions=5)
        held = rng.permutation(14)[:5]
        file = run / "evaluation" / "per_perturbation.parquet"
        frame = pd.read_parquet(file)
        frame["condition"] = frame["condition"].map({f"T{seed}_{k}": f"A{held[k]}" for k in range(5)})
        frame.to_parquet(file)
        frames.append(frame[frame["metric"] == "pds_cosine"].pivot(index="condition", columns="row", values="value"))
    table = one(tmp_path)
    [statement] = statements(table)
    best = best_simple(table, table.primary)
    assert best is not None
    wanted = crossed_mean(pd.DataFrame({k: frame["policy"] - frame[best.name] for k, frame in enumerate(frames)}).T)
    assert statement.claim is not None
    assert statement.claim.difference.low == pytest.approx(wanted.interval().low)
    assert statement.claim.p == pytest.approx(wanted.p)
    assert f"8 held-out sets, {wanted.conditions} distinct test conditions, 8 runs" in statement.text


def test_few_distinct_test_conditions_support_no_claim_with_many_seeds(tmp_path: Path) -> None:
    for seed in range(12):
        make_screen_run(tmp_path, seed=seed, skill=2.0, conditions=5, summary=PPO)
    [statement] = statements(one(tmp_path))
    assert statement.word == "no evidence"
    assert "No claim is made: too few: 5 distinct test conditions, where it takes 6 (family of 1)" in statement.text


def test_an_old_evaluation_is_read_with_its_split_file(tmp_path: Path) -> None:
    for seed in range(4):
        run = make_screen_run(tmp_path / "runs", seed=seed, summary=split(seed, ""))
        cells = {"test": [f"cell of set {seed // 2}"]}
        content = {"sha256": sha(f"draw {seed}"), "conditions": {"test": ["A", "B"]}, "cells": cells}
        (tmp_path / f"split{seed}.json").write_text(json.dumps(content))
        (run / "config.yaml").write_text(f"split: {{file: '{tmp_path}/split{seed}.json'}}\n")
    table = one(tmp_path / "runs")
    assert table.splits == 2 and not table.tested.note


def test_an_old_evaluation_without_a_split_file_counts_alike_conditions_once_and_says_so(tmp_path: Path) -> None:
    for seed in range(4):
        make_screen_run(tmp_path, seed=seed, split_seed=seed // 2, summary=split(seed, ""))
    table = one(tmp_path)
    assert table.splits == 2
    assert any("4 of 4 evaluations are of a version that did not write down" in r for r in section(table).remarks)


def test_a_run_without_an_evaluation_stops_the_claim_of_its_agent(tmp_path: Path) -> None:
    for seed in range(10):
        for agent in ("ppo", "trpo"):
            run = make_screen_run(tmp_path, agent, seed, skill=0.9, summary={"claims": DECLARED})
            if agent == "ppo" and seed < 3:
                (run / "evaluation" / "summary.json").unlink()
    ppo, trpo = statements(one(tmp_path))
    assert "3 of its 10 runs have no evaluation" in ppo.text and ppo.word == "no evidence"
    assert trpo.word == "better"


def test_a_diverged_run_that_was_never_evaluated_is_missed_too(tmp_path: Path) -> None:
    for seed in range(8):
        run = make_screen_run(
            tmp_path, seed=seed, skill=0.9, summary=PPO, status="diverged" if seed == 7 else "complete"
        )
    (run / "evaluation" / "summary.json").unlink()
    [statement] = statements(one(tmp_path))
    assert "1 of its 8 runs have no evaluation" in statement.text and statement.word == "no evidence"


def test_the_family_is_the_whole_report(tmp_path: Path) -> None:
    for horizon in (2, 3, 4):
        for seed in range(9):
            make_screen_run(tmp_path, seed=seed, skill=0.6, summary=PPO, env=f"counterfactual,horizon={horizon}")
    tables = gather(collect([tmp_path]))
    alone = [statements(table)[0].claim for table in tables]
    family = Family.of(tables)
    together = [statements(table, family)[0] for table in tables]
    assert family.size == 3 and all("after Holm over 3" in s.text for s in together)
    wanted = holm([claim.p for claim in alone if claim])
    assert [s.claim.p for s in together if s.claim] == pytest.approx(wanted.tolist())
    shown = [s.claims[0].text for s in build_report([tmp_path], tmp_path / "out", figures=False).held_out]
    assert shown == [s.text for s in together]
    said = (tmp_path / "out" / "tables.md").read_text()
    assert "covers all 3 tests of this report (3 tables). A claim takes 7 or more distinct test conditions" in said


@pytest.mark.parametrize("recorded", [True, False])
def test_what_was_declared_after_training_is_exploratory_everywhere(tmp_path: Path, recorded: bool) -> None:
    for seed in range(8):
        run = make_screen_run(tmp_path / "runs", seed=seed, skill=0.9, summary=PPO)
        if recorded:
            edit(run, claims_declared="after training" if seed == 3 else "before training")
        elif seed == 3:  # of a version that did not write it down
            (run / "config.yaml").write_text("protocol: {claims: {metric: mse_norm, agents: [ppo], alpha: 0.05}}\n")
    [statement] = statements(one(tmp_path / "runs"))
    assert statement.word == "better (exploratory)"
    assert "Exploratory: the claims of 1 of 8 runs were declared after training." in statement.text
    report = build_report([tmp_path / "runs"], tmp_path / "out", figures=False)
    for file in ("report.html", "tables.md"):
        text = (tmp_path / "out" / file).read_text()
        assert text.count("ppo is better than") == text.count("Exploratory: the claims of 1 of 8 runs") == 1, file
    assert '<b class="v open">better (exploratory)</b>' in report.page.read_text()
