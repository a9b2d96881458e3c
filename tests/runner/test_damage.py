"""Files of runs that are cut, flipped or gone: one line each, a remedy that works, and no other run stops."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import resource
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from perturbrl import paths, records
from perturbrl.errors import UserError
from perturbrl.records import RunDir
from perturbrl.runner.evaluate import Evaluator
from perturbrl.runner.job import Job

from .tiny import assert_same_run, job, small, status, train

SUMMARY = f"{paths.EVALUATION}/{paths.SUMMARY}"


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Job:
    made = job(tmp_path_factory.mktemp("done"))
    train(made)
    Evaluator().evaluate(made.path)
    return made


@pytest.fixture
def copy(done, tmp_path: Path) -> Job:
    mine = dataclasses.replace(done, path=tmp_path / "runs" / "damaged")
    shutil.copytree(done.path, mine.path)
    return mine


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    """Flip bits in the last part of a file, where a checkpoint has its tensors (``theta`` comes last)."""
    content = bytearray(file.read_bytes())
    for at in range(len(content) - 600, len(content) - 500):
        content[at] ^= 0x10
    file.write_bytes(content)


def remove(file: Path) -> None:
    file.unlink()


def train_again(run, copy: Job, *more: str) -> tuple[int, str, str]:
    return run("train", *small(), "name=tiny", f"hydra.run.dir={copy.path}", "progress=plain", *more)


def one_error(err: str) -> str:
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("spoil", [cut, flip, remove])
def test_a_checkpoint_of_a_finished_run(spoil: Callable[[Path], None], copy, run, done) -> None:
    file = copy.path / paths.CHECKPOINT
    spoil(file)
    code, _, err = run("evaluate", str(copy.path))
    assert code == 1 and str(file) in err.splitlines()[0] and "force=true" in err.splitlines()[0]
    code, _, err = train_again(run, copy)
    assert code == 2 and str(file) in one_error(err) and "force=true" in err
    code, _, err = train_again(run, copy, "force=true")
    assert code == 0 and err.splitlines()[-1] == f"{copy.path}: done"
    assert_same_run(copy.path, done.path)
    assert run("evaluate", str(copy.path))[0] == 0


def test_the_other_remedy_is_to_delete_the_folder(copy, run, done) -> None:
    flip(copy.path / paths.CHECKPOINT)
    shutil.rmtree(copy.path)
    assert train_again(run, copy)[0] == 0
    assert_same_run(copy.path, done.path)


@pytest.mark.parametrize("spoil", [cut, remove])
def test_a_log_of_a_finished_run(spoil: Callable[[Path], None], copy, run, done, no_figures) -> None:
    file = copy.path / paths.PROGRESS
    spoil(file)
    code, out, err = run("report", str(copy.path))
    assert code == 1 and str(copy.path) in one_error(err) and paths.PROGRESS in err and "force=true" in err
    assert (copy.path / "report" / "report.html").exists() and "ppo" in out
    code, _, err = train_again(run, copy)
    assert code == 2 and str(file) in one_error(err) and "force=true" in err
    assert train_again(run, copy, "force=true")[0] == 0
    assert_same_run(copy.path, done.path)
    assert run("evaluate", str(copy.path))[0] == 0 and run("report", str(copy.path))[0] == 0


@pytest.mark.parametrize("spoil", [cut, remove, lambda file: file.write_text("seed: 0\n")])
def test_a_config_of_a_finished_run(spoil: Callable[[Path], None], copy, run) -> None:
    file = copy.path / paths.CONFIG
    whole, checkpoint = file.read_text(), (copy.path / paths.CHECKPOINT).stat().st_mtime_ns
    spoil(file)
    code, _, err = run("evaluate", str(copy.path))
    first = err.splitlines()[0]
    assert code == 1 and str(file) in first and "writes it anew" in first
    code, _, err = train_again(run, copy)
    assert code == 0 and "skipped" in err and f"{file}: was missing or damaged, written anew" in err
    assert (copy.path / paths.CHECKPOINT).stat().st_mtime_ns == checkpoint
    assert RunDir(copy.path).run["config_hash"] == copy.hash and file.read_text().count("\n") == whole.count("\n")
    assert run("evaluate", str(copy.path))[0] == 0


def test_a_config_that_was_changed_is_noticed(copy, run) -> None:
    file = copy.path / paths.CONFIG
    file.write_text(file.read_text().replace("horizon: 20", "horizon: 21"))
    with pytest.warns(UserWarning, match="has been changed since the run was trained"):
        run("evaluate", str(copy.path))


@pytest.mark.parametrize("force", [(), ("force=true",)])
def test_a_verdict_that_is_cut(force: tuple[str, ...], copy, run, done, no_figures) -> None:
    file = copy.path / paths.RUN
    cut(file)
    for command in (("evaluate",), ("report",)):
        code, _, err = run(*command, str(copy.path))
        assert code in (1, 2) and str(file.parent) in err and "delete it" in err and "goes on" in err
    if not force:
        code, _, err = train_again(run, copy)
        assert code == 2 and str(file) in one_error(err) and "delete it" in err
        file.unlink()
    assert train_again(run, copy, *force)[0] == 0
    assert status(copy.path) == "complete"
    assert_same_run(copy.path, done.path)
    assert run("evaluate", str(copy.path))[0] == 0


def test_a_verdict_with_a_key_missing(copy, run) -> None:
    said = records.read_json(copy.path / paths.RUN)
    del said["data_checksum"]
    records.write_json(copy.path / paths.RUN, said)
    code, _, err = run("evaluate", str(copy.path))
    assert code == 1 and "data_checksum" in err.splitlines()[0] and "delete it" in err
    (copy.path / paths.RUN).unlink()
    assert train_again(run, copy)[0] == 0 and run("evaluate", str(copy.path))[0] == 0


@pytest.mark.parametrize("name", [SUMMARY, f"{paths.EVALUATION}/{paths.PER_FEATURE}"])
@pytest.mark.parametrize("spoil", [cut, flip])
def test_an_evaluation(name: str, spoil: Callable[[Path], None], copy, run, no_figures) -> None:
    before = (copy.path / SUMMARY).read_text()
    spoil(copy.path / name)
    code, _, err = run("report", str(copy.path))
    assert code == 2 and f"perturbrl evaluate {copy.path}" in one_error(err)
    assert run("evaluate", str(copy.path))[0] == 0 and run("report", str(copy.path))[0] == 0
    assert (copy.path / SUMMARY).read_text() == before


@pytest.mark.parametrize("spoil", [cut, flip])
def test_a_checkpoint_of_an_interrupted_run(spoil: Callable[[Path], None], copy, run, done) -> None:
    said = records.read_json(copy.path / paths.RUN)
    del said["digests"]
    records.write_json(copy.path / paths.RUN, said | {"status": "running"})
    file = copy.path / paths.CHECKPOINT
    spoil(file)
    code, _, err = train_again(run, copy)
    assert code == 2 and str(file) in one_error(err) and "force=true" in err
    assert train_again(run, copy, "force=true")[0] == 0
    assert_same_run(copy.path, done.path)


def as_by_version_010(folder: Path) -> None:
    said = records.read_json(folder / paths.RUN)
    del said["digests"]
    records.write_json(folder / paths.RUN, said)
    (folder / paths.EVALUATION / paths.DIGESTS).unlink()
    with safe_open(folder / paths.CHECKPOINT, framework="pt") as file:
        about = json.loads(file.metadata()["about"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del about["sha256"]
    save_file(tensors, folder / paths.CHECKPOINT, metadata={"about": json.dumps(about)})


def test_runs_without_digests_are_used_as_before(copy, run, no_figures) -> None:
    before = (copy.path / SUMMARY).read_text()
    as_by_version_010(copy.path)
    assert run("report", str(copy.path))[0] == 0
    code, _, err = train_again(run, copy)
    assert code == 0 and "skipped: already complete" in err
    assert run("evaluate", str(copy.path))[0] == 0
    assert (copy.path / SUMMARY).read_text() == before


@pytest.mark.parametrize("name", [paths.CHECKPOINT, paths.PROGRESS])
def test_runs_without_digests_that_are_cut(name: str, copy, run) -> None:
    as_by_version_010(copy.path)
    cut(copy.path / name)
    code, _, err = train_again(run, copy)
    assert code == 2 and str(copy.path / name) in one_error(err) and "force=true" in err
    assert train_again(run, copy, "force=true")[0] == 0


def drop_a_key(file: Path) -> None:
    said = records.read_json(file)
    records.write_json(file, {key: value for key, value in said.items() if key != "steps"})


DAMAGES = {
    "checkpoint": (paths.CHECKPOINT, flip),
    "gone": (paths.CHECKPOINT, remove),
    "config": (paths.CONFIG, cut),
    "empty": (paths.CONFIG, lambda file: file.write_text("")),
    "verdict": (paths.RUN, cut),
    "list": (paths.RUN, lambda file: file.write_text("[1, 2]")),
    "key": (paths.RUN, drop_a_key),
}


def test_damaged_runs_stop_no_other(done, tmp_path, run, no_figures) -> None:
    for name in (*DAMAGES, "a-whole", "z-whole"):
        shutil.copytree(done.path, tmp_path / "out" / name)
        shutil.rmtree(tmp_path / "out" / name / paths.EVALUATION)
    for name, (file, spoil) in DAMAGES.items():
        spoil(tmp_path / "out" / name / file)
    code, _, err = run("evaluate", "out")
    assert code == 1
    assert {line for line in err.splitlines() if line.endswith(": evaluated")} == {
        *("out/a-whole: evaluated", "out/z-whole: evaluated")
    }
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (
        len(errors) == len(DAMAGES) + 1
        and errors[-1] == f"error: {len(DAMAGES)} of {len(DAMAGES) + 2} runs could not be evaluated"
    )
    for name in DAMAGES:
        assert sum(f"out/{name}" in line for line in errors) == 1, name
        assert "internal error" not in err
    code, _, err = run("report", "out")
    assert code == 1 and Path("out/report/report.html").exists()
    for name in ("verdict", "list", "key"):
        assert sum(f"out/{name}:" in line for line in err.splitlines()) == 1, err
    assert "z-whole" not in err


def test_flipped_bits_anywhere_in_a_checkpoint(done, tmp_path) -> None:
    """Either the reader refuses, or what it reads is what was written."""
    whole, file = (done.path / paths.CHECKPOINT).read_bytes(), tmp_path / "flipped.safetensors"
    tensors, about = records.read_tensors(done.path / paths.CHECKPOINT)
    rng = np.random.default_rng(0)
    refused = 0
    for at in [*range(0, 400, 3), *rng.integers(0, len(whole), 200).tolist()]:
        content = bytearray(whole)
        content[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(content)
        try:
            found, said = records.read_tensors(file)
        except UserError:
            refused += 1
            continue
        # only where the name of the digest, or of the metadata, was hit there is nothing left to compare with
        assert said == {} or about.items() <= said.items()
        assert all(found[name].equal(tensor) for name, tensor in tensors.items())
    assert refused > 300


def test_launches_that_fail_leave_no_folder(run, tmp_path) -> None:
    for mistake in ("protocol.n_cells=0", "encoder.components=99999", "agent.gamma=7"):
        assert run("train", *small("ppo", mistake), "name=tiny")[0] == 2
        assert not Path("outputs").exists(), mistake
    population = ("hydra/launcher=population", "hydra.launcher.workers=1")
    assert run("train", "-m", *small("ppo", "encoder.components=8,99999"), "name=tiny", *population)[0] == 1
    (left,) = Path("outputs").rglob(paths.LOCK)
    assert "encoder.components=8" in str(left) and status(left.parent) == "complete"
    assert not [f for f in Path("outputs").rglob("*") if f.is_dir() and not any(f.iterdir())]


def test_a_folder_that_was_there_is_left_there(tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ZeroDivisionError), RunDir(tmp_path / "mine" / "a" / "b").locked():
        assert (tmp_path / "mine" / "a" / "b" / paths.LOCK).exists()
        raise ZeroDivisionError
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit on the size of files")
def test_a_disk_without_room_in_the_middle(tmp_path, done) -> None:
    """Small files fit, a checkpoint does not: one line, no half files, and the same command goes on."""
    mine = dataclasses.replace(done, path=tmp_path / "run")
    said = tmp_path / "said"

    def body() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
        try:
            train(mine)
        except UserError as error:
            said.write_text(str(error))

    child = multiprocessing.get_context("fork").Process(target=body)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert str(mine.path) in said.read_text() and "the same command goes on" in said.read_text()
    assert {file.name for file in mine.path.iterdir()} <= {paths.LOCK, paths.CONFIG, paths.RUN, paths.PROGRESS}
    assert train(mine)[0].status == "complete"
    assert_same_run(mine.path, done.path)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_report_on_a_full_disk_leaves_no_half_file(n: int, copy, run, monkeypatch) -> None:
    plain, calls = os.fsync, count(1)

    def full(fd: int) -> None:
        if next(calls) >= n:
            raise OSError(28, "No space left on device")
        plain(fd)

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = run("report", str(copy.path))
    assert code == 2 and "No space left on device" in one_error(err)
    assert len([file for file in (copy.path / "report").rglob("*") if file.is_file()]) == n - 1
