"""What a command prints while it trains: each thing once, whichever process it comes from."""

from __future__ import annotations

import queue

import pytest

from perturbrl.runner.progress import SECONDS_AMONG_MANY, Progress, display

from .tiny import small


def loop(progress: Progress, label: str, iterations: int = 3) -> None:
    with progress.task(label, 1, iterations, 100, 0) as tick:
        for k in range(iterations):
            tick(k + 1, {})


def test_other_processes_say_a_thing_once(capsys: pytest.CaptureFixture[str]) -> None:
    relay: queue.Queue = queue.Queue()
    with display(relay, Progress("plain", every=SECONDS_AMONG_MANY)):
        for name in ("one", "two"):
            worker = Progress("plain", relay)
            worker.notice("leaks")
            worker.say(f"{name}: training")
            loop(worker, name)
    assert capsys.readouterr().err.splitlines() == ["leaks", "one: training", "two: training"]


def test_one_loop_has_lines_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    loop(Progress("plain"), "ppo")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ppo, 1 run: 300 of 300 steps")
    loop(Progress("plain", every=0.0), "ppo")
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_quiet_is_quiet_from_other_processes_too(capsys: pytest.CaptureFixture[str]) -> None:
    relay: queue.Queue = queue.Queue()
    with display(relay, Progress("quiet")):
        Progress("quiet", relay).notice("leaks")
    assert capsys.readouterr() == ("", "")


def test_a_display_that_has_gone_stops_no_training() -> None:
    asked = []

    class Gone:
        def put(self, message: object) -> None:
            asked.append(message)
            raise BrokenPipeError

    loop(Progress("plain", Gone()), "ppo")  # type: ignore[arg-type]
    assert asked


@pytest.mark.slow
def test_a_sweep_says_a_leak_once(run) -> None:
    words = [
        *small("ppo", "data.preset=released", "progress=plain", "schedule.total=256", "curve_points=0"),
        "seed=0,1",
    ]
    code, _, err = run("train", "-m", *words)
    assert code == 0 and err.count(": training, ") == 2
    notices = [line for line in err.splitlines() if line.startswith("data.preset=released: ")]
    assert notices and len(notices) == len(set(notices))
