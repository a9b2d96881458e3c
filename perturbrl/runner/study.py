"""What a study is: a file of ``conf/study``, or of the user's, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import yaml

from perturbrl import paths
from perturbrl.bounds import NotEmpty, PositiveInt
from perturbrl.config import bind, choice, require
from perturbrl.errors import UserError

PLAN = ("seeds", "tuning_seeds", "budget")
KEYS = ("title", *PLAN, "tasks", "arms", "quick")


@dataclass(frozen=True)
class Task:
    """What is learned, and the column of ``progress.parquet`` by which candidates are compared; larger is better."""

    overrides: list[str]
    column: Annotated[str, NotEmpty("a column of progress.parquet")]


@dataclass(frozen=True)
class Arm:
    """What is compared: its overrides, and the settings that are tried for it."""

    overrides: list[str]
    candidates: Annotated[list[str], NotEmpty("[agent.lr=1e-4]")]


@dataclass(frozen=True)
class Plan:
    """How much is run: final seeds, tuning seeds, and the overrides that set the steps."""

    seeds: PositiveInt
    tuning_seeds: Annotated[list[int], NotEmpty("[100, 101]")]
    budget: list[str]


@dataclass(frozen=True)
class Study:
    """A file of ``conf/study``."""

    name: str
    title: str
    plan: Plan
    tasks: Mapping[str, Task]
    arms: Mapping[str, Arm]


def load(name: str, quick: bool = False, seeds: int | None = None) -> Study:
    """Read ``conf/study/NAME.yaml``, or a file of the user's.

    Parameters
    ----------
    name
        The study, or the path of a YAML file of the same form.
    quick
        Take the file's key ``quick`` for seeds and steps.
    seeds
        Number of final seeds instead of the file's.

    Raises
    ------
    UserError
        No such study, a wrong key, arms with different numbers of candidates, or seeds that serve both purposes.
    """
    values = _read(name)
    name = Path(name).stem
    usual, final = {key: values[key] for key in PLAN}, {"seeds": seeds} if seeds else {}
    plan = bind(Plan, usual | final, name)
    if quick:  # its budget comes after the study's, so that it changes single keys
        less = bind(Plan, usual | {"budget": []} | values["quick"] | final, f"{name}.quick")
        plan = replace(less, budget=[*plan.budget, *less.budget])
    study = Study(
        name,
        str(values["title"]),
        plan,
        {key: bind(Task, task, f"{name}.tasks.{key}") for key, task in values["tasks"].items()},
        {key: bind(Arm, arm, f"{name}.arms.{key}") for key, arm in values["arms"].items()},
    )
    counts = {arm: len(each.candidates) for arm, each in study.arms.items()}
    require(len(set(counts.values())) == 1, f"{name}.arms", f"tuning budgets differ: {counts}; give each as many")
    shared = sorted(set(plan.tuning_seeds) & set(range(plan.seeds)))
    require(not shared, f"{name}.tuning_seeds", f"{shared} are final seeds too; choose others")
    return study


def _read(name: str) -> dict[str, Any]:
    file, folder = Path(name), paths.conf_dir() / "study"
    if file.suffix not in (".yaml", ".yml"):
        choice(name, sorted(each.stem for each in folder.glob("*.yaml")), "--study")
        file = folder / f"{name}.yaml"
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"--study {file}: {str(error).splitlines()[0]}") from None
    require(isinstance(values, dict), f"--study {file}", "is no mapping of keys; docs/use.md shows a study")
    missing = [key for key in KEYS if key not in values]
    require(not missing, f"{file}", f"lacks {', '.join(missing)}; docs/use.md shows a study")
    unknown = sorted(set(values) - set(KEYS))
    require(not unknown, f"{file}", f"unknown key {', '.join(unknown)}; there are {', '.join(KEYS)}")
    for key, each in ((key, values[key]) for key in ("tasks", "arms", "quick")):
        require(isinstance(each, dict) and len(each) > 0, f"{file.stem}.{key}", f"must be a mapping, got {each!r}")
    return dict(values)
