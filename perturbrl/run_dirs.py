"""Find run directories, and label runs by sweep, data, task and agent."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perturbrl import paths
from perturbrl.errors import UserError

HOW_TO_RUN = "perturbrl train -m agent=ppo,trpo,trpo_ppo data=rna"
# keys that change where or how a run is done, but not its result
NOT_IN_HASH = (
    "name",
    "device",
    "threads",
    "kernels",
    "progress",
    "checkpoint_seconds",
    "force",
    "path",
    "compare_published",
)
DATA_GROUPS = ("source", "data", "encoder", "split", "conditions", "description")  # of a config: what makes the cells
LONGEST_NAME = 200  # bytes; file systems take names of 255
_LEVELS = 5  # <name>/<source>-<data>/<env>/<agent>/seed<k>


@dataclass(frozen=True)
class Label:
    """The choice of one config group, and the values of the group that were overridden on the command line.

    ``Label("paper", ("max_perturb=4",))`` is written ``paper,max_perturb=4``, in tables and in names of folders.
    """

    choice: str
    overrides: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the label as a folder name; a long one is cut and ends in a digest, so that it stays unique."""
        text = ",".join((self.choice, *self.overrides))
        if len(text.encode()) <= LONGEST_NAME:
            return text
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return f"{text.encode()[: LONGEST_NAME - 13].decode(errors='ignore')},{digest}"

    def without(self, *keys: str) -> Label:
        """Return the label without the overrides of these keys."""
        return Label(self.choice, tuple(o for o in self.overrides if o.partition("=")[0] not in keys))


@dataclass(frozen=True)
class Labels:
    """What the command of a run chose, by parts; reports label rows by what differs in the recorded settings."""

    name: str
    cells: Label
    task: Label
    agent: Label

    def to_json(self) -> dict[str, Any]:
        """Return the entry ``labels`` of ``run.json``: the name, and the choice and overrides of each part."""
        parts = {"cells": self.cells, "task": self.task, "agent": self.agent}
        return {"name": self.name} | {part: [label.choice, *label.overrides] for part, label in parts.items()}


def stages_label(stages: Sequence[str]) -> str:
    """Return ``["trpo:10000", "ppo:40k"]`` as ``trpo-10k+ppo-40k``, for tables and names of folders."""
    return "+".join(re.sub(r"(?<=\d)000$", "k", stage.replace(":", "-")) for stage in stages)


def labels(run: Mapping[str, Any], folder: Path) -> Labels:
    """Return the labels of a run.

    Runs of version 0.1.0 have no labels in ``run.json``. Theirs are read from the names of the folders; if the run was
    moved, they are the choices without overrides.

    Parameters
    ----------
    run
        The content of ``run.json``.
    folder
        The run directory.
    """
    recorded = run.get("labels")
    if isinstance(recorded, Mapping):
        parts = [recorded.get(part) for part in ("cells", "task", "agent")]
        if all(isinstance(part, list) and part for part in parts):
            return Labels(
                str(recorded.get("name", "")), *(Label(str(p[0]), tuple(map(str, p[1:]))) for p in parts if p)
            )
    choices = f"{run['source']}-{run['data']}", str(run["env"]), str(run["agent"])
    parents = folder.parts[-_LEVELS:-1]
    in_place = len(folder.parts) > _LEVELS and all(
        part == choice or part.startswith(f"{choice},") for part, choice in zip(parents[2:], choices[1:], strict=True)
    )
    if not in_place:
        return Labels(str(run.get("name") or folder.parent.name), *map(Label, choices))
    return Labels(parents[0], *(Label(first, tuple(more)) for first, *more in (p.split(",") for p in parents[1:])))


def find_runs(locations: Sequence[str | Path]) -> list[Path]:
    """Find run directories.

    Parameters
    ----------
    locations
        Folders, glob patterns, or the ``run.json`` or ``config.yaml`` of a run.

    Returns
    -------
    list of Path
        Absolute paths, sorted, without repeats.

    Raises
    ------
    UserError
        A path does not exist, a glob matches nothing, or a path is a file that is no part of a run.
    """
    folders: set[Path] = set()
    for item in locations:
        text = os.path.expanduser(str(item))
        matches = [text] if os.path.exists(text) else glob.glob(text, recursive=True)
        if not matches:
            raise UserError(f"{item}: no such file or folder; make runs with: {HOW_TO_RUN}")
        for match in matches:
            place = Path(os.path.realpath(match))
            if place.is_dir():
                folders.update(_walk(place))
            elif place.name in (paths.RUN, paths.CONFIG):
                folders.add(place.parent)
            elif matches == [text]:
                raise UserError(f"{item}: a file, not a folder of runs; give the folder of a run or of many")
    return sorted(folders)


def _walk(folder: Path) -> Iterator[Path]:
    for parent, below, names in os.walk(folder):
        if paths.RUN in names or paths.CONFIG in names:
            below.clear()
            yield Path(parent)
        below[:] = [d for d in below if not d.startswith(".")]  # .hydra holds a config.yaml too
