"""Completion as a shell installs and calls it: ``eval "$(perturbrl train -sc install=bash)"``, then Tab."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

BASH = shutil.which("bash")
INSTALL = {"bash": 'eval "$(perturbrl train -sc install=bash)"', "fish": "perturbrl train -sc install=fish | source"}


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with a ``perturbrl`` that runs this checkout."""
    command = tmp_path / "bin" / "perturbrl"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m perturbrl "$@"\n')
    command.chmod(0o755)
    return f"{command.parent}{os.pathsep}{os.environ['PATH']}"


class Terminal:
    """An interactive bash, typed into as a person would."""

    def __init__(self, path: str, folder: Path) -> None:
        self.ours, theirs = pty.openpty()
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PERTURBRL_PLUGINS", "PROMPT_COMMAND"))}
        env = clean | {"PATH": path, "TERM": "dumb", "PS1": "$ ", "INPUTRC": os.devnull, "COLUMNS": "200"}
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        command = [str(BASH), "--norc", "--noprofile", "-i"]
        self.shell = subprocess.Popen(command, **streams, env=env, cwd=folder, start_new_session=True)
        os.close(theirs)

    def type(self, keys: str, until: str, seconds: float = 30) -> str:
        """Type ``keys``; return what is shown, up to a moment of silence after ``until`` or the end of the time."""
        os.write(self.ours, keys.encode())
        shown, end = "", time.monotonic() + seconds
        while time.monotonic() < end:
            ready, _, _ = select.select([self.ours], [], [], 1.0)
            if ready:
                shown += os.read(self.ours, 65536).decode(errors="replace").replace("\a", "")
            elif until in shown:
                break
        return shown

    def close(self) -> None:
        self.shell.kill()
        self.shell.wait()
        os.close(self.ours)


@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_tab_in_bash(path: str, tmp_path: Path, root: Path) -> None:
    agents = sorted(file.stem for file in (root / "conf" / "agent").glob("*.yaml"))
    terminal = Terminal(path, tmp_path)
    try:
        assert "ready3" in terminal.type(INSTALL["bash"] + "; echo ready$((1+2))\n", "ready3")
        listed = terminal.type("perturbrl train agent=\t\t", agents[-1])
        assert all(agent in listed.split() for agent in agents), listed
        assert "rror" not in listed and "No such" not in listed
        word = terminal.type("trpo_p\t", "trpo_ppo")
        assert word.strip().endswith("trpo_ppo") and "rror" not in word
        assert "max_perturb=" in terminal.type(" env.max_p\t", "max_perturb=")
        assert "gone1" in terminal.type(
            '\x15eval "$(perturbrl train -sc uninstall=bash)"; echo gone$((0+1))\n', "gone1"
        )
        assert "no completion" in terminal.type("complete -p perturbrl\n", "no completion")
    finally:
        terminal.close()


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_tab_in_fish(path: str) -> None:
    script = f"{INSTALL['fish']}; complete -C 'perturbrl train agent=trpo_'"
    done = subprocess.run(["fish", "-c", script], env=os.environ | {"PATH": path}, capture_output=True, timeout=60)
    assert b"agent=trpo_ppo" in done.stdout and not done.stderr


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_scripts_that_other_shells_can_read(shell: str, path: str) -> None:
    for action in ("install", "uninstall"):
        command = ["perturbrl", "train", "-sc", f"{action}={shell}"]
        done = subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "perturbrl" in done.stdout and not done.stderr
        assert "hydra" not in done.stdout.lower()  # Hydra's own knows no verbs
        if shutil.which(shell):
            assert subprocess.run([shell, "-n"], input=done.stdout, text=True, timeout=60).returncode == 0


def test_a_shell_that_is_not_known(path: str) -> None:
    command = ["perturbrl", "train", "-sc", "install=csh"]
    done = subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "choose bash, fish or zsh" in done.stderr and done.stderr.count("\n") == 1
