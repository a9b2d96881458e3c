"""The loop of an agent that learns from a replay buffer: S runs step their cells, and train in between.

Letters: S runs, T steps of one iteration, B cells, M transitions of a gradient step, A action size.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from perturbrl.agents.common.rollout import Collector, Log
from perturbrl.agents.optim import strip_prefix, with_prefix
from perturbrl.agents.sac.networks import SACNetworks
from perturbrl.agents.sac.replay import Replay, Transitions
from perturbrl.agents.settings.sac import SACConfig
from perturbrl.envs.base import BatchedEnv
from perturbrl.memory import readable
from perturbrl.rng import Streams


class GradientSteps(Protocol):
    """An algorithm that improves S runs on batches of their replay buffers; also the one stage of the loop."""

    name: str
    executor: str
    notes: tuple[str, ...]
    model: SACNetworks

    def step(self, batch: Transitions, noise: Tensor) -> Log:
        """Take one gradient step; return what to log, each [S]."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return the tensors a checkpoint needs beside ``theta``, each with a leading axis S."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        ...


class ReplayLearner:
    """S runs of one off-policy algorithm, with the interface of ``common.learner.Learner``.

    An iteration is T steps of every cell. After every ``train_freq`` of them come ``gradient_steps`` gradient steps, so
    that there are gradient_steps / (train_freq x B) of them for each environment step.

    Every random number is keyed by the number of the iteration or of the gradient step, so none is saved.
    """

    def __init__(self, algorithm: GradientSteps, config: SACConfig, env: BatchedEnv, streams: Streams) -> None:
        self.algorithm, self.model, self.config = algorithm, algorithm.model, config
        self.env, self.streams = env, streams
        self.stages = (algorithm,)
        self.steps_per_iteration = config.rollout_steps
        self.n_iterations = -(-config.total_steps // config.rollout_steps)
        self._steps = config.rollout_steps // env.n_envs
        model: Any = algorithm.model  # the collector would ask it for a rollout, which is not done here
        self.collector = Collector(model, env, streams, self._steps)
        self.replay = Replay(env, config.kept_steps, streams.device)
        size = readable(self.replay.n_bytes / env.n_runs)
        note = f"the replay buffer holds {config.kept_steps * env.n_envs:,} transitions, {size} a run"
        algorithm.notes = (f"{note}; checkpoints hold what is filled of it until the run is finished",)

    def stage_of(self, iteration: int) -> GradientSteps:
        """Return the only stage."""
        return self.algorithm

    @torch.no_grad()
    def iterate(self, iteration: int) -> Log:
        """Take T steps of every cell, and the gradient steps that belong to them.

        Parameters
        ----------
        iteration
            From 0 to ``n_iterations`` - 1.

        Returns
        -------
        Log
            Numbers to log, each [S]: means over gradient steps; before training starts ``return_mean`` alone.
        """
        env, config, replay = self.env, self.config, self.replay
        if iteration == 0:
            self.collector.reset(0)
            replay.start(self.collector.obs)
        u = self.streams.uniform("env", iteration, (self._steps, env.n_envs, env.n_uniforms))
        actions = self._actions(iteration)
        now, done, rewards = self.collector.obs.clone(), [], []
        sums: Log = {}
        trained = 0
        for t in range(self._steps):
            action = actions(t, now)
            step = env.step(self.model.scaled(action), u[:, t])
            replay.add(action, step)
            now = step.obs
            rewards.append(step.reward)
            done.append(step.terminated | step.truncated)
            if replay.count * env.n_envs > config.learning_starts and replay.count % config.train_freq == 0:
                for k in range(config.gradient_steps):
                    log = self._train(replay.count // config.train_freq * config.gradient_steps + k)
                    sums = {key: sums[key] + value if trained else value for key, value in log.items()}
                    trained += 1
        self.collector.obs.copy_(now)
        self.collector.episodes.update(torch.stack(rewards, 1), torch.stack(done, 1))
        return {"return_mean": self.collector.episodes.last.clone()} | {k: x / trained for k, x in sums.items()}

    def _actions(self, iteration: int) -> Any:
        """Return what maps the step of an iteration and observations to actions in [-1, 1], [S, B, A]."""
        shape = (self._steps, self.env.n_envs, self.env.action_space.size)
        noise = self.streams.normal("action", iteration, shape)
        start = self.config.learning_starts
        early = iteration * self.steps_per_iteration < start
        drawn = self.streams.uniform("start", iteration, shape) * 2 - 1 if early else None

        def act(t: int, obs: Tensor) -> Tensor:
            if drawn is not None and self.replay.count * self.env.n_envs < start:
                return drawn[:, t]
            return self.model.policy(obs)[0].sample(noise[:, t]).action

        return act

    def _train(self, number: int) -> Log:
        batch, size = self.config.minibatch, self.env.action_space.size
        transitions = self.replay.sample(self.streams.uniform("replay", number, (2, batch)))
        return self.algorithm.step(transitions, self.streams.normal("update", number, (2, batch, size)))

    def state(self) -> dict[str, Tensor]:
        """Return every tensor that a checkpoint needs, each with a leading axis S."""
        named = {"theta": self.model.theta} | with_prefix("collector", self.collector.state())
        return named | with_prefix("sac", self.algorithm.state()) | with_prefix("replay", self.replay.state())

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        self.model.theta.copy_(state["theta"])
        self.collector.load_state(strip_prefix("collector", state))
        self.algorithm.load_state(strip_prefix("sac", state))
        if kept := strip_prefix("replay", state):  # a finished run has left it out
            self.replay.load_state(kept)
