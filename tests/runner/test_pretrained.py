"""``agent.pretrained``: a run that starts from the networks of another one."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from perturbrl import files, paths, records
from perturbrl.errors import UserError
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.evaluate import Evaluator, load_policy
from perturbrl.runner.job import Job, load_job

from .tiny import ROLLOUT, assert_same_run, checkpoint, cli_run, job, progress, small, status, train, train_until

SHORT = ("schedule.total=512", "curve_points=0", "checkpoint_seconds=99", "agent.epochs=2")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs, ``seed0`` and ``seed1``."""
    out = tmp_path_factory.mktemp("pretrained")
    runs = [dataclasses.replace(job(out, "ppo", *SHORT, f"seed={k}"), path=out / f"seed{k}") for k in (0, 1)]
    assert {done.status for done in train(*runs)} == {"complete"}
    return out


def lora(out: Path, start: Path | str, *more: str) -> Job:
    made = job(out, "lora", "schedule.total=1024", *SHORT[1:], "source.seed=1", f'agent.pretrained="{start}"', *more)
    return dataclasses.replace(made, path=out / f"seed{made.config.seed}")


def test_each_run_of_a_population_starts_from_its_own(pretrained: Path, tmp_path: Path) -> None:
    together = [lora(tmp_path / "both", pretrained / "seed{seed}", f"seed={k}") for k in (0, 1)]
    assert together[0].signature == together[1].signature
    assert {done.status for done in train(*together)} == {"complete"}
    for k, one in enumerate(together):
        alone = lora(tmp_path / "alone", pretrained / "seed{seed}", f"seed={k}")
        train(alone)
        assert_same_run(one.path, alone.path)
        assert progress(one.path)["stage"].tolist() == ["convex", "nonconvex", "full", "full"]
        tensors = checkpoint(one.path)[0]
        assert torch.equal(tensors["convex/adapters/start"], checkpoint(pretrained / f"seed{k}")[0]["theta"])
        recorded = records.read_json(one.path / paths.RUN)["pretrained"]
        source = pretrained / f"seed{k}"
        assert recorded == {"path": str(source), "sha256": files.sha256(source / paths.CHECKPOINT)}
    assert load_job(together[0].path).hash != load_job(together[1].path).hash  # the seed
    assert "pretrained" not in records.read_json(pretrained / "seed0" / paths.RUN)


@pytest.mark.parametrize("iteration", [1, 2, 3])
def test_it_goes_on_to_the_last_bit_within_and_across_stages(
    iteration: int, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = "agent.convex_share=0.5"
    whole = lora(tmp_path / "whole", pretrained / "seed0", share, "checkpoint_seconds=0")
    train(whole)
    broken = lora(tmp_path / "broken", pretrained / "seed0", share, "checkpoint_seconds=0")
    train_until(broken, iteration, monkeypatch)
    assert checkpoint(broken.path)[1]["iteration"] == iteration
    train(broken)
    assert_same_run(whole.path, broken.path)


def test_the_merged_policy_is_evaluated_like_any_other_without_the_run_it_came_from(
    pretrained: Path, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    shutil.copytree(pretrained / "seed0", gone)
    made = lora(tmp_path, gone, "agent.convex_share=0.5", "agent.nonconvex_share=0.5")  # ends with adapters
    train(made)
    shutil.rmtree(gone)
    Evaluator().evaluate(made.path)
    assert records.read_json(made.path / "evaluation" / "summary.json")["rows"]["policy"]["return"] is not None
    act = load_policy(made, load_cells(made), "float32")
    obs = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    ppo = {k: v for k, v in made.raw["agent"].items() if k in load_job(pretrained / "seed0").raw["agent"]}
    ordinary = dataclasses.replace(made, raw=made.raw | {"agent": ppo | {"name": "ppo"}})
    assert torch.equal(act(obs), load_policy(ordinary, load_cells(made), "float32")(obs))


def refused(made: Job) -> str:
    with pytest.raises(UserError) as error:
        train(made)
    assert "\n" not in str(error.value)
    assert not (made.path / paths.CHECKPOINT).exists()
    return str(error.value)


def test_without_a_pretrained_run_it_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = cli_run(capsys)("train", *small("lora"))
    assert code == 2 and err.splitlines()[-1].startswith("error: agent.pretrained: agent=lora starts from a trained")


def test_what_cannot_be_started_from_is_refused(pretrained: Path, tmp_path: Path) -> None:
    said = refused(lora(tmp_path, tmp_path / "nowhere"))
    assert said.startswith(f"agent.pretrained: {tmp_path}/nowhere is no run directory (it has no run.json)")
    assert "is no run directory" in refused(lora(tmp_path, pretrained))  # a folder of runs
    for key, value, message in (
        ("status", "running", "this run is not finished; give the command that started it again"),
        ("status", "diverged", "this run has diverged; name another one"),
    ):
        copy = tmp_path / value
        shutil.copytree(pretrained / "seed0", copy)
        run = records.read_json(copy / paths.RUN) | {key: value}
        (copy / paths.RUN).write_text(json.dumps(run))
        assert refused(lora(tmp_path, copy)) == f"agent.pretrained: {copy}: {message}" + (
            ", it goes on" if value == "running" else ""
        )
    damaged = tmp_path / "damaged"
    shutil.copytree(pretrained / "seed0", damaged)
    content = bytearray((damaged / paths.CHECKPOINT).read_bytes())
    content[-600] ^= 0x10
    (damaged / paths.CHECKPOINT).write_bytes(content)
    said = refused(lora(tmp_path, damaged))
    assert said.startswith(f"agent.pretrained: {damaged}/{paths.CHECKPOINT}: is damaged (its sha256 is not")
    (damaged / paths.CHECKPOINT).unlink()
    assert "is missing" in refused(lora(tmp_path, damaged))
    (damaged / paths.RUN).write_text("{")
    assert "cannot be read as JSON" in refused(lora(tmp_path, damaged))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("policy.hidden=[16,8]",), r"has policy.hidden=[16, 16], this run [16, 8]; both need the same"),
        (("policy.activation=relu",), "has policy.activation=tanh, this run relu; both need the same"),
        (("policy.net=branches",), "has policy.net=trunk, this run branches; both need the same"),
        (("encoder.components=6",), "has 8 box actions, this task 6 box actions"),
        (("env=paper_discrete",), "has 8 box actions, this task 24 discrete actions"),
        (("encoder=none", "data.n_features.rna=8"), "has other features, or in another order, than these cells"),
    ],
)
def test_networks_that_do_not_fit_are_refused(
    overrides: tuple[str, ...], message: str, pretrained: Path, tmp_path: Path
) -> None:
    said = refused(lora(tmp_path, pretrained / "seed0", *overrides))
    assert said.startswith(f"agent.pretrained: {pretrained}/seed0: ") and message in said


def test_a_run_of_an_older_version_is_compared_by_its_parameters(pretrained: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(pretrained / "seed0", old)
    run = records.read_json(old / paths.RUN)
    del run["interface"]
    (old / paths.RUN).write_text(json.dumps(run))
    n = checkpoint(old)[0]["theta"].shape[1]
    assert f"its networks have {n} parameters and those of this run" in refused(
        lora(tmp_path / "other", old, "encoder.components=6")
    )
    assert [done.status for done in train(lora(tmp_path / "same", old))] == ["complete"]


def test_a_run_whose_start_has_changed_does_not_go_on(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = tmp_path / "start"
    shutil.copytree(pretrained / "seed0", start)
    made = lora(tmp_path / "out", start, "checkpoint_seconds=0")
    train_until(made, 2, monkeypatch)
    shutil.rmtree(start)
    shutil.copytree(pretrained / "seed1", start)
    with pytest.raises(UserError, match=r"agent\.pretrained has been trained again since; add force=true"):
        train(made)
    again = lora(tmp_path / "out", start, "checkpoint_seconds=0", "force=true")
    assert [done.status for done in train(again)] == ["complete"]
    assert torch.equal(checkpoint(made.path)[0]["convex/adapters/start"], checkpoint(start)[0]["theta"])
    assert status(made.path) == "complete" and len(progress(made.path)) * ROLLOUT == 1024
    shutil.rmtree(start)
    assert [done.status for done in train(again)] == ["skipped"]  # a finished run needs it no more
