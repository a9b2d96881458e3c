"""The runs of a study: every arm and candidate on every task and network, composed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perturbrl.runner.hydra.compose import compose
from perturbrl.runner.naming import run_path
from perturbrl.runner.study import Study
from perturbrl.runner.study_words import spelled, words
from perturbrl.runner.sweep import Composed

TOGETHER = 6  # networks


@dataclass(frozen=True)
class Tuned:
    """A candidate of an arm on a task, and its mean score over the tuning runs (minus infinity if one diverged)."""

    task: str
    arm: str
    candidate: str
    score: float


@dataclass(frozen=True)
class StudyRun:
    """A run of a study: what it is of, and its composed config. ``network`` is empty where a study names none."""

    task: str
    network: str
    arm: str
    candidate: str
    seed: int
    composed: Composed


@dataclass(frozen=True)
class Trained:
    """A finished run of a study: what it is of, and its folder."""

    task: str
    network: str
    arm: str
    seed: int
    path: Path

    @staticmethod
    def of(run: StudyRun) -> Trained:
        """Return a run without its config, of which a large study has too many to hold."""
        return Trained(run.task, run.network, run.arm, run.seed, run.composed.path)


def parts(study: Study) -> list[tuple[list[str], list[str]]]:
    """Return the tasks and networks of the comparison that are composed, trained and evaluated together.

    A study without networks is one part; of others a part is one task on a few networks.
    """
    tasks, networks = list(study.tasks), list(study.networks.test)
    if not study.networks.given:
        return [(tasks, networks)]
    few = [networks[k : k + TOGETHER] for k in range(0, len(networks), TOGETHER)]
    return [([task], some) for task in tasks for some in few]


def tuning_runs(study: Study, tasks: Sequence[str], out: Path, overrides: Sequence[str]) -> Iterator[StudyRun]:
    """Yield the runs by which settings are chosen: every candidate on every validation network."""
    for task in tasks:
        for arm, each in study.arms.items():
            for candidate in each.spelled:
                for network in study.networks.tuning:
                    yield from _runs(study, "tuning", (task, network, arm, candidate), out, overrides)


def final_runs(
    study: Study,
    best: Mapping[tuple[str, str], Tuned],
    part: tuple[Sequence[str], Sequence[str]],
    out: Path,
    overrides: Sequence[str],
) -> Iterator[StudyRun]:
    """Yield the runs of a part of the comparison, those of one network after another."""
    for task in part[0]:
        for network in part[1]:
            for arm in study.arms:
                yield from _runs(study, "final", (task, network, arm, best[task, arm].candidate), out, overrides)


def _runs(
    study: Study, phase: str, place: tuple[str, str, str, str], out: Path, overrides: Sequence[str]
) -> Iterator[StudyRun]:
    """Compose a run once, and give it each seed: to compose takes a fifth of a second."""
    task, network, arm, candidate = place
    tuning = phase == "tuning"
    seeds = study.plan.tuning_seeds if tuning else range(study.plan.seeds)
    made = (study.networks.tuning if tuning else study.networks.test)[network].overrides
    (tried,) = (each for each in study.arms[arm].candidates if spelled(each) == candidate)
    tried_words = study.overrides(words(tried, f"{study.name}.arms.{arm}"))
    arm_words = study.overrides(study.arms[arm].overrides)
    implied = [*study.tasks[task].overrides, *study.plan.budget, *overrides]
    folder = f"{phase}/{task}"
    if study.networks.given:  # arms may be the same agent, and networks the same task, in all that labels have
        folder, implied, arm_words = f"{folder}/{network}/{arm}", [*implied, *made, *arm_words], []
    first = compose([*arm_words, *tried_words, f"seed={seeds[0]}"], out, folder, implied)
    for seed in seeds:
        config = copy.deepcopy(first.config)
        config.seed = seed
        composed = Composed(config, out / run_path(first.labels, seed), first.labels)
        yield StudyRun(task, network, arm, candidate, seed, composed)
