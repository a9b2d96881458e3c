"""Ctrl-C and its like: what was computed is saved, and the same command ends as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from perturbrl import paths
from perturbrl.agents.common.learner import Learner
from perturbrl.envs.paper.continuous import PaperEnv
from perturbrl.runner import interrupt
from perturbrl.runner.interrupt import Interrupted
from perturbrl.runner.job import Job
from perturbrl.runner.processes import in_processes, specs, train_group

from .tiny import assert_same_run, checkpoint, job, small, status, train

RARE = "checkpoint_seconds=1000"  # without a signal nothing is saved before the end
STEPS = 32 + 2  # somewhere in the second rollout


@pytest.fixture(autouse=True)
def as_in_a_terminal() -> Iterator[None]:
    """nohup starts a process that ignores SIGHUP, which is respected; these tests are about one that does not."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def send_in_iteration(monkeypatch: pytest.MonkeyPatch, n: int, number: int = signal.SIGINT) -> None:
    """Send this process a signal in the middle of the n-th iteration from now."""
    plain, calls = Learner.iterate, count(1)

    def iterate(self: Learner, iteration: int):
        if next(calls) == n:
            os.kill(os.getpid(), number)
        return plain(self, iteration)

    monkeypatch.setattr(Learner, "iterate", iterate)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Path]:
    made = {agent: job(tmp_path_factory.mktemp(agent), agent, RARE) for agent in ("ppo", "trpo_ppo")}
    for each in made.values():
        train(each)
    return {agent: each.path for agent, each in made.items()}


@pytest.mark.parametrize(
    ("agent", "n", "number"),
    [("ppo", 1, signal.SIGINT), ("trpo_ppo", 2, signal.SIGTERM), ("trpo_ppo", 3, signal.SIGHUP)],
)
def test_what_was_computed_is_saved_and_goes_on_bit_for_bit(agent, n, number, tmp_path, whole, monkeypatch) -> None:
    mine = job(tmp_path, agent, RARE)
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        send_in_iteration(patch, n, number)
        with pytest.raises(Interrupted, match="saved at step .* of .*; the same command goes on") as stopped:
            train(mine)
    assert stopped.value.number == number and f"saved at step {256 * n}" in stopped.value.message.replace(",", "")
    assert signal.getsignal(number) == before
    assert checkpoint(mine.path)[1]["iteration"] == n and status(mine.path) == "running"
    assert train(mine)[0].status == "complete"
    assert_same_run(mine.path, whole[agent])


def test_runs_of_a_population_are_all_saved(tmp_path, monkeypatch) -> None:
    seeds = [job(tmp_path, "ppo", RARE, f"seed={k}") for k in range(2)]
    with monkeypatch.context() as patch:
        send_in_iteration(patch, 3)
        with pytest.raises(Interrupted):
            train(*seeds)
    assert [checkpoint(each.path)[1]["iteration"] for each in seeds] == [3, 3]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_says_how_to_go_on(number, code, tmp_path, run, whole, monkeypatch) -> None:
    command = ("train", *small("ppo", RARE), "name=tiny")
    with monkeypatch.context() as patch:
        send_in_iteration(patch, 2, number)
        assert run(*command) == (
            code,
            "",
            "interrupted: saved at step 512 of 1,024; the same command goes on from there\n",
        )
    assert run(*command)[0] == 0
    assert_same_run(tmp_path / job(Path("outputs"), "ppo", RARE).path, whole["ppo"])


@pytest.mark.parametrize("launcher", [(), ("hydra/launcher=population", "hydra.launcher.workers=1")])
@pytest.mark.parametrize("axis", ["policy.hidden=[16,16],[8]"])  # which cannot be trained together
def test_a_sweep_stops_and_goes_on(launcher, axis, run, monkeypatch) -> None:
    command = ("train", "-m", *small("ppo", RARE, axis, "progress=plain", "curve_points=0"), "name=s", *launcher)
    with monkeypatch.context() as patch:
        send_in_iteration(patch, 4 + 2)  # in the second job
        code, _, err = run(*command)
    assert code == 130 and "interrupted: " in err.splitlines()[-1] and "the same command goes on" in err
    found = sorted(Path("outputs/s").rglob(paths.CHECKPOINT))
    assert sorted(checkpoint(f.parent)[1]["iteration"] for f in found) == [2, 4]
    code, _, err = run(*command)
    assert code == 0 and err.count("skipped: already complete") == 1
    assert [status(f.parent) for f in found] == ["complete", "complete"]


def test_a_signal_in_the_last_iteration_loses_nothing_and_is_not_forgotten(tmp_path, whole, monkeypatch) -> None:
    mine = job(tmp_path, "ppo", RARE)
    send_in_iteration(monkeypatch, 4)
    with pytest.raises(Interrupted):
        train(mine)
    assert status(mine.path) == "complete"
    assert_same_run(mine.path, whole["ppo"])


def test_reproduce_stops_and_goes_on(run, monkeypatch) -> None:
    from perturbrl.runner import judge

    monkeypatch.setattr(judge, "build_report", lambda *_: pytest.fail("must not be reached"))
    few = [o for o in small("ppo", RARE) if not o.startswith(("agent", "env.", "progress"))]
    budgets = ("schedule.total=4096", "schedule.trpo=2048", "schedule.ppo=2048", "data=rna")
    send_in_iteration(monkeypatch, 1)
    code, _, err = run("reproduce", "--out", "out", "--workers", "1", *few, *budgets)
    assert code == 130 and err.splitlines()[-1].startswith("interrupted: ") and "the same command goes on" in err
    (saved,) = Path("out").rglob(paths.CHECKPOINT)
    assert checkpoint(saved.parent)[1]["iteration"] == 1


def test_the_second_signal_kills_at_once(tmp_path) -> None:
    mine = job(tmp_path, "ppo", RARE, "curve_points=0")

    def body() -> None:
        plain, calls = PaperEnv.step, count(1)

        def step(*args, **kwargs):
            if next(calls) in (STEPS, STEPS + 1):
                os.kill(os.getpid(), signal.SIGINT)
            return plain(*args, **kwargs)

        PaperEnv.step = step
        train(mine)

    child = multiprocessing.get_context("fork").Process(target=body)
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGINT
    assert not (mine.path / paths.CHECKPOINT).exists()


def test_signals_that_are_ignored_stay_ignored(tmp_path) -> None:
    """As under nohup, or in the background of a script."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupt.deferred():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt.stop_requested()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_group_that_is_asked_by_a_file_does_not_begin(tmp_path) -> None:
    mine = job(tmp_path / "out", "ppo")
    (tmp_path / "stop").touch()
    assert train_group(specs([[mine]])[0], "quiet", None, tmp_path / "stop") == []
    assert not mine.path.exists()
    interrupt.follow(None)


def test_a_group_that_is_asked_by_a_file_saves(tmp_path, monkeypatch) -> None:
    mine, request, plain = job(tmp_path / "out", "ppo", RARE), tmp_path / "stop", Learner.iterate

    def iterate(self: Learner, iteration: int):
        request.touch()
        return plain(self, iteration)

    monkeypatch.setattr(Learner, "iterate", iterate)
    (outcome,) = train_group(specs([[mine]])[0], "quiet", None, request)
    interrupt.follow(None)
    assert outcome.status == "interrupted" and "saved at step 256" in str(outcome)
    assert checkpoint(mine.path)[1]["iteration"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_worker_processes_save_too(number, tmp_path) -> None:
    def pair(out: Path) -> list[Job]:
        long = ("schedule.total=40960", "curve_points=0", RARE)
        return [job(out, "ppo", *long, f"seed={k}") for k in range(2)]

    mine, whole = pair(tmp_path / "mine"), pair(tmp_path / "whole")

    def send_when_both_have_begun() -> None:
        until = time.monotonic() + 120
        while not all((each.path / paths.RUN).exists() for each in mine) and time.monotonic() < until:
            time.sleep(0.001)
        os.kill(os.getpid(), number)

    threading.Thread(target=send_when_both_have_begun).start()
    with interrupt.ends_with_code(signal.SIGTERM), pytest.raises(Interrupted) as stopped:
        list(in_processes(2)(specs([[each] for each in mine]), "quiet"))
    assert stopped.value.number == number
    assert all(0 < checkpoint(each.path)[1]["iteration"] < 160 for each in mine)
    train(*mine)
    train(*whole)
    for one, two in zip(mine, whole, strict=True):
        assert_same_run(one.path, two.path)
