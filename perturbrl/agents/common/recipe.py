"""What every recipe is made of: the settings of S runs, networks, and optimisers that checkpoints know.

A recipe is one algorithm: ``update`` improves all S runs on one rollout. A ``LossRecipe`` needs a loss only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from perturbrl import bounds
from perturbrl.agents.common.critic import Critic
from perturbrl.agents.common.learner import Stateful, per_run, same
from perturbrl.agents.common.rollout import Log, Rollout
from perturbrl.agents.executors import PlainSteps
from perturbrl.agents.model.actor_critic import ActorCritic, PolicyConfig
from perturbrl.agents.model.heads import Heads, Model, gradient
from perturbrl.agents.optim import network_optimiser, strip_prefix, with_prefix
from perturbrl.envs.base import BatchedEnv
from perturbrl.rng import Streams

C = TypeVar("C")


class Settings:
    """The settings of S runs: numbers declared ``PerRun`` as tensors [S, 1], all others as they are."""

    def __init__(self, configs: Sequence[Any], device: torch.device) -> None:
        differing = bounds.per_run_keys(type(configs[0]))
        for key in (field.name for field in dataclasses.fields(configs[0])):
            if key in differing:
                setattr(self, key, per_run(configs, key, device))
            elif not dataclasses.is_dataclass(getattr(configs[0], key)):
                setattr(self, key, same(configs, key))

    def __getattr__(self, key: str) -> Any:
        raise AttributeError(f"the config has no key {key!r}")


class Recipe(Generic[C]):
    """One algorithm for S runs; a subclass writes ``update``.

    Parameters
    ----------
    configs
        The settings of the S runs, as their dataclass.
    model
        The networks that ``make_model`` built.
    streams
        Random numbers of the S runs.

    Attributes
    ----------
    c
        The settings as ``Settings``: those declared ``PerRun`` are tensors [S, 1].
    stateful
        Optimisers by the prefix of their tensors in a checkpoint; the empty name adds no prefix.
    notes
        Sentences that are printed when a run starts.
    """

    executor_name = "torch"

    def __init__(self, configs: Sequence[C], model: Model, streams: Streams) -> None:
        self.configs, self.model, self.streams = list(configs), model, streams
        self.c: Any = Settings(configs, streams.device)
        self.stateful: dict[str, Stateful] = {}
        self.notes: tuple[str, ...] = ()

    @classmethod
    def make_model(
        cls, policies: Sequence[PolicyConfig], env: BatchedEnv, slices: Mapping[str, slice], streams: Streams
    ) -> Model:
        """Build the networks of S runs.

        Override it for other networks: ``ModuleActorCritic.for_env`` takes ``torch.nn`` modules.

        Parameters
        ----------
        policies
            The settings ``policy`` of each run.
        env
            The environment; has ``obs_dim``, ``action_space`` and ``n_runs``.
        slices
            Columns of each modality within the observation.
        streams
            Random numbers of the S runs, one seed each.

        Returns
        -------
        Model
            With parameters ``theta`` [S, n] on the device of ``streams``.
        """
        return ActorCritic.for_env(policies, env, slices, streams)

    def update(self, batch: Rollout, iteration: int) -> Log:
        """Improve every run on its rollout.

        Parameters
        ----------
        batch
            M = T x B transitions of each run.
        iteration
            Number of the rollout from 0; a key of random streams.

        Returns
        -------
        Log
            Numbers to log by name, each [S]; the same names in every iteration of a stage.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no update")

    def orders(self, batch: Rollout, iteration: int, epochs: int) -> list[Tensor]:
        """Draw the order of the transitions in each epoch, each [S, M]."""
        return list(self.streams.permutations("minibatch", iteration, batch.ret.shape[1], epochs).unbind(1))

    def all_runs(self) -> Tensor:
        """Return the mask [S] in which every run takes part."""
        return torch.ones(len(self.configs), dtype=torch.bool, device=self.streams.device)

    @property
    def moments(self) -> dict[str, Stateful]:
        """The optimisers of the two networks, as ``policy`` and ``value``, whose moments a next stage may take over.

        Found are those of ``network_optimiser``, and that of a ``critic``; empty where there are none.
        """
        parts = list(self.stateful.values())
        named = {key: getattr(part, key) for part in parts for key in ("policy", "value") if hasattr(part, key)}
        critic: Critic | None = getattr(self, "critic", None)
        return named if critic is None else named | {"value": critic.adam}

    def watch(self, before: Recipe[Any], log: Log) -> None:
        """See what the stage ``before`` this one logs, each [S], rollout by rollout. The default does nothing."""

    def state(self) -> dict[str, Tensor]:
        """Return the tensors of the optimisers, each with a leading axis S."""
        named: dict[str, Tensor] = {}
        for name, part in self.stateful.items():
            named |= with_prefix(name, part.state()) if name else part.state()
        return named

    def optimiser_log(self) -> Log:
        """Return what the optimisers say of their steps since the last call, each [S]; the learner logs it."""
        logs = (part.optimiser_log() for part in self.stateful.values() if hasattr(part, "optimiser_log"))
        return {key: value for log in logs for key, value in log.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        for name, part in self.stateful.items():
            part.load_state(strip_prefix(name, state) if name else state)


class LossRecipe(Recipe[C]):
    """Minibatch Adam on a ``loss``; autograd differentiates it. The config needs ``lr``.

    ``epochs`` (default 1), ``minibatch`` (the whole rollout) and ``max_grad_norm`` (none) are read where it has them.
    With ``trains_critic = False`` the value network is neither computed nor changed.
    """

    trains_critic = True

    def __init__(self, configs: Sequence[C], model: Model, streams: Streams) -> None:
        super().__init__(configs, model, streams)
        self.adam = network_optimiser(model, configs)
        self.stateful = {"": self.adam}

    def loss(self, heads: Heads, batch: Rollout) -> Tensor:
        """Return the loss of a minibatch.

        Parameters
        ----------
        heads
            The networks on the minibatch: ``log_prob`` and ``value`` [S, M], ``entropy`` [S]; with gradients.
        batch
            M transitions of each run: ``obs``, ``action``, ``log_prob``, ``value``, ``advantage``, ``ret``.

        Returns
        -------
        Tensor
            To be minimised, [S]: average over M, never over S, because runs are independent.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no loss")

    def update(self, batch: Rollout, iteration: int) -> Log:
        """Take a step on each minibatch of each epoch; log the mean loss and entropy of the last."""
        executor = PlainSteps(self.step, getattr(self.c, "minibatch", batch.ret.shape[1]))
        steps: Log = {}
        for order in self.orders(batch, iteration, getattr(self.c, "epochs", 1)):
            steps, _ = executor.epoch(batch.reordered(order), None, logged=True)
        return {key: values.mean(1) for key, values in steps.items()}

    def heads(self, batch: Rollout) -> Heads:
        """Evaluate the networks on a minibatch; override it for a loss of the KL from an old policy."""
        return self.model.heads(batch.obs, batch.action, self.trains_critic)

    def step(self, batch: Rollout, active: Tensor | None) -> tuple[Log, Tensor | None]:
        """Take one step of Adam down the loss, in the runs of a mask [S] (None: all)."""
        heads = self.heads(batch)
        loss = self.loss(heads, batch)
        gradient(loss, heads)
        limit = getattr(self.c, "max_grad_norm", None)
        if limit is not None and not isinstance(limit, Tensor):
            limit = torch.full((len(self.configs), 1), float(limit), device=self.streams.device)
        scale = None if limit is None else self.model.arithmetic.clip_scale(self.model.grad, limit)
        self.adam.step(self.model.grad, active, scale)
        return {"loss": loss.detach(), "entropy": heads.entropy.detach()}, active
