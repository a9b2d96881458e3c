"""Run ``perturbrl data validate`` and ``perturbrl train`` on many files in one process: starting one takes seconds.

``python -m corpus.judge FILES.json ANSWERS.jsonl`` writes a line before and after each file, so that whoever reads them
knows on which one the process died.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .cases import ALL

SECONDS = 90  # of one command
MEMORY = 12 << 30  # a file that asks for more must be refused before, not by the system
TINY = (
    *("schedule.total=64", "agent.rollout_steps=64", "agent.n_envs=8", "agent.minibatch=16", "policy.hidden=[8]"),
    *("curve_points=2", "checkpoint_seconds=99", "kernels=torch", "device=cpu", "progress=quiet"),
)
CELLWISE = ("env.horizon=20", "protocol.return_episodes=8", "protocol.search_episodes=8")
SCREEN = ("env=counterfactual", "protocol.curve_cells=2", "protocol.episodes=8")


@dataclass
class Answer:
    """What the two commands said of a file: ``rows`` by task, ``trained`` by ``data=`` (and ``env=counterfactual``)."""

    validated: tuple[int, str] = (-1, "")
    rows: dict[str, tuple[str, str]] = field(default_factory=dict)
    trained: dict[str, tuple[int, str]] = field(default_factory=dict)


def ask(files: dict[str, Path], choices: tuple[str, ...], folder: Path) -> dict[str, Answer]:
    """Return what is said of each file; a process that dies is named by the file, and the others go on in a new one."""
    found: dict[str, Answer] = {}
    left = {name: str(path) for name, path in files.items()}
    while left:
        asked, answers = folder / "files.json", folder / "answers.jsonl"
        asked.write_text(json.dumps({"files": left, "choices": choices}))
        answers.unlink(missing_ok=True)
        here = Path(__file__).parents[1]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
        command = [sys.executable, "-m", "corpus.judge", str(asked), str(answers)]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
        lines = [json.loads(line) for line in answers.read_text().splitlines()] if answers.exists() else []
        assert lines, f"the judge did not start: {done.stderr[-2000:]}"
        for line in lines:
            if "answer" in line:
                said = line["answer"]
                found[line["file"]] = Answer(tuple(said["validated"]), said["rows"], said["trained"])
        last = lines[-1]
        if "answer" not in last:
            found[last["file"]] = Answer(validated=(done.returncode, f"died: {done.stderr[-500:]}"))
        left = {name: path for name, path in left.items() if name not in found}
    return found


def _command(*words: str) -> tuple[int, str]:
    from perturbrl import cli

    return _in_one_line(lambda: cli.app(list(words), prog_name="perturbrl"))


def _in_one_line(action: Callable[[], None]) -> tuple[int, str]:
    """Return the exit code and what a command says on stderr, warnings apart; -1 and a traceback if it raises."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            action()
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        return -1, traceback.format_exc()
    finally:
        signal.alarm(0)
    if "Traceback" in err.getvalue() + out.getvalue():
        return -1, err.getvalue()
    first = err.getvalue().find("error: ")
    return code, err.getvalue()[first:].rstrip("\n") if first >= 0 else ""


def _answer(path: str, choices: tuple[str, ...], folder: Path, hydra: bool) -> Answer:
    from perturbrl.runner import validate

    seen: list[Any] = []
    plain = validate.validate
    validate.validate = lambda *given: seen.extend(found := plain(*given)) or found
    try:
        answer = Answer(validated=_command("data", "validate", path))
    finally:
        validate.validate = plain
    answer.rows = {f.tasks[0]: (f.severity, f.what) for f in seen if f.location == "task"}
    screens = re.search(r"ready \(with data=(\w+)", answer.rows.get("env=counterfactual", ("", ""))[1])
    held = [data for data in ALL if answer.rows.get(f"data={data}", ("warning",))[0] != "warning"] or ["rna"]
    asked = {f"data={data}": (f"data={data}", *CELLWISE) for data in choices}
    asked["env=counterfactual"] = (*SCREEN, f"data={screens[1] if screens else held[0]}")
    for task, words in asked.items():
        if task == "data=rna" and hydra:
            place = (f"path={json.dumps(path)}", f"hydra.run.dir={folder}/rna")
            answer.trained[task] = _command("train", "source=file", *TINY, *words, *place)
        else:
            answer.trained[task] = _in_one_line(functools.partial(_train, path, words, folder / task))
    return answer


def _train(path: str, words: tuple[str, ...], folder: Path) -> None:
    """Train as the command does, but for Hydra, which takes half a second each time."""
    from perturbrl.runner.guard import guarded
    from perturbrl.runner.job import of_file
    from perturbrl.runner.progress import Progress
    from perturbrl.runner.train import train_jobs

    with guarded():
        train_jobs([dataclasses.replace(of_file(_composed(words), Path(path)), path=folder)], Progress("quiet"))


@functools.cache
def _composed(words: tuple[str, ...]) -> Any:
    from perturbrl.runner.hydra.compose import compose_job

    return compose_job(["source=file", *TINY, *words], Path(), "corpus")


def main() -> None:
    def expired(*_: Any) -> None:
        raise TimeoutError(f"no answer in {SECONDS} seconds")

    signal.signal(signal.SIGALRM, expired)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    asked = json.loads(Path(sys.argv[1]).read_text())
    formats: set[str] = set()
    with Path(sys.argv[2]).open("w") as answers:
        for name, path in asked["files"].items():
            answers.write(json.dumps({"file": name}) + "\n")
            answers.flush()
            # where one choice of data= is asked for, Hydra is started once for each format
            hydra = len(asked["choices"]) > 1 or Path(path).suffix not in formats
            formats.add(Path(path).suffix)
            said = _answer(path, tuple(asked["choices"]), Path.cwd() / "runs" / name, hydra)
            answers.write(json.dumps({"file": name, "answer": vars(said)}) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
