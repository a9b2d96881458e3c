"""kill -9 at any moment: the same command goes on, and ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perturbrl import paths, records
from perturbrl.errors import UserError
from perturbrl.runner.job import Job

from .kills import Rig, before_write_is_kept, in_checkpoint, in_step, killed
from .tiny import assert_same_run, checkpoint, job, progress, small, status, train

AGENTS = {
    "ppo": ("ppo",),
    "trpo": ("trpo",),
    "trpo_ppo": ("trpo_ppo",),
    "moments": ("trpo_ppo", "agent.handover=parameters_and_moments"),
    "interleaved": (
        *("trpo_ppo", "schedule=per_iteration"),
        *("schedule.total=1024", "schedule.trpo=1024", "schedule.ppo=1024"),
    ),
    "discrete": ("ppo", "env=paper_discrete"),
}
# files written by a run of four rollouts: config, run | progress, checkpoint after each | both again, run
WRITES = 2 + 2 * 4 + 3
ROLLOUT_STEPS = 32  # calls of env.step in a rollout of 256 steps over 8 cells
CURVE_STEPS = 20  # and in one evaluation of the curve


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupted, one for each set of overrides."""
    made: dict[str, Job] = {}

    def get(case: str) -> Job:
        if case not in made:
            made[case] = job(tmp_path_factory.mktemp(case), *AGENTS[case])
            assert train(made[case])[0].status == "complete"
        return made[case]

    return get


def check_goes_on(case: str, rig: Rig, out: Path, whole) -> Job:
    mine = job(out, *AGENTS[case])
    killed(rig, mine)
    if (mine.path / paths.RUN).exists():
        assert status(mine.path) == "running"
    assert [o.status for o in train(mine)] == ["complete"]
    assert_same_run(mine.path, whole(case).path)
    assert status(mine.path) == "complete"
    names = {paths.CONFIG, paths.RUN, paths.PROGRESS, paths.CHECKPOINT, paths.LOCK}
    assert {file.name for file in mine.path.iterdir()} == names
    return mine


def slow_but(quick: set[int], top: int) -> list:
    return [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in range(1, top + 1)]


@pytest.mark.parametrize("n", slow_but({1, 6, 13}, WRITES))
def test_killed_while_a_file_is_written(n: int, tmp_path: Path, whole) -> None:
    check_goes_on("ppo", before_write_is_kept(n), tmp_path, whole)


@pytest.mark.parametrize("n", slow_but({3}, 5))
def test_killed_with_half_a_checkpoint_on_disk(n: int, tmp_path: Path, whole) -> None:
    check_goes_on("ppo", in_checkpoint(n), tmp_path, whole)


@pytest.mark.parametrize("rollout", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_killed_in_a_rollout(rollout: int, tmp_path: Path, whole) -> None:
    first = CURVE_STEPS  # what doing nothing earns
    mine = check_goes_on("ppo", in_step(first + rollout * (ROLLOUT_STEPS + CURVE_STEPS) + 7), tmp_path, whole)
    assert progress(mine.path)["iteration"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("case", "checkpoint_number"),
    [
        pytest.param("trpo", 2),
        pytest.param("trpo_ppo", 2),  # the hand-over is the first thing to come
        pytest.param("trpo_ppo", 4),  # it has been
        pytest.param("trpo_ppo", 1, marks=pytest.mark.slow),
        pytest.param("trpo_ppo", 3, marks=pytest.mark.slow),
        pytest.param("moments", 2),
        pytest.param("moments", 3, marks=pytest.mark.slow),
        pytest.param("interleaved", 3, marks=pytest.mark.slow),
        pytest.param("discrete", 3, marks=pytest.mark.slow),
    ],
)
def test_every_agent_goes_on(case: str, checkpoint_number: int, tmp_path: Path, whole) -> None:
    check_goes_on(case, in_checkpoint(checkpoint_number + 1), tmp_path, whole)


def test_killed_again_and_again(tmp_path: Path, whole) -> None:
    mine = job(tmp_path, *AGENTS["ppo"])
    for _ in range(3):  # each attempt gets one rollout further: its first checkpoint is kept, its second is not
        killed(in_checkpoint(2), mine)
    assert checkpoint(mine.path)[1]["iteration"] == 3
    train(mine)
    assert_same_run(mine.path, whole("ppo").path)


def test_seconds_count_only_the_time_that_was_used(tmp_path: Path) -> None:
    mine = job(tmp_path)
    killed(in_checkpoint(3), mine)
    before = checkpoint(mine.path)[1]["seconds"]
    time.sleep(0.6)
    train(mine)
    assert progress(mine.path)["seconds"].is_monotonic_increasing
    began = progress(mine.path)["seconds"][2]
    assert before < began < before + 0.55


@pytest.mark.parametrize("agent", ["ppo", pytest.param("trpo_ppo", marks=pytest.mark.slow)])
def test_runs_of_a_population_go_on_from_different_iterations(agent: str, tmp_path: Path) -> None:
    def pair(out: Path) -> tuple[Job, Job]:
        return job(out, agent, "seed=0"), job(out, agent, "seed=1", "agent.lr=3e-3" if agent == "ppo" else "seed=1")

    whole, mine = pair(tmp_path / "whole"), pair(tmp_path / "mine")
    train(*whole)
    killed(in_checkpoint(4), *mine)  # checkpoints are 0, 1, 0, 1, ...: run 0 has two of them, run 1 has one
    assert [checkpoint(m.path)[1]["iteration"] for m in mine] == [2, 1]
    assert [o.status for o in train(*mine)] == ["complete", "complete"]
    for m, w in zip(mine, whole, strict=True):
        assert_same_run(m.path, w.path)


def test_one_run_of_a_population_was_complete_and_one_had_not_begun(tmp_path: Path) -> None:
    seeds = [job(tmp_path / "mine", "ppo", f"seed={k}") for k in range(3)]
    whole = [job(tmp_path / "whole", "ppo", f"seed={k}") for k in range(3)]
    train(*whole)
    train(seeds[0])
    killed(in_checkpoint(3), seeds[1])
    assert [o.status for o in train(*seeds)] == ["skipped", "complete", "complete"]
    for m, w in zip(seeds, whole, strict=True):
        assert_same_run(m.path, w.path)


def test_a_run_that_diverged_at_once_lends_its_networks_to_nobody(tmp_path: Path) -> None:
    def pair(out: Path) -> tuple[Job, Job]:
        return job(out, "ppo", "agent.lr=1e30"), job(out, "ppo", "seed=1")

    whole, mine = pair(tmp_path / "whole"), pair(tmp_path / "mine")
    train(*whole)
    killed(in_checkpoint(2), *mine)  # the first checkpoint is that of the run that diverges in its first rollout
    assert checkpoint(mine[0].path)[1]["iteration"] == 0
    assert not (mine[1].path / paths.CHECKPOINT).exists()
    assert [o.status for o in train(*mine)] == ["diverged", "complete"]
    for m, w in zip(mine, whole, strict=True):
        assert_same_run(m.path, w.path)


def test_a_real_process_with_the_same_command(tmp_path: Path, run, whole) -> None:
    command = ["train", *small("ppo"), "name=tiny"]
    folder = tmp_path / job(Path("outputs")).path
    child = subprocess.Popen(
        [sys.executable, "-m", "perturbrl", *command], cwd=tmp_path, stderr=subprocess.PIPE, env=os.environ
    )
    until = time.monotonic() + 60
    while not (folder / paths.CHECKPOINT).exists() and child.poll() is None and time.monotonic() < until:
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert child.returncode == -signal.SIGKILL
    assert checkpoint(folder)[1]["iteration"] < 4 or status(folder) == "running"
    assert run(*command)[0] == 0
    assert_same_run(folder, whole("ppo").path)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.2, 0.4])
def test_a_real_process_at_any_moment(seconds: float, tmp_path: Path, run) -> None:
    command = ["train", *small("trpo_ppo", "checkpoint_seconds=0"), "name=tiny"]
    folder = tmp_path / job(Path("outputs"), "trpo_ppo").path
    child = subprocess.Popen([sys.executable, "-m", "perturbrl", *command], cwd=tmp_path)
    until = time.monotonic() + 60
    while not (folder / paths.RUN).exists() and child.poll() is None and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert run(*command)[0] == 0
    alone = job(tmp_path / "whole", "trpo_ppo")
    train(alone)
    assert_same_run(folder, alone.path)


def test_a_full_disk_in_the_middle_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch, whole) -> None:
    mine = job(tmp_path)
    plain, calls = os.fsync, iter(range(1, 1000))

    def full(fd: int) -> None:
        if next(calls) >= 6:  # the second checkpoint
            raise OSError(28, "No space left on device")
        plain(fd)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises((UserError, OSError), match="No space left"):
        train(mine)
    monkeypatch.setattr(os, "fsync", plain)
    assert checkpoint(mine.path)[1]["iteration"] == 1
    train(mine)
    assert_same_run(mine.path, whole("ppo").path)


def test_results_appear_in_order_and_the_verdict_last(tmp_path: Path, monkeypatch) -> None:
    seen: list[tuple[str, str]] = []
    plain = Path.replace

    def noted(self: Path, target: Path) -> Path:
        said = records.read_json(self)["status"] if target.name == paths.RUN else ""
        seen.append((target.name, said))
        return plain(self, target)

    monkeypatch.setattr(Path, "replace", noted)
    train(job(tmp_path))
    kept = [(paths.PROGRESS, ""), (paths.CHECKPOINT, "")]
    assert [s for s in seen if not s[0].endswith(".npz")] == [
        *((paths.CONFIG, ""), (paths.RUN, "running")),
        *kept * 5,
        (paths.RUN, "complete"),
    ]
