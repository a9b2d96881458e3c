"""``perturbrl data split`` writes a split, and training from the file is training with the split that is drawn."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from fakes.screens import made_raw
from runner.tiny import cli_run

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return cli_run(capsys)


@pytest.fixture
def screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    raw = made_raw()
    var = pd.DataFrame(index=raw.modalities["rna"].features)
    anndata.AnnData(raw.modalities["rna"].x, obs=raw.obs, var=var).write_h5ad(tmp_path / "screen.h5ad")
    return tmp_path / "screen.h5ad"


def test_the_round_trip_gives_the_same_split(run: Run, screen: Path) -> None:
    given = ("source=file", f"path={screen}", "split=unseen_single", "split.seed=3")
    code, out, error = run("data", "split", "--out", "new/split.json", *given)
    assert code == 0, error
    assert "held out for the test: perturbations " in out and "split.file=new/split.json" in out
    assert re.search(r"^test: conditions \d+, cells \d+, controls \d+$", out, re.MULTILINE)
    content = json.loads(Path("new/split.json").read_text())
    budget = ("schedule.total=64", "agent.rollout_steps=64", "agent.n_envs=8", "curve_points=0", "policy.hidden=[8]")
    trained = []
    for name, more in (("drawn", ()), ("read", ("split.file=new/split.json",))):
        code, out, error = run("train", "env=counterfactual", *given, *budget, f"name={name}", *more)
        assert code == 0, error
        [file] = Path("outputs", name).rglob("progress.parquet")
        trained.append(pd.read_parquet(file).drop(columns="seconds"))
        if name == "read":
            code, _, error = run("evaluate", str(file.parent), "protocol.n_cells=4", "protocol.episodes=8")
            assert code == 0, error
            summary = json.loads((file.parent / "evaluation/summary.json").read_text())
            assert summary["split"]["sha256"] == content["sha256"]
    pd.testing.assert_frame_equal(*trained)
    assert np.isfinite(trained[0]["return_mean"]).all()


def test_a_file_is_never_overwritten_by_another_split(run: Run, screen: Path) -> None:
    given = ("source=file", f"path={screen}", "split=unseen_single")
    assert run("data", "split", "--out", "split.json", *given)[0] == 0
    before = Path("split.json").read_bytes()
    assert run("data", "split", "--out", "split.json", *given)[0] == 0  # the same split
    code, _, error = run("data", "split", "--out", "split.json", *given, "split.seed=1")
    assert code == 2 and "--out split.json: holds something else" in error
    assert Path("split.json").read_bytes() == before


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("env=paper",), "split=cells: holds out cells, and has no file"),
        (("split=unseen_single", "split.file=there.json"), "leave the key out to draw one, which --out writes"),
        (("split=unseen_dose",), "what can be drawn: "),
        (("split=nothing",), "split"),
    ],
)
def test_mistakes_are_one_line(run: Run, screen: Path, more: tuple[str, ...], said: str) -> None:
    code, _, error = run("data", "split", "--out", "split.json", "source=file", f"path={screen}", *more)
    assert code == 2 and said in error and "Traceback" not in error
    assert not Path("split.json").exists()


def test_an_older_name_of_a_key_works_and_is_told(run: Run, screen: Path) -> None:
    given = ("env=counterfactual", "source=file", f"path={screen}", "split=unseen_single", "policy.hidden=[8]")
    budget = ("schedule.total=64", "agent.rollout_steps=64", "agent.n_envs=8", "curve_points=0")
    said = "conditions.perturbation=perturbation: the key is called source.perturbation_key now"
    finals = []
    for name, word in (
        ("old", "conditions.perturbation=perturbation"),
        ("new", "source.perturbation_key=perturbation"),
    ):
        code, out, error = run("train", *given, *budget, word, f"name={name}", "progress=plain")
        assert code == 0, error
        assert (said in out + error) is (name == "old")
        [file] = Path("outputs", name).rglob("progress.parquet")
        finals.append(pd.read_parquet(file).drop(columns="seconds"))
    pd.testing.assert_frame_equal(*finals)  # one thing under two names


def test_two_names_of_one_key_with_two_values_are_refused(run: Run, screen: Path) -> None:
    given = ("env=counterfactual", "source=file", f"path={screen}", "split=unseen_single", "progress=quiet")
    code, _, error = run("train", *given, "conditions.perturbation=perturbation", "source.perturbation_key=other")
    assert (code, error.count("\n")) == (2, 1)
    assert "source.perturbation_key: 'other' and conditions.perturbation='perturbation' name one thing" in error
