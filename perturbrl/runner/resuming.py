"""Does a run that goes on from a checkpoint equal an unbroken one? Tried when a plugin's agent or task first trains."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from perturbrl import __version__, files, paths, registry, status
from perturbrl.agents.common.learner import Learner
from perturbrl.envs.factory import Table
from perturbrl.errors import UserError
from perturbrl.runner.build import build_learner
from perturbrl.runner.job import Job

State = dict[str, Tensor]
ROLLOUTS = 3  # of the trial: a checkpoint after the first, and two more
ON_GPU = {"rtol": 1e-4, "atol": 1e-5}  # sums of a GPU may depend on their order
PARTS = {
    "agent": "self.stateful must hold all that update changes, and self.streams give all random numbers",
    "env": "state() must hold all that step changes, and u give all random numbers",
}


def require_resumable(jobs: Sequence[Job], table: Table, device: torch.device) -> None:
    """Train a few rollouts with and without a break if the agent or the task is a plugin not tried before.

    The result is remembered in the cache, for the code and settings that were tried.

    Raises
    ------
    UserError
        The two runs differ, or the state of one cannot be saved or loaded.
    """
    code = {kind: module for kind, module in _modules(jobs[0]).items() if not module.startswith("perturbrl.")}
    if not code:
        return
    mark = paths.cache_dir() / "resumable" / _digest(jobs[0], code.values())
    if mark.exists():
        return
    names = {kind: getattr(jobs[0].config, kind).name for kind in code}
    with status.step(f"trying whether {_spelled(names)} goes on from a checkpoint"):
        states = unbroken(lambda: build_learner(jobs[:1], table, device), ROLLOUTS)
        require_same(lambda: build_learner(jobs[:1], table, device), states, names, [1] if len(states) > 2 else [])
    with contextlib.suppress(OSError):
        files.write_text(mark, f"{_spelled(names)}\n")


def unbroken(build: Callable[[], Learner], rollouts: int) -> list[State]:
    """Train a new learner; return its state as a checkpoint holds it, at the start and after each rollout."""
    learner = build()
    states = [_saved(learner)]
    for iteration in range(min(rollouts, learner.n_iterations)):
        learner.iterate(iteration)
        states.append(_saved(learner))
    return states


def require_same(
    build: Callable[[], Learner], states: Sequence[State], names: Mapping[str, str], breaks: Iterable[int]
) -> None:
    """Go on from the state after each number of rollouts in ``breaks``, and compare with the states of ``unbroken``.

    States are compared as long as parameters are finite. ``names`` are the agent and the task that may be at fault, for
    the message.

    Raises
    ------
    UserError
        The states differ, or one cannot be saved or loaded.
    """
    advice = "; ".join(PARTS[kind] for kind in names)
    for start in breaks:
        learner = build()
        try:
            learner.load_state({name: tensor.clone() for name, tensor in states[start].items()})
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise UserError(f"{_spelled(names)}: the state of a checkpoint cannot be loaded ({reason})") from error
        for iteration in range(start, len(states) - 1):
            if not bool(torch.isfinite(states[iteration + 1]["theta"]).all()):
                break  # the run diverges, and would end here
            learner.iterate(iteration)
            if found := first_difference(states[iteration + 1], _saved(learner), learner.model.theta.device):
                raise UserError(
                    f"{_spelled(names)}: a run that goes on from a checkpoint would differ from an unbroken one "
                    f"({found} at rollout {iteration + 1}); {advice}"
                )


def first_difference(one: State, other: State, device: torch.device, **tolerance: float) -> str:
    """Name a tensor in which two states differ, and by how much; empty if there is none.

    They are compared bit for bit on a CPU, unless there is a ``tolerance``.
    """
    if missing := sorted(one.keys() ^ other.keys()):
        return f"only one has {missing[0]}"
    limits = tolerance or ({"rtol": 0.0, "atol": 0.0} if device.type == "cpu" else ON_GPU)
    for name, tensor in one.items():
        if not torch.allclose(tensor.double(), other[name].double(), equal_nan=True, **limits):
            gap = (tensor.double() - other[name].double()).abs().nan_to_num().max().item()
            return f"{name} by {gap:.2g}"
    return ""


def _saved(learner: Learner) -> State:
    """Return the state of a learner as the checkpoint of its first run holds it."""
    runs, state = learner.model.theta.shape[0], {}
    for name, tensor in learner.state().items():
        if tensor.dim() and tensor.shape[0] != runs:
            shape = tuple(tensor.shape)
            raise UserError(f"state(): {name} has the shape {shape}; its first axis must be the {runs} runs")
        state[name] = (tensor[:1] if tensor.dim() else tensor).clone()
    return state


def _modules(job: Job) -> dict[str, str]:
    """Return the modules that build the agent and the task; of an agent of stages, that of a plugin's stage."""
    agent = job.config.agent
    names = [agent.name, *(name for name, _ in getattr(agent, "budgets", ()))]
    modules = [registry.agents[name].build.__module__ for name in names]
    foreign = [module for module in modules if not module.startswith("perturbrl.")]
    return {"agent": [*foreign, *modules][0], "env": registry.envs[job.config.env.name].build.__module__}


def _digest(job: Job, modules: Iterable[str]) -> str:
    digest = hashlib.sha256(f"{__version__} {torch.__version__} {job.signature}".encode())
    for file in _files(modules):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _files(modules: Iterable[str]) -> Iterator[Path]:
    for module in modules:
        file = getattr(sys.modules.get(module), "__file__", None)
        if file is not None:
            yield Path(file)


def _spelled(names: Mapping[str, str]) -> str:
    return ", ".join(f"{kind}={name}" for kind, name in names.items())
