"""The page of a study of networks, from run folders with known scores."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from perturbrl import paths
from perturbrl.files import read_json, write_json
from perturbrl.report.study import build_study
from perturbrl.report.study.figures import _over_tasks
from perturbrl.report.study.paired import means, paired_tests
from perturbrl.report.study.results import read
from perturbrl.stats import holm, sign_flip_test

NETWORKS = {f"{family}-{k}": family for family in ("scale_free", "modular") for k in range(5)}
CLAIMS = [
    {"first": "both", "second": "ppo", "metric": "regret", "task": "mp_1"},
    {"first": "trpo", "second": "ppo", "metric": "share", "task": "mp_1"},
]
ARMS = ("ppo", "trpo", "both")


def regret(arm: str, k: int, seed: int) -> float:
    """Of network k: `both` is better by 0.1 k + 0.05, whatever the seed; seeds differ by 0.01."""
    return 1.0 + 0.3 * k + 0.01 * seed - (0.1 * k + 0.05) * (arm == "both")


def folder(
    tmp_path: Path, declared: Any = CLAIMS, asked: Any = CLAIMS, seeds: int = 2, tasks: Any = ("mp_1",), **changes: Any
) -> Path:
    """Write a study of ten networks, three arms and a few seeds; ``changes`` maps ``arm,network,seed`` to a status."""
    runs = []
    for task, arm in itertools.product(tasks, ARMS):
        for k, network in enumerate(NETWORKS):
            for seed in range(seeds):
                run = f"final/{task}/{network}/{arm}/seed{seed}"
                runs.append({"task": task, "network": network, "arm": arm, "seed": seed, "run": run})
                state = changes.get(f"{arm},{network},{seed}", "complete")
                if state == "absent":
                    continue
                write_json(tmp_path / run / paths.RUN, {"status": state, "steps": 4096})
                policy = {"regret": regret(arm, k, seed), "share": 0.5}
                rows = {"do_nothing": {"regret": 9.0, "share": 0.0}, "greedy": {"regret": 0.2 * k, "share": 0.7}}
                rows |= {"policy": {"regret": None, "share": None} if state == "diverged" else policy}
                write_json(tmp_path / run / paths.EVALUATION / paths.SUMMARY, {"protocol": "fate", "rows": rows})
    metrics = {"regret": "smaller", "share": "larger"}
    about = {
        "study": "mine", "title": "Does it escape?", "seeds": seeds, "tuning_seeds": [100], "tuning_runs": 9,
        "budget": [], "overrides": [], "steps": 4096,
        "chosen": {task: dict.fromkeys(ARMS, "agent.lr=1") for task in tasks},
        "tasks": {task: [] for task in tasks}, "rows": ["greedy"], "metrics": metrics, "runs": runs,
        "arms": {arm: {"overrides": ["agent=x"], "candidates": ["a=1"], "share": 1.0} for arm in ARMS},
        "networks": {"tuning": {"scale_free-50": "scale_free"}, "test": NETWORKS},
        "claims": {"alpha": 0.05, "metrics": metrics, "tests": asked, "sha256": "0" * 64},
        "declared": {"claims": {"alpha": 0.05, "metrics": metrics, "tests": declared}, "sha256": "f" * 64},
    }  # fmt: skip
    write_json(tmp_path / "report" / "study.json", about)
    return tmp_path / "report"


def test_networks_are_the_units_and_seeds_are_averaged_within(tmp_path: Path) -> None:
    results = read(folder(tmp_path))
    table = results.by_network("mp_1", "regret")
    assert list(table.columns) == [*ARMS, "greedy"] and list(table.index) == list(NETWORKS)
    assert table.loc["modular-0", "ppo"] == pytest.approx(np.mean([regret("ppo", 5, seed) for seed in (0, 1)]))
    one, other = paired_tests(results)
    gaps = 0.1 * np.arange(10) + 0.05
    assert (one.n, one.wins, one.losses) == (10, 10, 0)  # ten networks, not twenty runs
    assert one.difference.mean == pytest.approx(gaps.mean())  # smaller regret is better: positive
    assert one.p == sign_flip_test(gaps) and one.made.p == holm([one.p, other.p])[0]
    assert one.word == "better" and one.difference.low > 0
    assert other.word == "no evidence" and other.p == 1.0 and other.difference.mean == 0.0
    assert means(results, "mp_1", "regret")["greedy"].mean == pytest.approx(0.9)


def test_a_claim_that_was_added_later_is_exploratory_and_one_that_was_dropped_stays(tmp_path: Path) -> None:
    tests = paired_tests(read(folder(tmp_path, declared=CLAIMS[1:], asked=CLAIMS[:1])))
    assert [(one.first, one.declared, one.word) for one in tests] == [
        ("trpo", True, "no evidence"),
        ("both", False, "exploratory"),
    ]
    assert "Exploratory: not declared before the runs." in tests[1].sentence and "Holm" not in tests[1].sentence


def test_a_network_without_every_seed_has_no_mean_and_forbids_the_claim(tmp_path: Path) -> None:
    results = read(folder(tmp_path, **{"both,modular-0,1": "absent"}))
    assert np.isnan(results.by_network("mp_1", "regret").loc["modular-0", "both"])
    assert [text.partition(":")[0] for text in results.missing] == ["final/mp_1/modular-0/both/seed1"]
    one = paired_tests(results)[0]
    assert one.word == "no evidence" and one.obstacle == "1 of 10 networks have no result of both" and one.made.p == 1.0


def test_a_run_that_diverged_counts_as_doing_nothing(tmp_path: Path) -> None:
    results = read(folder(tmp_path, **{"ppo,modular-0,0": "diverged"}))
    expected = (9.0 + regret("ppo", 5, 1)) / 2
    assert results.by_network("mp_1", "regret").loc["modular-0", "ppo"] == pytest.approx(expected)


def test_the_optimal_basin_and_the_steps_to_it(tmp_path: Path) -> None:
    where = folder(tmp_path)
    about = read_json(where / "study.json")
    about["claims"]["optimal"] = {"within": 0.05, "column": "eval/return"}
    about["metrics"] |= {"optimal_share": "larger", "steps_to_optimal": "smaller"}
    write_json(where / "study.json", about)
    for seed, (lost, curve) in enumerate([(0.05, [0.2, np.nan, 0.56, 0.4]), (0.06, [0.2, 0.5, 0.54, 0.54])]):
        run = tmp_path / "final" / "mp_1" / "modular-0" / "ppo" / f"seed{seed}"
        rows = {"policy": {"regret": lost}, "optimum": {"return": 0.6, "regret": 0.0}, "greedy": {"regret": 0.2}}
        write_json(run / paths.EVALUATION / paths.SUMMARY, {"protocol": "fate", "rows": rows})
        frame = pd.DataFrame({"step": [1024, 2048, 3072, 4096], "stage": "ppo", "eval/return": curve})
        frame.to_parquet(run / paths.PROGRESS)
    runs = read(where).runs
    mine = runs[(runs["arm"] == "ppo") & (runs["network"] == "modular-0")].sort_values("seed")
    assert mine["optimal_share"].tolist() == [1.0, 0.0]
    assert mine["steps_to_optimal"].tolist() == [3072.0, 4096.0]  # the second never came there: all its steps


def test_few_networks_support_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = dict(list(NETWORKS.items())[:4])
    monkeypatch.setitem(globals(), "NETWORKS", few)
    one = paired_tests(read(folder(tmp_path)))[0]
    assert one.wins == 4 and one.word == "no evidence" and one.obstacle == "too few networks, 4 where it takes 7"


def test_the_page_and_its_files(tmp_path: Path) -> None:
    where = folder(tmp_path)
    report = build_study(where)
    text = report.page.read_text()
    assert all(word in text for word in ("Does it escape?", "f" * 64, "@media print", "prefers-color-scheme: dark"))
    assert "http" not in text.replace("http://www.w3.org", "")  # nothing from outside
    claims = pd.read_csv(where / "claims.csv")
    assert list(claims["conclusion"]) == ["better", "no evidence"] and claims["n"].tolist() == [10, 10]
    networks = pd.read_csv(where / "networks.csv")
    assert len(networks) == 10 * 4 * 2 and set(networks["family"]) == {"scale_free", "modular"}
    assert len(pd.read_csv(where / "values.csv")) == 60 + 10
    assert {file.stem for file in (where / "figures").iterdir()} == {"study-pairs", "study-arms-mp_1"}
    assert report.sentences[0].startswith("better: both is better than ppo in regret on mp_1: +0.500 (95 % interval ")
    before = report.page.read_bytes()
    assert build_study(where).page.read_bytes() == before  # the same numbers, the same page


def test_tasks_whose_names_end_in_numbers_are_an_axis(tmp_path: Path) -> None:
    results = read(folder(tmp_path, tasks=("mp_1", "mp_2", "mp_10"), seeds=1))
    drawn = _over_tasks(results, list(results.about["tasks"]))
    assert drawn is not None and len(drawn.figure.axes) == 2
    bars = drawn.figure.axes[0].containers
    assert len(bars) == len(ARMS) + 1  # and a row without training
    ppo = next(iter(bars))[0]
    assert [round(x) for x in ppo.get_xdata()] == [1, 2, 10]
    assert list(ppo.get_ydata()) == pytest.approx([means(results, "mp_2", "regret")["ppo"].mean] * 3)
