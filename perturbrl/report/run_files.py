"""Read the files of a run directory; what is missing or damaged is named, with what mends it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from perturbrl import files, paths

COUNTERFACTUAL = "counterfactual"  # name of a protocol, and of the env whose runs it scores
FATE, FATE_ENVS = "fate", ("fate", "gattaca")  # a protocol, and the envs whose runs it scores
PARQUET_END = b"PAR1"


class LeftOut(Exception):
    """Why a run directory cannot be reported; ``damaged`` if a file of it is not as it was written."""

    def __init__(self, reason: str, damaged: bool = False) -> None:
        super().__init__(reason)
        self.damaged = damaged


def run_json(folder: Path) -> dict[str, Any]:
    """Return the content of ``run.json``."""
    return _json(folder / paths.RUN, "delete it and give the training command again, it goes on from the checkpoint")


def summary(folder: Path) -> dict[str, Any]:
    """Return the summary of a run's evaluation, if all that was written with it is still as it was."""
    inside, remedy = folder / paths.EVALUATION, f"run: perturbrl evaluate {folder}"
    content = _json(inside / paths.SUMMARY, remedy)
    # version 0.1.0 wrote no digests
    expected = _json(inside / paths.DIGESTS, remedy) if (inside / paths.DIGESTS).exists() else {}
    for name in expected:
        if problem := files.damage(inside, expected, name):
            raise LeftOut(f"{paths.EVALUATION}/{name} {problem}; {remedy}", damaged=True)
    split = content.get("split")
    whole = isinstance(split, dict) and {"kind", "sha256"} <= split.keys()
    if content.get("protocol") == COUNTERFACTUAL and not whole:
        raise LeftOut(f"{paths.EVALUATION}/{paths.SUMMARY}: split is missing or not whole; {remedy}", damaged=True)
    return content


def log_damage(folder: Path, run: dict[str, Any]) -> str:
    """Return what is wrong with the log that curves are drawn from, empty if nothing; ``run`` is from ``run.json``."""
    file, expected = folder / paths.PROGRESS, run.get("digests")
    problem = files.damage(folder, expected, file.name) if expected or file.exists() else ""
    if not problem and file.exists():
        with file.open("rb") as opened:
            opened.seek(-min(len(PARQUET_END), file.stat().st_size), os.SEEK_END)
            problem = "" if opened.read() == PARQUET_END else "is cut short"
    return f"{file.name} {problem}, so it has no curve; add force=true to the training command" if problem else ""


def _json(file: Path, remedy: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LeftOut(f"{file.name} cannot be read: {str(error).splitlines()[0]}; {remedy}", damaged=True) from None
    if not isinstance(content, dict):
        raise LeftOut(f"{file.name} does not hold an object; {remedy}", damaged=True)
    return content
