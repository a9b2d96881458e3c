"""The loop that every agent shares: S runs of one algorithm, in one or more stages, and helpers for their settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from perturbrl.agents.common.rollout import Collector, Grouping, Log, Rollout, Teacher
from perturbrl.agents.model.heads import Model
from perturbrl.agents.optim import strip_prefix, with_prefix
from perturbrl.config import require
from perturbrl.envs.base import BatchedEnv
from perturbrl.rng import Streams


class Stateful(Protocol):
    """What keeps tensors that a checkpoint needs."""

    def state(self) -> dict[str, Tensor]:
        """Return the tensors, each with a leading axis S."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        ...


class Update(Stateful, Protocol):
    """How a policy is improved on one rollout. ``recipe.Recipe`` is the usual one."""

    def update(self, batch: Rollout, iteration: int) -> Log:
        """Improve every run on its batch; return what to log, each [S]."""
        ...


@dataclass(frozen=True)
class Stage:
    """Some rollouts in a row that are used in one way.

    ``begin`` runs once, before the first of them; ``after`` sees the log of each. ``teacher`` returns the actions
    [S, B, A] that are taken instead of the policy's, if there is one.
    """

    name: str
    total_steps: int
    gamma: Tensor
    gae_lambda: Tensor
    recipe: Update
    begin: Callable[[], None] = lambda: None
    after: Callable[[Log], None] = lambda log: None
    teacher: Teacher | None = None

    @staticmethod
    def of(name: str, configs: Sequence[Any], recipe: Update, device: torch.device) -> Stage:
        """Return a stage whose budget and discounts are those of the configs of S runs.

        A config without ``gae_lambda`` takes plain discounted returns (lambda = 1).
        """
        gamma = per_run(configs, "gamma", device)
        gae_lambda = per_run(configs, "gae_lambda", device) if hasattr(configs[0], "gae_lambda") else None
        lam = torch.ones_like(gamma) if gae_lambda is None else gae_lambda
        return Stage(name, int(same(configs, "total_steps")), gamma, lam, recipe)

    @property
    def executor(self) -> str:
        """Name of what takes the steps of this stage: ``torch``, ``native`` or ``graph``."""
        return str(getattr(self.recipe, "executor_name", "torch"))

    @property
    def groups(self) -> Grouping | None:
        """How episodes are grouped, for a recipe without a critic."""
        groups: Grouping | None = getattr(self.recipe, "groups", None)
        return groups

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for whoever starts a run of this stage."""
        return tuple(getattr(self.recipe, "notes", ()))


class Learner:
    """S runs of one algorithm: each iteration collects a rollout with every policy and improves it.

    A stage starts from fresh episodes, as a new call of ``learn`` does in Stable-Baselines3.

    Parameters
    ----------
    model
        The networks of the S runs.
    env
        S x B cells, stepped together.
    streams
        Random numbers of the S runs.
    rollout_steps
        M = T x B environment steps of one run in one iteration; a multiple of B.
    stages
        In the order in which they are trained.
    """

    def __init__(
        self, model: Model, env: BatchedEnv, streams: Streams, rollout_steps: int, stages: Sequence[Stage]
    ) -> None:
        self.model, self.env, self.stages = model, env, tuple(stages)
        self.steps_per_iteration = rollout_steps
        self.collector = Collector(model, env, streams, rollout_steps // env.n_envs)
        # a stage is charged whole rollouts, rounded up, as in Stable-Baselines3
        self._ends = [0]
        for stage in self.stages:
            self._ends.append(self._ends[-1] - (-stage.total_steps // rollout_steps))

    @property
    def n_iterations(self) -> int:
        """Number of rollouts in all stages."""
        return self._ends[-1]

    def stage_of(self, iteration: int) -> Stage:
        """Return the stage to which an iteration belongs."""
        return next(s for s, end in zip(self.stages, self._ends[1:], strict=True) if iteration < end)

    def iterate(self, iteration: int) -> Log:
        """Collect one rollout and improve every run on it.

        Parameters
        ----------
        iteration
            Number of the rollout, from 0 to ``n_iterations`` - 1.

        Returns
        -------
        Log
            Numbers to log, each [S]; ``return_mean`` is the mean return of episodes, NaN before the first has ended.
        """
        stage = self.stage_of(iteration)
        if iteration in self._ends:
            with torch.no_grad():
                stage.begin()
                self.collector.reset(iteration)
        with torch.no_grad():
            batch = self.collector.collect(iteration, stage.gamma, stage.gae_lambda, stage.teacher, stage.groups)
        with torch.enable_grad():  # whatever the caller has set: an update may use autograd
            log = stage.recipe.update(batch, iteration)
        log |= getattr(stage.recipe, "optimiser_log", dict)()
        with torch.no_grad():
            stage.after(log)
        return {"return_mean": self.collector.episodes.last} | {key: value.detach() for key, value in log.items()}

    def state(self) -> dict[str, Tensor]:
        """Return every tensor a checkpoint needs, each with a leading axis S."""
        named = {"theta": self.model.theta} | with_prefix("collector", self.collector.state())
        for stage in self.stages:
            named |= with_prefix(stage.name, stage.recipe.state())
        return {name: tensor.detach() for name, tensor in named.items()}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        self.model.theta.copy_(state["theta"])
        self.collector.load_state(strip_prefix("collector", state))
        for stage in self.stages:
            stage.recipe.load_state(strip_prefix(stage.name, state))


def per_run(configs: Sequence[Any], key: str, device: torch.device) -> Tensor:
    """Collect a number that may differ from run to run, [S, 1]."""
    return torch.tensor([[float(getattr(c, key))] for c in configs], device=device)


def same(configs: Sequence[Any], key: str) -> Any:
    """Return a setting that shapes the computation, and so must be the same in a population."""
    values = {getattr(c, key) for c in configs}
    assert len(values) == 1, f"{key} differs within a population: {values}"
    return values.pop()


def check_rollout(where: str, rollout_steps: int, n_envs: int, minibatch: int) -> None:
    """Refuse a rollout that is no whole number of steps and of minibatches."""
    message = f"{rollout_steps} is not a multiple of n_envs = {n_envs}"
    require(rollout_steps % n_envs == 0, f"{where}.rollout_steps", message)
    message = f"{minibatch} does not divide rollout_steps = {rollout_steps}"
    require(rollout_steps % minibatch == 0, f"{where}.minibatch", message)
