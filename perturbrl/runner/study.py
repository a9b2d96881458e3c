"""What a study is: a file of ``conf/study``, or of the user's, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import yaml

from perturbrl import paths
from perturbrl.bounds import NonNegativeInt, NotEmpty, PositiveInt
from perturbrl.config import bind, choice, require
from perturbrl.errors import UserError
from perturbrl.runner.study_claims import Claims, read_claims
from perturbrl.runner.study_networks import NO_NETWORK, Networks, read_networks
from perturbrl.runner.study_words import filled, share, spelled, words

USUAL = ("seeds", "tuning_seeds", "budget")
SIZES = {"steps": None, "sharpness": 0}  # a study without networks has neither
PLAN = (*USUAL, *SIZES)
LESS = {"tasks": None, "networks": None}  # what the key quick may cut besides
REQUIRED = ("title", *USUAL, "tasks", "arms", "quick")
KEYS = (*REQUIRED, *SIZES, "networks", "metrics", "rows", "optimal", "claims")


@dataclass(frozen=True)
class Task:
    """What is learned, and the column of ``progress.parquet`` by which candidates are compared; larger is better."""

    overrides: list[str]
    column: Annotated[str, NotEmpty("a column of progress.parquet")]


@dataclass(frozen=True)
class Arm:
    """What is compared: its overrides, and the settings that are tried for it, each one or more overrides.

    A candidate is a text, whose overrides are separated by spaces, or a list of overrides. ``{0.5}`` in an override is
    half of the study's steps.
    """

    overrides: list[str]
    candidates: Annotated[list[Any], NotEmpty("[agent.lr=1e-4]")]

    @property
    def spelled(self) -> list[str]:
        """The candidates, each as one line."""
        return [spelled(each) for each in self.candidates]

    @property
    def share(self) -> float:
        """The arm's budget as a multiple of the study's steps, 1 where no override names a part of them."""
        return sum(share(text) for text in self.overrides) or 1.0


@dataclass(frozen=True)
class Plan:
    """How much is run: final seeds, tuning seeds, and the overrides that set the steps.

    ``steps`` is what ``{1}`` in an override stands for; the curvature is measured at the solutions of the first
    ``sharpness`` seeds.
    """

    seeds: PositiveInt
    tuning_seeds: Annotated[list[int], NotEmpty("[100, 101]")]
    budget: list[str]
    steps: PositiveInt | None
    sharpness: NonNegativeInt


@dataclass(frozen=True)
class Less:
    """What ``quick``, and the command line, leave of tasks and test networks; None: all."""

    tasks: list[str] | None
    networks: PositiveInt | None


@dataclass(frozen=True)
class Study:
    """A file of ``conf/study``."""

    name: str
    title: str
    plan: Plan
    tasks: Mapping[str, Task]
    arms: Mapping[str, Arm]
    networks: Networks = NO_NETWORK
    claims: Claims | None = None

    def overrides(self, texts: list[str]) -> list[str]:
        """Return overrides with the steps that they name."""
        return [filled(text, self.plan.steps, f"{self.name}.steps") for text in texts]


def load(name: str, quick: bool = False, seeds: int | None = None, less: Mapping[str, Any] | None = None) -> Study:
    """Read ``conf/study/NAME.yaml``, or a file of the user's.

    Parameters
    ----------
    name
        The study (``-`` and ``_`` are the same), or the path of a YAML file of the same form.
    quick
        Take the file's key ``quick`` for seeds and steps.
    seeds
        Number of final seeds instead of the file's.
    less
        Names of ``tasks`` and a number of test ``networks``, instead of all.

    Raises
    ------
    UserError
        No such study, a wrong key, arms with different numbers of candidates, or seeds that serve both purposes.
    """
    values = SIZES | _read(name)
    name = Path(name).stem.replace("-", "_")
    usual, final = {key: values[key] for key in PLAN}, {"seeds": seeds} if seeds else {}
    plan, fewer = bind(Plan, usual | final, name), dict(LESS)
    if quick:  # its budget comes after the study's, so that it changes single keys
        cut = values["quick"]
        small = bind(
            Plan, usual | {"budget": []} | {k: v for k, v in cut.items() if k not in LESS} | final, f"{name}.quick"
        )
        plan, fewer = replace(small, budget=[*plan.budget, *small.budget]), LESS | {k: cut[k] for k in LESS if k in cut}
    left = bind(
        Less, fewer | {k: v for k, v in (less or {}).items() if v is not None}, f"{name}.quick" if quick else name
    )
    for task in left.tasks or ():
        choice(task, values["tasks"], f"{name}.tasks")
    study = Study(
        name,
        str(values["title"]),
        plan,
        {k: bind(Task, each, f"{name}.tasks.{k}") for k, each in values["tasks"].items() if k in (left.tasks or [k])},
        {key: bind(Arm, arm, f"{name}.arms.{key}") for key, arm in values["arms"].items()},
        read_networks(values.get("networks"), f"{name}.networks").cut(left.networks),
        read_claims(values, name),
    )
    _check(study)
    return study


def _check(study: Study) -> None:
    """Raise ``UserError`` for candidates that cannot be read, unequal tuning, or seeds that serve both purposes."""
    name = study.name
    for key, arm in study.arms.items():
        for k, candidate in enumerate(arm.candidates):
            where = f"{name}.arms.{key}.candidates[{k}]"
            require(len(words(candidate, where)) > 0, where, "is empty; write key=value")
            study.overrides(words(candidate, where))
        study.overrides(arm.overrides)
        alike = len(set(arm.spelled)) == len(arm.candidates)
        require(alike, f"{name}.arms.{key}.candidates", "has the same candidate twice")
    counts = {arm: len(each.candidates) for arm, each in study.arms.items()}
    require(len(set(counts.values())) == 1, f"{name}.arms", f"tuning budgets differ: {counts}; give each as many")
    shared = sorted(set(study.plan.tuning_seeds) & set(range(study.plan.seeds)))
    require(not shared, f"{name}.tuning_seeds", f"{shared} are final seeds too; choose others")
    require(study.networks.given or study.claims is None, f"{name}.claims", "needs networks: they are its units")


def known() -> list[str]:
    """Return the names of the studies of the package."""
    return sorted(each.stem for each in (paths.conf_dir() / "study").glob("*.yaml"))


def _read(name: str) -> dict[str, Any]:
    file = Path(name)
    if file.suffix not in (".yaml", ".yml"):
        choice(name.replace("-", "_"), known(), "--study")
        file = paths.conf_dir() / "study" / f"{name.replace('-', '_')}.yaml"
    if not file.is_file():
        there = "a folder, not a file" if file.is_dir() else "no such file"
        raise UserError(f"--study {file}: {there}; give a YAML file, or one of the studies {', '.join(known())}")
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--study {file}: cannot be read: {error.strerror}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"--study {file}: {str(error).splitlines()[0]}") from None
    require(isinstance(values, dict), f"--study {file}", "is no mapping of keys; docs/use.md shows a study")
    missing = [key for key in REQUIRED if key not in values]
    require(not missing, f"{file}", f"lacks {', '.join(missing)}; docs/use.md shows a study")
    unknown = sorted(set(values) - set(KEYS))
    require(not unknown, f"{file}", f"unknown key {', '.join(unknown)}; there are {', '.join(KEYS)}")
    for key, each in ((key, values[key]) for key in ("tasks", "arms", "quick")):
        require(isinstance(each, dict) and len(each) > 0, f"{file.stem}.{key}", f"must be a mapping, got {each!r}")
    return dict(values)
