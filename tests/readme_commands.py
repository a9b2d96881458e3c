"""Run every command of README.md, from this checkout, as a new user would: ``python tests/readme_commands.py``.

The commands are read from the README: each line of its shell blocks, each ``command ...`` in its text and tables, each
Python block that trains. ``RULES`` say what makes each of them small; a command that no rule knows fails the check.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHELLS, OTHERS = ("bash", "sh", "shell", "console"), ("python", "yaml", "text", "json", "bibtex", "toml")
COMMAND = re.compile(r"(perturbrl|make|pip|pipx|uv|conda|python3?|git|docker|apt-get|cd|export) \S")

BUDGET = "schedule.total=2048 schedule.trpo=2048 schedule.ppo=2048"
PAPER = "protocol.return_episodes=8 protocol.search_episodes=8"
HELD_OUT = "protocol.n_cells=8 protocol.episodes=16 protocol.score.n_duplicates=1 protocol.truth_cells=50"
FEW_CELLS = "source.n_cells=1000"  # of the landscape
FEW_RUNS = (
    (r"range\(\d+\)", "range(2)"),  # seeds
    (r"=([^,\s=]+,[^,\s=]+)(,[^,\s=]+){2,}", r"=\1"),  # two of four values or more
    (r"--seeds \d+", "--seeds 2"),
)
QUICK = f"--quick data=rna {FEW_CELLS} {BUDGET} {PAPER}"  # one table


@dataclass(frozen=True)
class Rule:
    """How a command is run: ``extra`` words are appended, ``replace`` says what stands for what.

    ``how`` is ``user`` (in an empty folder, with the installed package), ``checkout``, ``install`` (in a venv of its
    own, for all that follows), ``ci`` (``.ci/run`` gives the same command, at full size), or ``print``.
    """

    pattern: str
    how: str = "user"
    extra: str = ""
    replace: tuple[tuple[str, str], ...] = ()


RULES = (
    Rule(r"pip install .*-c constraints\.txt", how="install"),
    Rule(r"make (test|lint|reproduce ARGS=--quick)$", how="ci"),
    Rule(r"perturbrl reproduce --quick --check$", how="ci"),
    Rule(
        r"make (test-full|bench|docs|results)\b", how="print", replace=((r"^make", "make --dry-run"),)
    ),  # peers: gigabytes, hours
    Rule(r"make (reproduce|tables)$", how="checkout", extra=f"SEEDS=2 ARGS='{QUICK}'"),
    Rule(r"make (help|install|smoke|wheel|clean)$", how="checkout"),
    Rule(r"perturbrl train .*(--help|--cfg)"),
    Rule(r"perturbrl fate (show|plan|infer)\b"),
    Rule(r"perturbrl train .*env=fate", extra=BUDGET),
    Rule(r"perturbrl reproduce --study", extra="--help"),  # a study takes minutes; its tests run one
    Rule(
        r"perturbrl train .*experiment=counterfactual", extra=f"{FEW_CELLS} {BUDGET} {HELD_OUT} curve_points=0 seed=0"
    ),
    Rule(r"perturbrl train .*env=counterfactual", extra=f"{BUDGET} {HELD_OUT} curve_points=0"),
    Rule(r"perturbrl train .*experiment=", extra=f"{FEW_CELLS} {BUDGET} {PAPER} curve_points=0 data=rna seed=0"),
    Rule(r"perturbrl train .*source=(?!landscape)", extra=f"{BUDGET} {PAPER} curve_points=0", replace=FEW_RUNS),
    Rule(r"perturbrl train\b", extra=f"{FEW_CELLS} {BUDGET} {PAPER} curve_points=0", replace=FEW_RUNS),
    Rule(r"perturbrl reproduce\b", extra=QUICK, replace=FEW_RUNS),
    Rule(r"perturbrl (evaluate|report|doctor|data (list|show|validate|split))\b"),
    Rule(r"import perturbrl", replace=((r"steps=[\d_]+", "steps=12_288"), (r"seeds=\d+", "seeds=1"))),
)

# What stands for the reader's own files and names.
NAMES = {"COLUMN": "perturbation"}
_CELLS = """
import anndata, numpy as np, pandas as pd
rng = np.random.default_rng(0)
label = np.repeat(["control", *(f"G{k}" for k in range(12))], 40)
rate = 1.0 + 5.0 * rng.random(60) * np.where(label[:, None] == [f"G{k}" for k in range(60)], 0.2, 1.0)
obs = pd.DataFrame({"perturbation": label}, index=[f"cell{i}" for i in range(len(label))])
var = pd.DataFrame(index=[f"G{k}" for k in range(60)])
anndata.AnnData(rng.poisson(rate).astype("float32"), obs=obs, var=var).write_h5ad("NAME")
"""
_PREDICTIONS = """
import pathlib, shutil, subprocess
run = next(pathlib.Path("outputs/counterfactual").rglob("run.json")).parent
subprocess.run(["perturbrl", "evaluate", str(run), "protocol.export=true"], check=True)
shutil.copy(run / "evaluation" / "predictions.h5ad", "NAME")
"""
FILES = {"my.h5ad": _CELLS, "screen.h5ad": _CELLS, "pred.h5ad": _PREDICTIONS}


def commands(text: str) -> Iterator[str]:
    """Yield each different command of a README, in its order: shell lines, inline code, Python blocks that train."""
    seen: set[str] = set()
    for part in re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL):
        for command in _of_block(part) if part.startswith("```") else _of_prose(part):
            if command not in seen:
                seen.add(command)
                yield command


def _of_block(block: str) -> Iterator[str]:
    language, _, body = block[3:-3].partition("\n")
    if language in SHELLS:
        for line in body.replace("\\\n", " ").splitlines():
            if command := re.sub(r"(^|\s+)#.*", "", line).removeprefix("$ ").strip():
                yield command
    elif language not in OTHERS:
        raise SystemExit(f"README: a block of {language or 'no language'}: is it a command? see {Path(__file__).name}")
    elif language == "python" and "perturbrl.train(" in body:
        yield body


def _of_prose(text: str) -> Iterator[str]:
    for span in re.findall(r"`([^`\n]+)`", text):
        if COMMAND.match(span):
            yield span.replace(r"\|", "|")


def rule(command: str) -> Rule:
    """Return the first rule that knows a command; exit if none does."""
    for one in RULES:
        if re.match(one.pattern, command):
            return one
    raise SystemExit(f"README: no rule of {Path(__file__).name} knows `{command}`: say there how it is run")


def small(command: str) -> str:
    """Return what is run for a command of the README."""
    how = rule(command)
    for old, new in (*how.replace, *((rf"\b{name}\b", value) for name, value in NAMES.items())):
        command = re.sub(old, new, command)
    return f"{command} {how.extra}".strip()


class Reader:
    """Someone who types the commands of the README: an empty folder, and offline once something is installed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, Path(sys.executable).parent
        self.typed = (ROOT / ".ci" / "run").read_text()
        (folder / "work").mkdir()
        (folder / "work" / "data").symlink_to(ROOT / "data")  # the example files: a reader has them in the checkout

    def follow(self, command: str) -> None:
        """Run one command at small size; exit with its output if it fails."""
        began, how, line = time.monotonic(), rule(command).how, small(command)
        if how == "ci":
            if not re.search(rf"^\s*{re.escape(command)}$", self.typed, re.MULTILINE):
                raise SystemExit(f"README: `{command}` is not among the commands of .ci/run")
            print(f"   by .ci/run  {command}", flush=True)
            return
        if how == "install":
            venv.create(self.folder / "venv", with_pip=True)
            self.bin = self.folder / "venv" / "bin"
        for name in re.findall(r"(?<![\w/-])[\w-]+\.h5\w*", line):
            self._file(name)
        where = self.folder / "work" if how == "user" else ROOT
        words = [str(self.bin / "python"), "-c", line] if line.startswith("import ") else ["bash", "-euc", line]
        self._run(words, where, self._environment(line, online=how == "install"), command)
        print(f"{time.monotonic() - began:9.1f} s  {' '.join(line.split())}", flush=True)

    def _environment(self, line: str, online: bool = False) -> dict[str, str]:
        env = os.environ | {"PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}"}
        examples = [f for f in ROOT.glob("examples/plugins/*/conf/*/*.yaml") if f"{f.parent.name}={f.stem}" in line]
        if examples:
            env["PERTURBRL_PLUGINS"] = str(examples[0].parents[2])
        if not online:
            nowhere = "http://127.0.0.1:9"
            env |= {"PIP_NO_INDEX": "1", "http_proxy": nowhere, "https_proxy": nowhere, "HTTPS_PROXY": nowhere}
        return env

    def _file(self, name: str) -> None:
        if name not in FILES:
            raise SystemExit(f"README: what stands for the file {name}? say so in FILES of {Path(__file__).name}")
        if not (self.folder / "work" / name).exists():
            code = FILES[name].replace("NAME", name)
            self._run([str(self.bin / "python"), "-c", code], self.folder / "work", self._environment(""), name)

    def _run(self, words: list[str], where: Path, env: dict[str, str], command: str) -> None:
        done = subprocess.run(words, cwd=where, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode or "Traceback (most recent call last)" in done.stdout:
            raise SystemExit(f"{done.stdout[-4000:]}\nREADME: `{command}` ended with {done.returncode}, run as {words}")


def main() -> None:
    """Follow the README from top to bottom; what installs the package comes first."""
    every = list(commands((ROOT / "README.md").read_text()))
    began, folder = time.monotonic(), Path(tempfile.mkdtemp())
    try:
        reader = Reader(folder)
        for command in sorted(every, key=lambda c: rule(c).how != "install"):
            reader.follow(command)
    finally:
        shutil.rmtree(folder)
    print(f"{len(every)} commands of the README in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
