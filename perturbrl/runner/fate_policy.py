"""The sets of perturbations that trained runs of ``env=fate`` choose first. Letters: n start states, G genes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from perturbrl.envs.fate.config import FateEnvConfig
from perturbrl.envs.fate.environment import FREE, FateEnv
from perturbrl.envs.fate.tasks import landscape
from perturbrl.errors import UserError, one_of, require
from perturbrl.generators.cells import CellGenerator
from perturbrl.landscape.evolution import evolution
from perturbrl.landscape.plan.outcomes import Question
from perturbrl.landscape.plan.result import Perturbation
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.evaluate import load_policy
from perturbrl.runner.job import Job
from perturbrl.runner.runs import load


def proposals(run: Path, question: Question, max_perturb: int) -> tuple[Perturbation, ...]:
    """Return the sets that the policies of the runs below ``run`` choose at the start states, most frequent first.

    Only the first decision of an episode is asked for. The choices of several runs (seeds) are put together.

    Raises
    ------
    UserError
        There is no finished run, it is one of another task, network or target, or all its sets are too large.
    """
    jobs = load(run).jobs
    weight: dict[Perturbation, float] = {}
    for job in jobs:
        for one, share in zip(_chosen(job, question), question.weights.tolist(), strict=True):
            weight[one] = weight.get(one, 0.0) + share
    found = sorted(weight, key=lambda one: (-weight[one], one))
    small = tuple(one for one in found if one and len(one) <= max_perturb)
    most = max(map(len, found))
    too_large = f"all sets of {run} have more than {max_perturb} genes; give --max-perturb {most}"
    require(bool(small) or most <= max_perturb, "--max-perturb", too_large)
    return small


def _chosen(job: Job, question: Question) -> list[Perturbation]:
    """Return the set that the policy of a run chooses at each of the n start states."""
    config = job.config.env
    if not isinstance(config, FateEnvConfig):
        raise UserError(f"{job.path}: a run of env={config.name}; method=policy needs one of env=fate")
    env = FateEnv([config], len(question.start), "cpu")
    here = f"{job.path}: its network"
    same = env.tasks[0].network.genes == question.network.genes
    require(same, here, f"{config.network} has other genes than {question.network.name or 'that of the plan'}")
    seen = config.observation == "state"
    require(seen, f"{job.path}", "its policy observes counts of molecules; method=policy needs env.observation=state")
    _place(env, _task(env, question, job), question.start)
    act = load_policy(job, load_cells(job))
    if isinstance(act, CellGenerator):
        raise UserError(f"{job.path}: generates cells; method=policy needs a run with a policy")
    chosen: list[dict[str, bool]] = [{} for _ in question.start]
    open_ = torch.ones(len(question.start), dtype=torch.bool)
    obs, levels = env.observe(), question.start.float()
    for _ in range(config.max_perturb):
        action = act(obs[0])
        open_ &= action != env.tasks[0].done
        gene, value = env.tasks[0].perturbation(action.where(open_, 0), levels)
        for k in open_.nonzero()[:, 0].tolist():
            chosen[k][question.network.genes[int(gene[k])]] = bool(value[k])
        obs = env.step(action[None], torch.full((1, len(levels), env.n_uniforms), 0.5)).obs
    place = {name: g for g, name in enumerate(question.network.genes)}
    return [tuple(sorted(one.items(), key=lambda change: place[change[0]])) for one in chosen]


def _task(env: FateEnv, question: Question, job: Job) -> int:
    """Return the number of the first task of ``env`` whose target lies within that of the question."""
    targets: Sequence[Tensor] = [task.target.patterns for task in env.tasks]
    for number, patterns in enumerate(targets):
        inside = all(any(_within(small, large) for large in question.target.patterns) for small in patterns)
        if inside:
            return number
    known = one_of(dict.fromkeys(task.target.name for task in env.tasks))
    raise UserError(f"{job.path}: was not trained to reach {question.target.name!r}; its targets are {known}")


def _within(small: Tensor, large: Tensor) -> bool:
    """Return whether every state of the pattern ``small`` [G] is one of the pattern ``large`` [G]."""
    return bool(((large < 0) | (large == small)).all())


def _place(env: FateEnv, task: int, start: Tensor) -> None:
    """Put the cells of ``env`` into the states ``start`` [n, G], at the beginning of an episode of ``task``."""
    cells = evolution(env.tasks[0], lambda: landscape(env.config).settled, "cpu").start(start)
    state = env.state()
    state |= {"cells": cells[None], "seen": start[None].float(), "task": torch.full_like(state["task"], task)}
    state |= {name: torch.full_like(state[name], FREE) for name in ("chosen", "held")}
    state |= {name: torch.zeros_like(state[name]) for name in ("decision", "progress")}
    env.load_state(state)
