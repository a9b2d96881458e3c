"""``perturbrl reproduce --study``: an equal tuning budget for each arm, then the comparison."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from perturbrl import paths, records, registry
from perturbrl.errors import UserError
from perturbrl.files import write_json
from perturbrl.runner import study, study_run
from perturbrl.runner.study_run import Tuned, chosen, last

from .tiny import SMALL, status

TWO = {"overrides": [], "candidates": ["x=1", "x=2"]}
SMALLER = [o for o in SMALL if not o.startswith(("schedule.", "progress="))]


def written(folder: Path, **changes: Any) -> str:
    """A study of two agents on one task, as small as can be, in a file."""
    content = {
        "title": "two agents",
        "seeds": 2,
        "tuning_seeds": [7],
        "budget": ["schedule.total=1024", "agent.rollout_steps=256", "agent.n_envs=8"],
        "tasks": {"paper": {"overrides": ["data=rna", *SMALLER], "column": "return_mean"}},
        "arms": {
            "ppo": {"overrides": ["agent=ppo"], "candidates": ["agent.lr=1e-4", "agent.lr=1e-2 agent.epochs=2"]},
            "trpo": {"overrides": ["agent=trpo"], "candidates": ["agent.target_kl=0.01", "agent.target_kl=0.1"]},
        },
        "quick": {"seeds": 1, "tuning_seeds": [8], "budget": ["schedule.total=512"]},
    }
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(content | changes))
    return str(file)


def test_candidates_are_tuned_on_other_seeds_and_the_best_is_trained_again(tmp_path: Path) -> None:
    one = study.load(written(tmp_path))
    page = study_run.run(one, tmp_path / "out", progress="quiet", workers=1)
    rows = list(csv.DictReader((page.parent / study_run.TUNING).open()))
    assert [(r["arm"], r["candidate"]) for r in rows] == [(a, c) for a, arm in one.arms.items() for c in arm.candidates]
    for row in rows:  # the mean of the tuning runs, which only have tuning seeds
        (log,) = (tmp_path / "out" / "tuning").rglob(f"{row['arm']},{_folder(row['candidate'])}/seed7/{paths.PROGRESS}")
        assert float(row["mean"]) == pytest.approx(pd.read_parquet(log).return_mean.dropna().iloc[-1])
    for arm in one.arms:
        best = max((r for r in rows if r["arm"] == arm), key=lambda r: float(r["mean"]))
        assert best["chosen"] == "1" and sum(int(r["chosen"]) for r in rows if r["arm"] == arm) == 1
        assert records.read_json(page.parent / study_run.CHOSEN)["chosen"]["paper"][arm] == best["candidate"]
        finals = sorted((tmp_path / "out" / "final").rglob(f"{arm},{_folder(best['candidate'])}/seed*"))
        assert [f.name for f in finals] == ["seed0", "seed1"] and {status(f) for f in finals} == {"complete"}
    text = (page.parent / "tables.md").read_text()
    assert "ppo" in text and "trpo" in text and "Seeds: 2" in text


def _folder(candidate: str) -> str:
    return ",".join(
        f"{key.removeprefix('agent.')}={float(value) if '.' in value or 'e' in value else value}"
        for key, value in sorted(word.split("=") for word in candidate.split())
    )


def test_quick_changes_seeds_and_adds_its_budget(tmp_path: Path) -> None:
    plan = study.load(written(tmp_path), quick=True).plan
    assert (plan.seeds, plan.tuning_seeds) == (1, [8])
    assert plan.budget[0] == "schedule.total=1024" and plan.budget[-1] == "schedule.total=512"
    assert study.load(written(tmp_path), quick=True, seeds=3).plan.seeds == 3


def test_the_shipped_studies_can_be_read() -> None:
    for file in (paths.conf_dir() / "study").glob("*.yaml"):
        one = study.load(file.stem)
        assert one.plan.seeds >= 10 and len(one.arms) >= 3


def test_the_study_in_the_docs_can_be_read(tmp_path: Path, root: Path) -> None:
    blocks = re.findall(r"```yaml\n(title:.*?)```", (root / "docs" / "use.md").read_text(), re.DOTALL)
    (tmp_path / "docs.yaml").write_text(blocks[0])
    assert len(blocks) == 1 and set(study.load(str(tmp_path / "docs.yaml")).arms) == {"usual", "wide"}


def test_ties_go_to_the_first_and_a_diverged_candidate_loses() -> None:
    tuned = [Tuned("t", "a", "x", -math.inf), Tuned("t", "a", "y", 1.0), Tuned("t", "a", "z", 1.0)]
    assert chosen(tuned)["t", "a"].candidate == "y"


def test_last_value_of_a_column(tmp_path: Path) -> None:
    write_json(tmp_path / paths.RUN, {"status": "complete"})
    pd.DataFrame({"good": [1.0, 2.0, math.nan], "empty": [math.nan] * 3}).to_parquet(tmp_path / paths.PROGRESS)
    assert last(tmp_path, "good") == 2.0
    with pytest.raises(UserError, match=r"column empty has no value"):
        last(tmp_path, "empty")
    with pytest.raises(UserError, match=r"no column missing; it has good, empty"):
        last(tmp_path, "missing")
    write_json(tmp_path / paths.RUN, {"status": "diverged"})
    assert last(tmp_path, "good") == -math.inf


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"a": {"overrides": [], "candidates": ["x=1"]}, "b": TWO}}, "differ"),
        ({"tuning_seeds": [1]}, r"\[1\] are final seeds too"),
        ({"tasks": {"t": {"overrides": [], "column": ""}}}, r"mine\.tasks\.t\.column"),
        ({"arms": {"a": {"override": [], "candidates": ["x=1"]}}}, r"mine\.arms\.a"),
        ({"seed": 3}, "unknown key seed"),
        ({"seeds": 0}, "seeds"),
        ({"tasks": ["t"]}, r"mine\.tasks: must be a mapping"),
        ({"tasks": {}}, r"mine\.tasks: must be a mapping"),
        ({"arms": "ppo"}, r"mine\.arms: must be a mapping"),
        ({"arms": {"a": {"overrides": [], "candidates": []}}}, r"mine\.arms\.a\.candidates: must not be empty"),
        ({"tuning_seeds": []}, r"mine\.tuning_seeds: must not be empty"),
        ({"quick": 3}, r"mine\.quick: must be a mapping"),
        ({"quick": {"budget": "schedule.total=1"}}, r"mine\.quick\.budget: .* is not a valid list"),
    ],
)
def test_a_wrong_study_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        study.load(written(tmp_path, **changes), quick="quick" in changes)
    assert "\n" not in str(error.value)


def test_wrong_names_and_overrides_end_with_code_2(run, tmp_path: Path) -> None:
    for words, message in (
        (["--study", "agent"], "agents"),
        (["--study", str(tmp_path / "none.yaml")], "no such file; give a YAML file, or one of the studies agents"),
        (["--study", written(tmp_path), "seed=3"], "give --seeds N"),
    ):
        code, _, err = run("reproduce", *words)
        assert code == 2 and message in err and err.strip().count("\n") == 0


LEFT_OUT = {
    "flow": "generates cells and does not act: for the task counterfactual alone",
    "lora": "starts from another run",
    "ppo_released": "part of ppo_kl",
    "random_search": "learns by no gradient",
    "staged": "is what its stages are",
}


def test_every_agent_is_in_the_study_and_has_a_row_on_its_page(root: Path) -> None:
    arms = study.load("agents").arms
    assert set(arms) | set(LEFT_OUT) == set(registry.agents)
    assert all(f"agent={name}" in arm.overrides for name, arm in arms.items())
    rows = re.findall(r"^\| `(\w+)` \|", (root / "docs" / "agents.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(registry.agents)
    choices = sorted(file.stem for file in (root / "conf" / "agent" / "optimizer").glob("*.yaml"))
    (sentence,) = re.findall(r"`agent\.optimizer=NAME` takes ([^(]*)\(", (root / "docs" / "agents.md").read_text())
    assert set(re.findall(r"`(\w+)`", sentence)) <= set(choices)
