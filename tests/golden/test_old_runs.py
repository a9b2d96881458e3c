"""Run directories that 0.1.0 made can still be evaluated, reported and resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from perturbrl.files import read_json
from perturbrl.metrics_info import DUPLICATES

from . import store
from .describe import describe
from .sweep import command_line

FIXTURE = Path(__file__).parents[1] / "fixtures" / "runs_0_1_0"
PARTS = ("trpo", "ppo")
# the command that was interrupted
RESUME = (
    *("env=paper", "data=joint", "encoder=pca", "encoder.components=4", "env.horizon=10"),
    *("protocol.return_episodes=8", "protocol.search_episodes=8", "source.n_cells=200", "source.n_target_genes=20"),
    *("source.n_peaks=20", "source.n_proteins=4", "policy.hidden=[8]"),
    *("schedule.total=192", "schedule.trpo=64", "schedule.ppo=128", "curve_points=2", "checkpoint_seconds=0"),
    *("device=cpu", "progress=quiet", "agent=trpo_ppo", "name=interrupted"),
    *(f"agent.{p}.{key}" for p in PARTS for key in ("rollout_steps=64", "n_envs=8", "minibatch=32", "lr=3e-3")),
)


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(FIXTURE, tmp_path / "outputs")
    return tmp_path / "outputs"


# Emission and the tested genes have changed since 0.1.0, and with them what is measured on cells.
OF_CELLS = ("de_jaccard", "de_mcc", "direction_fidelity", "auprc_de", "energy_ratio")


def scores(outputs: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Run -> row -> metric -> value, of what is evaluated."""
    files = (outputs / "tiny").rglob("summary.json")
    return {str(f.parents[1].relative_to(outputs / "tiny")): read_json(f)["rows"] for f in files}


def folders(outputs: Path, name: str) -> list[Path]:
    return sorted(file.parent for file in (outputs / name).rglob("run.json"))


def test_an_evaluation_gives_the_scores_that_0_1_0_wrote(outputs: Path) -> None:
    recorded, summaries = describe(outputs / "tiny")[0], scores(outputs)
    evaluated = [f for f in folders(outputs, "tiny") if (f / "evaluation").exists()]
    for folder in evaluated:
        shutil.rmtree(folder / "evaluation")
    command_line("evaluate", "outputs/tiny")
    found, again = describe(outputs / "tiny")[0], scores(outputs)
    names = {str(folder.relative_to(outputs / "tiny")) for folder in evaluated}
    assert (len(names), len(found)) == (4, 5)
    paper = {name for name in names if "/counterfactual" not in name}
    (held_out,) = names - paper
    assert not store.differences({n: recorded[n] for n in paper}, {n: found[n] for n in paper})
    compared = 0
    for row in summaries[held_out].keys() - set(DUPLICATES):
        for metric, value in summaries[held_out][row].items():
            if metric.rpartition("/")[2] not in (*OF_CELLS, "wall_seconds"):
                now = again[held_out][row][metric]
                assert now == (None if value is None else pytest.approx(value, rel=1e-6, abs=1e-9)), (row, metric)
                compared += 1
    assert compared > 500
    (other,) = found.keys() - names
    assert any(leaf.startswith("evaluation/summary.json: policy.") for leaf in found[other])


def test_a_report_shows_them(outputs: Path) -> None:
    command_line("report", "outputs", "--out", "report")
    values = pd.read_csv("report/values.csv", float_precision="round_trip")
    assert values.groupby(["env", "agent"]).seed.nunique().to_dict() == {
        ("counterfactual", "ppo"): 1,
        ("paper", "ppo"): 2,
        ("paper", "trpo_ppo"): 1,
    }
    for folder in folders(outputs, "tiny"):
        rows = values[
            (values["run"] == folder.relative_to(outputs).as_posix()) & (values["row"] == "policy")
        ].set_index("metric")["value"]
        summary = folder / "evaluation" / "summary.json"
        if not summary.exists():
            assert rows.empty
            continue
        written = json.loads(summary.read_text())["rows"]["policy"]
        assert len(rows) == len(written) > 10
        assert all(rows[metric] == value for metric, value in written.items() if value is not None)
    page = Path("report/report.html").read_text(encoding="utf-8")
    assert "not evaluated" in page and "interrupted" in page


def test_an_interrupted_run_goes_on_to_the_end_that_0_1_0_reached(outputs: Path) -> None:
    (cut,) = folders(outputs, "interrupted")
    before = pd.read_parquet(cut / "progress.parquet")
    assert len(before) == 2 and json.loads((cut / "run.json").read_text())["status"] == "running"
    command_line("train", *RESUME)
    assert folders(outputs, "interrupted") == [cut]
    after = pd.read_parquet(cut / "progress.parquet")
    assert list(after.seconds[:2]) == list(before.seconds)  # it went on, it did not begin again
    whole = next(f for f in folders(outputs, "tiny") if "trpo_ppo" in str(f) and f.name == "seed0")
    ends = []
    for folder in (whole, cut):
        shutil.rmtree(folder / "evaluation", ignore_errors=True)
        ((_, leaves),) = describe(folder)[0].items()
        about = ("run.json: name", "run.json: population", "run.json: kernels")
        ends.append({leaf: value for leaf, value in leaves.items() if leaf not in about})
    assert ends[1]["run.json: status"] == "complete"
    assert not store.differences({"run": ends[0]}, {"run": ends[1]})
