"""Runs of ``agent=flow``: from training to a table with baselines beside it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from perturbrl import paths, records
from perturbrl.errors import UserError
from perturbrl.evaluate.scoring import scored
from perturbrl.generators.cells import CellGenerator
from perturbrl.metrics_info import HELD_OUT, SIMPLE
from perturbrl.report import build_report
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.evaluate import Evaluator, load_policy
from perturbrl.runner.hydra.compose import compose_job
from perturbrl.runner.job import Job
from perturbrl.runner.runs import load

from .tiny import assert_same_run, checkpoint, progress, small, status, train, train_until

TASK = (
    *("env=counterfactual", "agent=flow", "source.n_cells=1200", "source.n_target_genes=40", "source.n_peaks=4"),
    *("source.n_proteins=4", "source.perturbations=single", "conditions=landscape", "conditions.min_cells=5"),
    *("agent.minibatch=32", "agent.rollout_steps=64", "schedule.total=256", "agent.network.hidden=16"),
    *("agent.network.blocks=1", "agent.network.embedding=8", "agent.sampling.steps=3", "agent.shrinkage=1"),
    *("protocol.n_cells=8", "protocol.curve_cells=4", "protocol.episodes=16", "protocol.score.n_duplicates=1"),
    *("protocol.truth_cells=0", "curve_points=2", "checkpoint_seconds=0", "device=cpu", "progress=quiet"),
)


def job(out: Path, *more: str) -> Job:
    wanted = {o.partition("=")[0]: o for o in (*TASK, *more)}
    return compose_job(list(wanted.values()), out, "tiny")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Job:
    torch.set_num_threads(1)
    one = job(tmp_path_factory.mktemp("finished") / "counterfactual" / "flow" / "seed0")
    assert [o.status for o in train(one)] == ["complete"]
    return one


def test_a_table_has_the_generator_beside_the_baselines_and_its_export_scores_as_the_run_did(finished: Job) -> None:
    evaluator = Evaluator(["protocol.export=true"])
    evaluator.evaluate(finished.path)
    folder = finished.path / paths.EVALUATION
    file = finished.path.parent / "predictions.h5ad"
    (folder / "predictions.h5ad").rename(file)
    evaluator.predictions = file
    evaluator.evaluate(finished.path)
    summary = records.read_json(folder / paths.SUMMARY)
    rows = summary["rows"]
    assert rows.keys() >= {"policy", *SIMPLE} and summary["shrinkage"] == 1.0
    for name in HELD_OUT:
        assert rows["policy"][name] == rows["predictions:predictions"][name], name
    assert rows["policy"]["mean_abs_action"] is None and rows["policy"]["return"] is not None
    page = build_report([finished.path], finished.path.parent / "report").page
    assert "flow" in page.read_text()


def test_the_log_has_the_learning_curve_of_every_agent(finished: Job) -> None:
    frame = progress(finished.path)
    points = frame["eval/pds_cosine"].notna()
    assert points.tolist() == [True, False, False, True] and frame["step"].tolist() == [64, 128, 192, 256]
    for name in ("pearson_delta_pert", "mse", "return", "return_share"):
        assert frame.loc[points, f"eval/{name}"].notna().all(), name
    assert {"loss", "velocity_loss", "grad_norm", "lr"} <= set(frame)


def test_a_stopped_run_goes_on_bit_for_bit(finished: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = job(tmp_path / "mine")
    train_until(mine, 2, monkeypatch)
    assert status(mine.path) == "running" and checkpoint(mine.path)[1]["iteration"] == 2
    assert [outcome.status for outcome in train(mine)] == ["complete"]
    assert_same_run(mine.path, finished.path)


def test_a_run_that_diverges_is_kept_and_scored_without_numbers(tmp_path: Path) -> None:
    mine = job(tmp_path / "mine", "agent.lr=1e30", "agent.weight_decay=1e6", "curve_points=0")
    (outcome,) = train(mine)
    assert outcome.status == "diverged" and "velocity network" in outcome.message
    Evaluator().evaluate(mine.path)
    policy = records.read_json(mine.path / paths.EVALUATION / paths.SUMMARY)["rows"]["policy"]
    assert all(value is None for name, value in policy.items() if name not in ("steps", "wall_seconds"))


def test_a_generator_is_scored_itself_and_has_no_policy(finished: Job) -> None:
    generator = load_policy(finished, load_cells(finished))
    assert isinstance(generator, CellGenerator) and scored(generator) is generator
    assert torch.equal(generator.theta, checkpoint(finished.path)[0]["theta"])
    with pytest.raises(UserError, match="this run generates cells, it has no policy"):
        load(finished.path).policy()


def test_another_task_is_refused_in_one_line(run) -> None:
    words = [word for word in small("flow") if not word.startswith(("agent.n_envs", "agent.rollout_steps"))]
    code, _, err = run("train", *words)
    lines = [line for line in err.splitlines() if line.startswith("error")]
    assert code == 2 and len(lines) == 1, err
    assert "flow generates cells of perturbations, and this task has none; choose env=counterfactual" in lines[0]
