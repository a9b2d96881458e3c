"""The rows of a table of ``protocol=fate``: the trained policy, and the optimum and rules that need no training.

Letters: S policies, B episodes, G genes, R tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from perturbrl import registry, rng, status
from perturbrl.envs.fate.config import FateEnvConfig
from perturbrl.envs.fate.environment import FREE, FateEnv
from perturbrl.evaluate.actions import Act
from perturbrl.evaluate.fate.config import FateProtocolConfig
from perturbrl.evaluate.fate.episodes import Episodes, n_episodes, run_episodes
from perturbrl.landscape.control.policies import baseline, next_action
from perturbrl.landscape.control.policy import Rule
from perturbrl.landscape.fate_task import FateTask

EXACT = ("optimum", "one_step_best")
RULES = ("greedy", "do_nothing")
RANDOM = "random"
Player = Callable[[FateEnv, int, Tensor], Tensor]
"""What takes the choices of policy k of an environment, given the observations [B, obs_dim]: actions [B]."""


@dataclass(frozen=True)
class Row:
    """One row: its numbers, and the share of episodes that passed each goal by each decision, [T + 1, K].

    ``pairs`` holds some of the numbers for each pair of source and target, [R].
    """

    numbers: Mapping[str, float]
    by_stage: np.ndarray[Any, np.dtype[np.float64]]
    pairs: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]] = field(default_factory=dict)
    diverged: bool = False


def unshaped(config: FateEnvConfig) -> FateEnvConfig:
    """Return the task whose rewards are scored: without shaping, which only helps to learn."""
    return replace(config, shaping="none", lure=None)


class FateRows:
    """Rows of one task; those that need no policy are computed once."""

    def __init__(self, env_config: FateEnvConfig, config: FateProtocolConfig) -> None:
        self.env_config, self.config = unshaped(env_config), config
        self._best: Tensor | None = None
        env = self._env(1, 1)
        self.tasks = env.tasks
        self.n_episodes = n_episodes(len(self.tasks), config.simulations, config.episodes)

    @property
    def is_exact(self) -> bool:
        """Whether optimum and one_step_best are computed: a Boolean network of few enough genes."""
        task = self.tasks[0]
        few = len(task.network.genes) <= self.config.exact_genes
        return task.dynamics == "boolean" and few and task.duration == "flip"

    @cached_property
    def references(self) -> dict[str, Row]:
        """The rows that need no training: optimum, greedy, one_step_best, random, do_nothing."""
        names = [*(EXACT if self.is_exact else ()), *RULES]
        with status.step("the optimum and the rules beside it"):
            players: dict[str, Player] = {name: self._player(name) for name in names}
        players[RANDOM] = _random(self.config.seed)
        episodes = self._episodes(list(players.values()))
        self._best = episodes.value[list(players).index("optimum")] if self.is_exact else None
        return {name: self._row(episodes, k) for k, name in enumerate(players)}

    def of(self, policy: Act | None) -> dict[str, Row]:
        """Return the row of a deterministic policy (None: one that diverged), then the others."""
        references = self.references
        if policy is None:
            nothing = references["do_nothing"]
            nan = dict.fromkeys(nothing.numbers, float("nan"))
            pairs = {name: np.full_like(values, np.nan) for name, values in nothing.pairs.items()}
            return {"policy": Row(nan, np.full_like(nothing.by_stage, np.nan), pairs, diverged=True), **references}
        episodes = self._episodes([lambda env, k, obs: policy(obs)])
        return {"policy": self._row(episodes, 0), **references}

    def _env(self, n_runs: int, n_envs: int) -> FateEnv:
        build = registry.envs[self.env_config.name].build
        env: FateEnv = build([self.env_config] * n_runs, None, None, n_envs, "cpu")
        return env

    def _episodes(self, players: Sequence[Player]) -> Episodes:
        env = self._env(len(players), self.n_episodes)

        def act(obs: Tensor) -> Tensor:
            return torch.stack([player(env, k, obs[k]) for k, player in enumerate(players)])

        return run_episodes(act, env, self.config.seed, self.config.max_steps)

    def _row(self, episodes: Episodes, k: int) -> Row:
        value, n = episodes.value[k], episodes.value.shape[1]
        columns = {
            "success_rate": episodes.reached,
            "control_length": episodes.length,
            "n_perturbed": episodes.n_perturbed,
            "return": episodes.value,
        }
        pairs = {name: episodes.of_tasks(column[k : k + 1])[0].numpy() for name, column in columns.items()}
        numbers = {name: float(means.mean()) for name, means in pairs.items()}
        reached = episodes.reached[k]
        numbers["steps_to_target"] = (
            float(episodes.length[k][reached].double().mean()) if bool(reached.any()) else np.nan
        )
        lost = torch.full_like(value, torch.nan) if self._best is None else self._best - value
        numbers |= {"regret": float(episodes.by_task(lost[None])[0]), "regret_se": float(lost.std() / n**0.5)}
        goals = torch.arange(1, len(self.tasks[0].goals) + 1)
        by_stage = (episodes.passed[k][..., None] >= goals).double().mean(0).numpy()
        return Row(numbers, by_stage, pairs)

    def _player(self, name: str) -> Player:
        # Tasks that differ in their start states only have one rule.
        places: list[Rule] = []
        for k, task in enumerate(self.tasks):
            same = next((i for i, other in enumerate(self.tasks[:k]) if other.target is task.target), None)
            places.append(baseline(name, task) if same is None else places[same])
        return _follow(places, self.tasks)


def _follow(rules: Sequence[Rule], tasks: Sequence[FateTask]) -> Player:
    """Return what follows the rule of each cell's task, [R] of both."""

    def act(env: FateEnv, k: int, obs: Tensor) -> Tensor:
        now = env.situation()
        plan = torch.full_like(now.chosen[k], FREE)
        state = torch.stack([now.task[k], now.progress[k], now.decision[k]], 1)
        for task, goal, decision in np.unique(state.numpy(), axis=0).tolist():
            cells = (state == torch.tensor([task, goal, decision])).all(1)
            plan[cells] = rules[task].plan(now.levels[k][cells], goal, decision, 0)
        return next_action(tasks[0], plan, now.chosen[k] != FREE)

    return act


def _random(seed: int) -> Player:
    """Return what draws uniformly among the allowed actions."""
    generator = torch.Generator().manual_seed(rng.derive(seed, "evaluate", "random_choices"))

    def act(env: FateEnv, k: int, obs: Tensor) -> Tensor:
        allowed = env.action_space.allowed(obs)
        assert allowed is not None
        return torch.multinomial(allowed.float(), 1, generator=generator)[:, 0]

    return act
