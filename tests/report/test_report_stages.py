"""Runs of different stages stand in one report under labels that a person can read."""

from __future__ import annotations

import pytest

from perturbrl.report.differences import label_runs
from perturbrl.report.recorded import Recorded
from perturbrl.run_dirs import Label, Labels, stages_label


def run(*stages: str, **lr: float) -> Recorded:
    agent = {"agent.name": "staged", "agent.stages": list(stages)}
    for name in dict.fromkeys(stage.partition(":")[0] for stage in stages):
        steps = sum(int(stage.partition(":")[2]) for stage in stages if stage.startswith(f"{name}:"))
        agent |= {f"agent.{name}.total_steps": steps, f"agent.{name}.lr": lr.get(name, 0.1), f"agent.{name}.clip": 0.2}
    return Recorded(agent=agent)


def labels(*runs: Recorded) -> list[str]:
    made = Labels("x", Label("landscape-rna"), Label("paper"), Label("staged"))
    return [str(one.agent) for one in label_runs([made] * len(runs), runs)[0]]


def test_runs_of_other_stages_are_labelled_by_the_stages() -> None:
    assert labels(run("ppo:30000"), run("trpo:10000", "ppo:20000"), run("trpo:10000")) == [
        "staged,stages=ppo-30k",
        "staged,stages=trpo-10k+ppo-20k",
        "staged,stages=trpo-10k",
    ]


def test_settings_of_a_stage_are_compared_where_it_is() -> None:
    assert labels(run("ppo:3000", ppo=0.2), run("trpo:1024", "ppo:2000"), run("trpo:1024")) == [
        "staged,ppo.lr=0.2,stages=ppo-3k",
        "staged,ppo.lr=0.1,stages=trpo-1024+ppo-2k",
        "staged,stages=trpo-1024",
    ]


@pytest.mark.parametrize(
    ("stages", "label"),
    [
        (["trpo:10000", "ppo:40000"], "trpo-10k+ppo-40k"),
        (["trpo:10k"], "trpo-10k"),
        (["ppo:2048"], "ppo-2048"),
        (["ppo:1M"], "ppo-1M"),
    ],
)
def test_stages_as_a_label(stages: list[str], label: str) -> None:
    assert stages_label(stages) == label
