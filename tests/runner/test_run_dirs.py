"""What a run directory holds, and what is refused, skipped or done again."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
from collections import namedtuple
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from perturbrl import paths, records
from perturbrl.errors import UserError
from perturbrl.records import RunDir
from perturbrl.runner.evaluate import Evaluator
from perturbrl.runner.job import load_job
from perturbrl.runner.naming import run_labels, run_path

from .tiny import QUIET, checkpoint, job, progress, small, status, train


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A complete run; tests copy it before they spoil it."""
    made = job(tmp_path_factory.mktemp("done"))
    train(made)
    return made


@pytest.fixture
def copy(done, tmp_path: Path):
    mine = dataclasses.replace(done, path=tmp_path / "run")
    shutil.copytree(done.path, mine.path)
    return mine


def unfinished(run: Path) -> None:
    said = records.read_json(run / paths.RUN)
    records.write_json(run / paths.RUN, said | {"status": "running"})


def one_line(err: str) -> bool:
    return err.startswith("error: ") and err.count("\n") == 1


def test_a_run_directory_says_what_was_done(done) -> None:
    said = records.read_json(done.path / paths.RUN)
    assert said["status"] == "complete"
    assert said["config_hash"] == done.hash
    assert (said["agent"], said["env"], said["source"], said["data"]) == ("ppo", "paper", "landscape", "rna")
    assert (said["seed"], said["steps"], said["device"]) == (0, 1024, "cpu")
    assert said["wall_seconds"] > 0
    assert len(said["data_checksum"]) == 64
    assert {"perturbrl", "torch", "numpy"} <= set(said["versions"])
    frame = progress(done.path)
    assert frame["step"].tolist() == [256, 512, 768, 1024]
    scored = frame["eval/accuracy"].notna()
    assert scored.tolist()[0] and scored.tolist()[-1] and 2 <= scored.sum() <= 3
    assert frame.loc[scored, "eval/return"].notna().all()


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("agent.lr=1e-05", "env.max_perturb=4", "seed=7"),
        ("agent.lr=1e30", "agent.target_kl=0.1"),
        ("data=joint", "data.n_features.atac=20", "policy.net=branches"),
        ("source=pbmc68k_reduced",),
        ("encoder=none", "data.target_sum=null", "protocol.n_cells=all"),
    ],
)
def test_the_config_on_disk_is_the_config_that_ran(more, tmp_path: Path) -> None:
    extra = more
    if more and more[0] == "source=pbmc68k_reduced":
        mine = _other_source(tmp_path)
    else:
        mine = job(tmp_path, "ppo", *extra)
    records.write_text(mine.path / paths.CONFIG, _dumped(mine))
    back = load_job(mine.path)
    assert back.hash == mine.hash
    assert back.config == mine.config
    assert back.signature == mine.signature


def _other_source(out: Path):
    from perturbrl.runner.hydra.compose import compose_job

    return compose_job([o for o in small() if not o.startswith("source.")] + ["source=pbmc68k_reduced"], out, "tiny")


def _dumped(mine) -> str:
    import yaml

    return yaml.safe_dump(mine.raw, sort_keys=False)


def test_the_trained_config_is_read_back(done) -> None:
    assert load_job(done.path).hash == done.hash


def test_a_complete_run_is_skipped_and_untouched(copy) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in copy.path.iterdir()}
    (outcome,) = train(copy)
    assert (outcome.status, str(outcome)) == ("skipped", f"{copy.path}: skipped: already complete")
    assert {file.name: file.stat().st_mtime_ns for file in copy.path.iterdir() if file.name != ".lock"} == {
        name: time for name, time in before.items() if name != ".lock"
    }


def test_another_config_in_the_same_folder(copy, run) -> None:
    here = f"hydra.run.dir={copy.path}"
    code, _, err = run("train", *small("ppo", "agent.lr=3e-3"), "name=tiny", here)
    assert code == 2 and one_line(err)
    assert "another config" in err and str(copy.path) in err and "force=true" in err
    tensors = checkpoint(copy.path)[0]["theta"]
    assert run("train", *small("ppo", "agent.lr=3e-3"), "name=tiny", here, "force=true")[0] == 0
    assert records.read_json(copy.path / paths.RUN)["config_hash"] != copy.hash
    assert not tensors.equal(checkpoint(copy.path)[0]["theta"])


def test_force_removes_what_the_other_config_left(copy) -> None:
    Evaluator().evaluate(copy.path)
    assert (copy.path / paths.EVALUATION).exists()
    other = job(Path(), "ppo", "agent.lr=3e-3", "force=true")
    train(dataclasses.replace(other, path=copy.path))
    assert not (copy.path / paths.EVALUATION).exists()
    assert status(copy.path) == "complete"


def test_force_does_not_repeat_what_is_done(copy) -> None:
    forced = dataclasses.replace(job(Path(), "ppo", "force=true"), path=copy.path)
    assert train(forced)[0].status == "skipped"


def cells_file(file: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame({"pseudotime": rng.random(120)}, index=[f"c{i}" for i in range(120)])
    ad.AnnData(rng.poisson(2.0, (120, 30)).astype(np.float32), obs=obs).write_h5ad(file)
    return file


def file_job(out: Path, file: Path, *more: str):
    from perturbrl.runner.hydra.compose import compose_job

    asked = [o for o in small("ppo", "source=file", *more) if not o.startswith("source.")]
    return compose_job([*asked, f"path={file}", "data.pseudotime=obs"], out, "tiny")


def test_data_that_have_changed_are_noticed_and_force_trains_anew(tmp_path: Path) -> None:
    file = cells_file(tmp_path / "cells.h5ad", 0)
    mine = file_job(tmp_path / "out", file)
    train(mine)
    first = records.read_json(mine.path / paths.RUN)["data_checksum"]
    cells_file(file, 1)
    with pytest.raises(UserError, match="data have changed.*force=true"):
        Evaluator().evaluate(mine.path)
    unfinished(mine.path)
    with pytest.raises(UserError, match="data have changed.*force=true"):
        train(mine)
    forced = file_job(tmp_path / "out", file, "force=true")
    assert forced.path == mine.path
    assert train(forced)[0].status == "complete"
    assert records.read_json(mine.path / paths.RUN)["data_checksum"] != first
    Evaluator().evaluate(mine.path)
    assert train(forced)[0].status == "skipped"


@pytest.mark.parametrize("spoil", ["cut", "empty", "text"])
def test_a_damaged_checkpoint_is_named(spoil: str, copy, run) -> None:
    file = copy.path / paths.CHECKPOINT
    whole = file.read_bytes()
    file.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"not tensors at all" * 10}[spoil])
    unfinished(copy.path)
    code, _, err = run("train", *small(), "name=tiny", f"hydra.run.dir={copy.path}")
    assert code == 2 and one_line(err)
    assert str(file) in err and "delete" in err
    records.write_json(copy.path / paths.RUN, records.read_json(copy.path / paths.RUN) | {"status": "complete"})
    code, _, err = run("evaluate", str(copy.path))
    assert code == 1 and str(file) in err.splitlines()[0]
    file.unlink()
    unfinished(copy.path)
    assert run("train", *small(), "name=tiny", f"hydra.run.dir={copy.path}")[0] == 0


@pytest.mark.parametrize("spoil", ["cut", "gone"])
def test_a_damaged_log_is_named(spoil: str, copy, run) -> None:
    file = copy.path / paths.PROGRESS
    file.write_bytes(file.read_bytes()[:100])
    if spoil == "gone":
        file.unlink()
    unfinished(copy.path)
    code, _, err = run("train", *small(), "name=tiny", f"hydra.run.dir={copy.path}")
    assert code == 2 and one_line(err)
    assert str(file) in err


def test_a_damaged_verdict_is_named(copy, run) -> None:
    (copy.path / paths.RUN).write_text("{")
    code, _, err = run("train", *small(), "name=tiny", f"hydra.run.dir={copy.path}")
    assert code == 2 and one_line(err)
    assert str(copy.path / paths.RUN) in err


def test_two_processes_on_one_run_directory(tmp_path: Path, run) -> None:
    context = multiprocessing.get_context("fork")
    holds, may_end = context.Event(), context.Event()
    folder = tmp_path / "run"

    def hold() -> None:
        with RunDir(folder).locked():
            holds.set()
            may_end.wait(60)

    other = context.Process(target=hold)
    other.start()
    assert holds.wait(60)
    command = ("train", *small(), "name=tiny", f"hydra.run.dir={folder}")
    code, _, err = run(*command)
    assert code == 2 and one_line(err)
    assert str(folder) in err and "another process" in err
    assert not (folder / paths.RUN).exists()
    may_end.set()
    other.join(60)
    assert run(*command)[0] == 0
    assert status(folder) == "complete"


def test_outputs_that_cannot_be_written(run, tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file stands where the folder should be")
    code, _, err = run("train", *small(), "name=tiny")
    assert code == 2 and one_line(err)
    assert "outputs" in err and "cannot be written" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_outputs(run, tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir(mode=0o500)
    code, _, err = run("train", *small(), "name=tiny")
    assert code == 2 and one_line(err)
    assert "cannot be written" in err


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that nobody can write to")
def test_a_file_system_that_is_read_only_for_all(run) -> None:
    code, _, err = run("train", *small(), "name=tiny", "hydra.run.dir=/proc/nowhere/run")
    assert code == 2 and one_line(err)
    assert "/proc/nowhere" in err


def test_a_full_disk_is_said_before_anything_is_done(run, tmp_path: Path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 2**20, 2**20))
    code, _, err = run("train", *small(), "name=tiny")
    assert code == 2 and one_line(err)
    assert "disk has 1 MB left" in err
    assert not list(tmp_path.rglob(paths.RUN))


def test_long_command_lines_give_names_that_a_disk_can_hold(tmp_path: Path) -> None:
    many = [f"agent.key_number_{k}=0.123456" for k in range(30)]
    choices = {"source": "landscape", "data": "rna", "env": "paper", "agent": "ppo"}
    one = run_path(run_labels(choices, many, "x"), 0)
    two = run_path(run_labels(choices, [*many[:-1], "agent.key_number_29=0.2"], "x"), 0)
    assert one != two
    assert all(len(part.encode()) <= 255 for part in one.parts)
    assert one.parts[3].startswith("ppo,")
    (tmp_path / one).mkdir(parents=True)


def test_folders_tell_sweeps_apart() -> None:
    choices = {"source": "landscape", "data": "rna", "env": "paper", "agent": "ppo"}

    def path(*overrides: str) -> str:
        return str(run_path(run_labels(choices, list(overrides), "runs"), 3))

    assert path() == "runs/landscape-rna/paper/ppo/seed3"
    assert path("env.max_perturb=4", "agent.lr=3e-4") == "runs/landscape-rna/paper,max_perturb=4/ppo,lr=0.0003/seed3"
    assert path("agent.lr=3e-4") == path("agent.lr=0.0003") != path("agent.lr=3e-5")  # Hydra's sweeps write the second
    assert path("policy.hidden=[16,16]", "agent.kl=summed").endswith("/ppo,kl=summed,policy.hidden=_16_16_/seed3")
    assert path("agent.lr=1", "env.clip=2") == path("env.clip=2", "agent.lr=1")
    assert path("device=cpu", "threads=2", "progress=quiet", "force=true", "name=runs") == path()
    assert path("encoder=pca", "split.seed=1") == "runs/landscape-rna,encoder=pca,split.seed=1/paper/ppo/seed3"


def test_quiet_and_plain(run, done) -> None:
    quiet = run("train", *small(), "name=quiet")
    plain = run("train", *small("ppo", "progress=plain"), "name=plain")
    assert quiet == (0, "", "")
    assert plain[0] == 0 and "1,024 of 1,024 steps" in plain[2] and "steps/s" in plain[2] and "return" in plain[2]
    assert QUIET.mode == "quiet"
    assert json.loads(Path(next(Path("outputs/plain").rglob(paths.RUN))).read_text())["status"] == "complete"
