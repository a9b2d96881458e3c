"""Rows that differ in the optimiser: how they are labelled, and what was published beside them."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from perturbrl.report import published_optimizers
from perturbrl.report.differences import label_runs
from perturbrl.report.recorded import Recorded, flat, full_key, short_key
from perturbrl.run_dirs import Label, Labels


def run(**agent: Any) -> Recorded:
    return Recorded(agent=flat({"agent": {"name": "ppo", "lr": 1e-4, **agent}}))


def labels(*runs: Recorded) -> list[str]:
    chosen = Labels("x", Label("landscape-rna"), Label("paper"), Label("ppo"))
    return [str(made.agent) for made in label_runs([chosen] * len(runs), runs)[0]]


def test_the_choice_is_in_the_label_and_its_settings_are_where_runs_of_one_choice_differ() -> None:
    adam, padam = run(), run(optimizer={"name": "padam", "eps": 1e-5, "partial": 0.125})
    sgd = run(optimizer={"name": "sgd", "momentum": 0.9})
    assert labels(adam, padam, sgd) == ["ppo", "ppo,optimizer=padam", "ppo,optimizer=sgd"]
    other = run(optimizer={"name": "padam", "eps": 1e-5, "partial": 0.25})
    assert labels(padam, other) == ["ppo,optimizer.partial=0.125", "ppo,optimizer.partial=0.25"]
    assert labels(padam, other, sgd)[2] == "ppo,optimizer=sgd"


def test_a_stage_has_its_own() -> None:
    one, two = (run(ppo={"optimizer": {"name": name, "eps": eps}}) for name, eps in (("adam", 1e-3), ("amsgrad", 1e-5)))
    assert labels(one, two) == ["ppo,ppo.optimizer=adam", "ppo,ppo.optimizer=amsgrad"]


@pytest.mark.parametrize("short", ["optimizer", "ppo.optimizer", "optimizer.partial", "lr"])
def test_a_key_of_a_label_has_one_full_key(short: str) -> None:
    assert short_key("agent", full_key("agent", short)) == short


def frame(*optimizers: str, beside: bool = True) -> pd.DataFrame:
    return pd.DataFrame({"optimizer": optimizers, "beside_published": beside})


def test_published_numbers_stand_below_rows_of_their_optimisers_and_say_that_the_task_is_another() -> None:
    (grid,) = published_optimizers.grids(frame("adam", "asgd_adam", "padam"))
    assert [line.label for line in grid.lines] == ["asgd_adam", "adam"]
    first = dict(zip(grid.columns, map(str, grid.lines[0].cells), strict=True))
    assert first["MSE, horizon 20"] == "0.278" and first["accuracy"] == "0.760"
    assert "another task" in grid.note
    assert sum(n for _, n in grid.spans) == len(grid.columns)
    for runs in (frame("adam", "adam"), frame("adam", "padam"), frame("adam", "sgd", beside=False)):
        assert published_optimizers.grids(runs) == ()


def test_what_an_agent_implies_is_not_repeated_in_its_label_unless_a_command_asked_for_it() -> None:
    def of(agent: str, activation: str) -> Recorded:
        values = {"agent": {"name": agent}, "policy": {"activation": activation}}
        return Recorded(agent=flat(values))

    def shown(*pairs: tuple[str, str], overridden: tuple[str, ...] = ()) -> list[str]:
        made = [Labels("x", Label("rna"), Label("paper"), Label(agent)) for agent, _ in pairs]
        return [str(one.agent) for one in label_runs(made, [of(*pair) for pair in pairs], overridden)[0]]

    assert shown(("ppo", "tanh"), ("sac", "relu")) == ["ppo", "sac"]
    both = ["ppo,policy.activation=tanh", "sac,policy.activation=relu"]
    assert shown(("ppo", "tanh"), ("sac", "relu"), overridden=("policy.activation",)) == both
    assert shown(("ppo", "tanh"), ("sac", "relu"), overridden=("policy.name",)) == both
    assert shown(("ppo", "tanh"), ("ppo", "relu")) == ["ppo,policy.activation=tanh", "ppo,policy.activation=relu"]
