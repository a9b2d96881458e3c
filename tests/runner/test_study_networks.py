"""Studies of networks: candidates, parts of the steps, validation and test networks, claims, and a whole small one."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from perturbrl import paths, records
from perturbrl.errors import UserError
from perturbrl.files import read_json, write_json, write_text
from perturbrl.runner import study, study_run
from perturbrl.runner.hydra.compose import compose_job
from perturbrl.runner.study_claims import DECLARED, declare
from perturbrl.runner.study_jobs import final_runs, tuning_runs
from perturbrl.runner.study_run import _rollout_steps, chosen, scores
from perturbrl.runner.study_words import filled, words

from .tiny import SMALL

SMALLER = [o for o in SMALL if not o.startswith(("schedule.", "progress="))]
ROLLOUT = ["rollout_steps=256", "n_envs=8"]
CLAIM = {"first": "both", "second": "ppo", "metric": "return_gain", "task": "main"}
CONTENT: dict[str, Any] = {
    "title": "two arms on two landscapes",
    "seeds": 2,
    "tuning_seeds": [7],
    "steps": 1024,
    "sharpness": 1,
    "budget": ["data=rna", *SMALLER],
    "tasks": {"main": {"overrides": ["env=paper"], "column": "eval/return"}},
    "networks": {
        "tuning": {"landscape": {"overrides": [], "key": "source.seed", "values": [50]}},
        "test": {
            "landscape": {"overrides": [], "key": "source.seed", "values": [1, 2]},
            "noisy": {"overrides": ["source.noise=0.3"], "key": "source.seed", "values": [1]},
        },
    },
    "metrics": {"return_gain": "larger"},
    "rows": ["do_nothing"],
    "claims": {"alpha": 0.05, "tests": [CLAIM]},
    "arms": {
        "ppo": {
            "overrides": ["agent=ppo", "schedule.total={1}", *(f"agent.{each}" for each in ROLLOUT)],
            "candidates": ["agent.lr=1e-4"],
        },
        "both": {
            "overrides": ["agent=staged", *(f"agent.ppo.{each}" for each in ROLLOUT)],
            "candidates": [["agent.stages=[ppo:{0.5}, ppo:{0.5}]", "agent.ppo.epochs=2"]],
        },
    },
    "quick": {"seeds": 1, "networks": 2},
}


def written(folder: Path, **changes: Any) -> str:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(copy.deepcopy(CONTENT) | changes))
    return str(file)


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        ("agent.lr=1e-4", ["agent.lr=1e-4"]),
        (" agent.lr=1e-4  agent.epochs=2 ", ["agent.lr=1e-4", "agent.epochs=2"]),
        ("agent.stages=[trpo:1k, ppo:2k] agent.lr=1", ["agent.stages=[trpo:1k, ppo:2k]", "agent.lr=1"]),
        ("path='a b' seed=1", ["path='a b'", "seed=1"]),
        (["agent.stages=[trpo:1k, ppo:2k]", "path=a b"], ["agent.stages=[trpo:1k, ppo:2k]", "path=a b"]),
        ("x={a: 1, b: 2}", ["x={a: 1, b: 2}"]),
    ],
)
def test_spaces_within_brackets_and_quotes_separate_nothing(candidate: object, expected: list[str]) -> None:
    assert words(candidate, "here") == expected


@pytest.mark.parametrize("candidate", ["x=[1, 2", "x='a", "x=1]", 3, ["x"], [1]])
def test_a_candidate_that_cannot_be_read_is_one_line(candidate: object) -> None:
    with pytest.raises(UserError, match=r"^here: ") as error:
        words(candidate, "here")
    assert "\n" not in str(error.value)


def test_parts_of_the_steps() -> None:
    assert filled("agent.stages=[ppo:{0.25},trpo:{0.75}]", 4096, "s") == "agent.stages=[ppo:1024,trpo:3072]"
    assert filled("schedule.total={2}", 4096, "s") == "schedule.total=8192"
    assert filled("x={a: 1}", None, "s") == "x={a: 1}"  # a mapping of Hydra
    with pytest.raises(UserError, match=r"s: is missing: schedule\.total=\{2\}"):
        filled("schedule.total={2}", None, "s")


def test_a_study_of_networks_is_read_with_shares_and_families(tmp_path: Path) -> None:
    one = study.load(written(tmp_path))
    assert list(one.networks.test) == ["landscape-1", "landscape-2", "noisy-1"] and one.networks.given
    assert one.arms["ppo"].share == 1.0
    finals = list(final_runs(one, chosen(_tuned(one)), (["main"], list(one.networks.test)), tmp_path, []))
    assert len(finals) == 3 * 2 * 2 and len({each.composed.path for each in finals}) == len(finals)
    by_arm = {each.arm: each.composed.job().config for each in finals if each.network == "noisy-1" and each.seed == 1}
    assert by_arm["both"].agent.budgets == [("ppo", 512), ("ppo", 512)] and by_arm["both"].seed == 1
    assert by_arm["ppo"].agent.total_steps == 1024
    assert (by_arm["ppo"].source.noise, by_arm["ppo"].source.seed) == (0.3, 1)
    (trial, *_) = tuning_runs(one, ["main"], tmp_path, [])
    assert (trial.seed, trial.composed.config.source.seed) == (7, 50)


def _tuned(one: study.Study) -> list[study_run.Tuned]:
    return [study_run.Tuned("main", arm, each.spelled[0], 0.0) for arm, each in one.arms.items()]


def test_fewer_networks_are_of_every_family_and_validation_ones_in_proportion(tmp_path: Path) -> None:
    one = study.load(written(tmp_path), quick=True)
    assert list(one.networks.test) == ["landscape-1", "noisy-1"] and list(one.networks.tuning) == ["landscape-50"]
    assert list(study.load(written(tmp_path), less={"networks": 1, "tasks": None}).networks.test) == ["landscape-1"]
    with pytest.raises(UserError, match=r"mine\.tasks"):
        study.load(written(tmp_path), less={"tasks": ["man"]})


def test_scores_are_means_over_validation_networks_and_seeds(tmp_path: Path) -> None:
    networks = copy.deepcopy(CONTENT["networks"])
    networks["tuning"]["landscape"]["values"] = [50, 51]
    one = study.load(written(tmp_path, networks=networks))
    folders = [tmp_path / str(k) for k in range(4)]
    for k, folder in enumerate(folders):
        write_json(folder / paths.RUN, {"status": "complete"})
        pd.DataFrame({"eval/return": [0.0, float(k)]}).to_parquet(folder / paths.PROGRESS)
    assert [each.score for each in scores(one, ["main"], folders)] == [0.5, 2.5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"networks": {"test": {}}}, r"mine\.networks: must have the keys tuning and test"),
        ({"networks": {"tuning": {}, "test": {}}}, r"mine\.networks\.tuning: must be a mapping of families"),
        ({"networks": CONTENT["networks"] | {"tuning": CONTENT["networks"]["test"]}}, r"is a validation network too"),
        ({"networks": None}, r"mine\.claims: needs networks"),
        ({"steps": None}, r"mine\.steps: is missing"),
        ({"claims": {"alpha": 0.05, "tests": [CLAIM | {"first": "bot"}]}}, r"tests\[0\]\.first.*both"),
        ({"claims": {"alpha": 0.05, "tests": [CLAIM | {"metric": "x"}]}}, r"tests\[0\]\.metric"),
        ({"claims": {"alpha": 0.05, "tests": [CLAIM, CLAIM]}}, r"the same test twice"),
        ({"claims": {"alpha": 2, "tests": [CLAIM]}}, r"mine\.claims\.alpha"),
        ({"metrics": {"return_gain": "big"}}, r"mine\.metrics\.return_gain"),
    ],
)
def test_a_wrong_study_of_networks_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        study.load(written(tmp_path, **changes))
    assert "\n" not in str(error.value)


def test_both_spellings_of_a_name_and_a_missing_file(tmp_path: Path) -> None:
    assert study.load("local-optima").name == study.load("local_optima").name == "local_optima"
    with pytest.raises(UserError, match=r"no such file; give a YAML file, or one of the studies agents") as error:
        study.load(str(tmp_path / "none.yaml"))
    assert "Errno" not in str(error.value)
    with pytest.raises(UserError, match="a folder, not a file"):
        (tmp_path / "folder.yaml").mkdir()
        study.load(str(tmp_path / "folder.yaml"))


def test_the_rollout_of_a_staged_agent_is_that_of_its_stages() -> None:
    config = compose_job(
        ["agent=trpo_ppo", "agent.trpo.rollout_steps=4096", "agent.ppo.rollout_steps=4096"], Path(), "t"
    )
    assert _rollout_steps(config.config.agent) == 4096


def test_claims_are_written_down_before_runs_and_stay(tmp_path: Path) -> None:
    claims = study.load(written(tmp_path)).claims
    assert claims is not None
    first = declare(claims, tmp_path / "out")
    more = study.load(written(tmp_path, claims={"alpha": 0.05, "tests": [CLAIM | {"second": "do_nothing"}]})).claims
    assert more is not None and declare(more, tmp_path / "out") == first and more.sha256 != first["sha256"]
    file = tmp_path / "out" / DECLARED
    content = read_json(file)
    content["claims"]["tests"].clear()
    write_text(file, json.dumps(content))
    with pytest.raises(UserError, match="has been changed since it was written"):
        declare(claims, tmp_path / "out")
    write_json(tmp_path / "late" / "final" / "x" / paths.RUN, {})
    assert declare(claims, tmp_path / "late")["claims"]["tests"] == []  # runs came first


def test_a_whole_study_of_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = study.load(written(tmp_path), quick=True)
    page = study_run.run(one, tmp_path / "out", progress="quiet", workers=1)
    folder = page.parent
    record = records.read_json(folder / study_run.CHOSEN)
    assert record["declared"]["claims"]["tests"] == [CLAIM] and record["tuning_runs"] == 2
    values = pd.read_csv(folder / "values.csv")
    assert set(values["arm"]) == {"ppo", "both", "do_nothing"} and set(values.loc[values.steps > 0, "steps"]) == {1024}
    run = next(each for each in record["runs"] if each["arm"] == "both")
    summary = records.read_json(tmp_path / "out" / run["run"] / paths.EVALUATION / paths.SUMMARY)
    at = values[(values.arm == "both") & (values.network == run["network"])]["return_gain"].item()
    assert at == pytest.approx(summary["rows"]["policy"]["return_gain"])
    sharp = pd.read_csv(folder / "sharpness.csv")
    assert len(sharp) == 4 and (sharp["largest"] > sharp["smallest"]).all()
    barriers = pd.read_csv(folder / "barriers.csv")
    assert len(barriers) == 2 * 11 and (barriers["barrier"] >= 0).all()
    log = pd.read_parquet(tmp_path / "out" / run["run"] / paths.PROGRESS)
    at_end = barriers[(barriers.network == run["network"]) & (barriers.t == 0)]["score"].item()
    assert at_end == pytest.approx(
        log["eval/return"].dropna().iloc[-1], rel=1e-4
    )  # where a line begins is the solution
    assert "networks" in page.read_text()

    def never(*_: Any) -> None:
        raise AssertionError("evaluated again")

    monkeypatch.setattr("perturbrl.runner.evaluate.Evaluator.evaluate", never)
    monkeypatch.setattr("perturbrl.runner.study_sharpness.measure", never)
    assert study_run.run(one, tmp_path / "out", progress="quiet", workers=1) == page  # resumes: all is there


def test_the_shipped_study_of_networks_compares_equal_steps_on_enough_networks() -> None:
    one = study.load("local-optima")
    assert len([n for n in one.networks.test.values() if n.family != "published"]) >= 30 and one.plan.seeds >= 20
    assert [int(task.rpartition("_")[2]) for task in one.tasks] == list(range(1, 11))
    shares = {arm: each.share for arm, each in one.arms.items()}
    assert all(share == (2.0 if arm.endswith("_twice") else 1.0) for arm, share in shares.items())
    assert one.plan.steps is not None
    rollouts = [
        one.plan.steps * float(part) / 1024
        for each in one.arms.values()
        for text in each.overrides
        for part in re.findall(r"\{([\d.]+)\}", text)
    ]
    assert all(number == int(number) >= 1 for number in rollouts)  # whole rollouts: nothing is rounded up
