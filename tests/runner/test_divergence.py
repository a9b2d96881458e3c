"""A run that diverges stops, says where, keeps its last good checkpoint and disturbs nobody."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from perturbrl import paths, records, registry
from perturbrl.envs.base import Step
from perturbrl.envs.paper.continuous import PaperEnv, PaperEnvConfig
from perturbrl.report import build_report
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.evaluate import Evaluator, load_policy

from .tiny import ROLLOUT, assert_same_run, checkpoint, cli_run, job, progress, small, status, train

SAID = r"diverged at step {step}: (policy network|log_std|value network|value_loss|entropy) is not finite"


@pytest.fixture
def breaking(monkeypatch):
    """The paper's task, whose rewards or observations become NaN for one run in its n-th rollout."""

    def install(what: str, rollout: int, run: int = 0) -> None:
        class Breaking(PaperEnv):
            def step(self, action, u):
                step = super().step(action, u)
                if self.n_envs > 8:  # of a learning curve or an evaluation
                    return step
                self.steps = getattr(self, "steps", 0) + 1
                if self.steps <= rollout * ROLLOUT // self.n_envs or run >= self.n_runs:
                    return step
                reward, obs = step.reward.clone(), step.obs.clone()
                (reward if what == "reward" else obs)[run] = float("nan")
                return Step(obs, reward, step.terminated, step.truncated, obs)

        entry = registry.Entry("paper", PaperEnvConfig, Breaking)
        monkeypatch.setitem(registry.envs._entries, "paper", entry)

    return install


def finite_checkpoint(run: Path, iteration: int) -> None:
    tensors, about = checkpoint(run)
    assert about["iteration"] == iteration
    for name, tensor in tensors.items():
        if name != "collector/episode/last":  # NaN until an episode has ended
            assert not tensor.is_floating_point() or torch.isfinite(tensor).all(), name


@pytest.mark.parametrize(
    ("agent", "more"),
    [("ppo", ("agent.lr=1e30",)), ("trpo", ("agent.lr=1e38",)), ("trpo_ppo", ("agent.ppo.lr=1e30",))],
)
def test_a_step_size_that_explodes(agent: str, more: tuple[str, ...], tmp_path: Path) -> None:
    mine = job(tmp_path, agent, *more)
    (outcome,) = train(mine)
    iteration = 2 if agent == "trpo_ppo" else 0
    assert outcome.status == status(mine.path) == "diverged"
    assert re.fullmatch(SAID.format(step=ROLLOUT * (iteration + 1)), outcome.message), outcome.message
    assert records.read_json(mine.path / paths.RUN)["message"] == outcome.message
    assert str(outcome) == f"{mine.path}: {outcome.message}"
    finite_checkpoint(mine.path, iteration)
    again = train(mine)[0]
    assert again.status == "skipped" and outcome.message in str(again)


@pytest.mark.parametrize("agent", ["ppo", "trpo"])
@pytest.mark.parametrize("what", ["reward", "obs"])
def test_an_environment_that_breaks(what: str, agent: str, breaking, tmp_path: Path) -> None:
    breaking(what, rollout=2)
    mine = job(tmp_path, agent)
    (outcome,) = train(mine)
    assert re.fullmatch(SAID.format(step=3 * ROLLOUT), outcome.message), outcome.message
    finite_checkpoint(mine.path, 2)
    assert progress(mine.path)["iteration"].tolist() == [0, 1, 2]  # the row of the rollout that broke is kept
    load_policy(mine, load_cells(mine))(torch.zeros(1, 8)).sum().item()


@pytest.mark.parametrize(("agent", "broken"), [("ppo", 1), ("trpo", 0)])
def test_the_rest_of_a_population_goes_on(agent: str, broken: int, breaking, tmp_path: Path) -> None:
    def three(out: Path):
        return [job(out, agent, f"seed={k}") for k in range(3)]

    whole, mine = three(tmp_path / "whole"), three(tmp_path / "mine")
    train(*whole)
    breaking("reward", rollout=1, run=broken)
    outcomes = train(*mine)
    assert [o.status for o in outcomes] == ["diverged" if k == broken else "complete" for k in range(3)]
    finite_checkpoint(mine[broken].path, 1)
    for k in {0, 1, 2} - {broken}:
        assert_same_run(mine[k].path, whole[k].path)


def test_evaluate_and_report_mark_it(run, tmp_path: Path) -> None:
    sweep = ("-m", *small("ppo", "agent.lr=1e-4,1e30", "seed=0,1"), "name=d", "hydra.sweep.dir=out")
    assert run("train", *sweep)[0] == 0
    runs = sorted(file.parent for file in Path("out").rglob(paths.RUN))
    assert sorted(status(r) for r in runs) == ["complete", "complete", "diverged", "diverged"]
    code, _, err = run("evaluate", "out")
    assert (code, err.count("evaluated")) == (0, 4)
    found = build_report(["out"], Path("page"), figures=False)
    (table,) = found.tables
    marks = {"lr=1e_30" in row.label or "lr=1e+30" in row.label: row.mark for row in table.rows if row.agent}
    assert marks == {False: "", True: "diverged (2 of 2 seeds)"}
    assert not found.collection.incomplete
    assert "diverged" in (Path("page") / "tables.md").read_text()
    assert "2 diverged" in found.page.read_text()


@pytest.mark.parametrize("env", ["paper", "paper_discrete"])
def test_it_is_not_scored_by_its_last_good_checkpoint(env: str, tmp_path: Path) -> None:
    mine = job(tmp_path, "ppo", "agent.lr=1e30", f"env={env}")
    train(mine)
    assert status(mine.path) == "diverged"
    Evaluator().evaluate(mine.path)
    summary = records.read_json(mine.path / paths.EVALUATION / paths.SUMMARY)
    assert summary["diverged"] == ["policy"] and summary["status"] == "diverged"
    assert set(summary["rows"]["policy"].values()) == {None}
    assert summary["rows"]["do_nothing"]["accuracy"] == 1.0


def test_one_seed_that_diverged_is_not_in_the_mean(breaking, tmp_path: Path) -> None:
    fine, broken = job(tmp_path, "ppo", "seed=0"), job(tmp_path, "ppo", "seed=1")
    train(fine)
    breaking("reward", rollout=0)
    train(broken)
    Evaluator().evaluate(fine.path)
    (table,) = build_report([tmp_path], tmp_path / "page", figures=False).tables
    (row,) = [row for row in table.rows if row.agent]
    assert (row.n, row.diverged) == (1, 1)  # the one that diverged was not even evaluated


def test_a_whole_population_that_diverges_stops_early(breaking, tmp_path: Path) -> None:
    breaking("obs", rollout=1)
    mine = job(tmp_path, "ppo", "schedule.total=100000")
    assert train(mine)[0].status == "diverged"
    assert len(progress(mine.path)) == 2


@pytest.mark.parametrize("launcher", ["basic", "population"])
def test_a_command_is_no_success_if_every_run_diverged(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = cli_run(capsys)
    workers = ["hydra.launcher.workers=1"] if launcher == "population" else []
    asked = [
        "train",
        "-m",
        *small("ppo", "schedule.total=512", "curve_points=0"),
        f"hydra/launcher={launcher}",
        *workers,
    ]
    both = "every run (2 of 2) diverged"
    code, _, err = run(*asked, "agent.lr=1e30,1e31")
    assert code == 1 and err.splitlines()[-1].startswith(f"error: {both}")
    if launcher == "basic":
        for command in ("evaluate", "report"):
            code, _, err = run(command, "outputs")
            assert code == 1 and both in err.splitlines()[-1], command
        code, _, err = run("train", *small("ppo", "schedule.total=512", "curve_points=0", "agent.lr=1e30"))
        assert code == 1 and err.splitlines()[-1].startswith("error: the run diverged")  # and is not trained again
    assert run(*asked, "agent.lr=1e30,1e-4")[0] == 0
    if launcher == "basic":
        assert [run(command, "outputs")[0] for command in ("evaluate", "report")] == [0, 0]
