from __future__ import annotations

import io
import subprocess
import sys
import threading
import time

import pytest

from perturbrl import status
from perturbrl.runner.progress import Progress


@pytest.fixture
def lines(monkeypatch):
    """What is said, with the patience of a test."""
    said: list[str] = []
    monkeypatch.setattr(status, "SECONDS_UNTIL_LINE", 0.05)
    status.show("plain", said.append)
    yield said
    status.show("quiet")


def wait_for(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing was said"
        time.sleep(0.01)


def test_a_long_step_is_named_while_it_lasts_and_timed_when_it_is_done(lines):
    with status.step("reading cells.h5ad"):
        wait_for(lambda: lines)
        assert lines[0] == "reading cells.h5ad ..."
    assert lines[-1].startswith("reading cells.h5ad: done in ") and lines[-1].endswith(" s")


def test_a_step_that_goes_on_is_said_again_with_how_far_it_is_at_growing_intervals(lines):
    with status.step("scoring") as step:
        step.at("condition 3 of 80")
        wait_for(lambda: len(lines) >= 2)
        assert lines[0] == "scoring, condition 3 of 80 ..."
        assert lines[1] == "scoring, condition 3 of 80: 0 s so far"
        assert step.silence == pytest.approx(0.05 * 4**2)


def test_the_innermost_step_is_shown_and_a_failed_one_is_not_done(lines):
    with pytest.raises(ValueError), status.step("outer"), status.step("inner"):
        wait_for(lambda: lines)
        raise ValueError
    assert lines == ["inner ..."]


def test_short_steps_are_not_mentioned(lines):
    for _ in range(100):
        with status.step("short"):
            pass
    assert lines == []


@pytest.mark.parametrize("silence", ["quiet", "hidden"])
def test_nothing_is_said_where_nobody_asked_or_another_display_is_on(lines, silence):
    if silence == "quiet":
        status.show("quiet")
        with status.step("long"):
            time.sleep(0.4)
    else:
        with status.hidden(), status.step("long"):
            time.sleep(0.4)
    assert lines == [] and not status._display.steps and not status._display.hidden


def test_a_step_of_another_thread_ends_alone(lines):
    begun, end = threading.Event(), threading.Event()

    def compile_kernels():
        with status.step("compiling kernels"):
            begun.set()
            end.wait(10)

    thread = threading.Thread(target=compile_kernels)
    with status.step("reading"):
        thread.start()
        assert begun.wait(10)
        end.set()
        thread.join()
        assert [step.label for step in status._display.steps] == ["reading"]
    assert not status._display.steps


def test_a_training_loop_is_announced_before_its_first_rollout_ends(monkeypatch, capsys):
    monkeypatch.setattr(status, "SECONDS_UNTIL_LINE", 0.05)
    try:
        with Progress("plain").task("ppo on landscape (rna)", 1, 10, 100, 0):
            time.sleep(0.4)
            assert capsys.readouterr().err.startswith("ppo on landscape (rna), 1 run: training ...\n")
    finally:
        status.show("quiet")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_spinner_that_leaves_no_line_behind(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(status, "SECONDS_UNTIL_SPINNER", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    status.show("auto")
    try:
        with status.step("reading [cells].h5ad"):
            wait_for(lambda: "reading [cells].h5ad" in terminal.getvalue())
        assert status._display.spinner is None
    finally:
        status.show("quiet")
    assert "done in" not in terminal.getvalue()


def test_no_thread_of_the_display_lives_when_a_process_ends() -> None:
    code = """
import atexit, threading
atexit.register(lambda: print([t.name for t in threading.enumerate()]))
from perturbrl import status
status.show("plain")
with status.step("work"):
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['MainThread']"
