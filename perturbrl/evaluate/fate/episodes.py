"""Whole episodes of ``env=fate``: the same number from each source to each target, on the same draws for every policy.

Letters: S policies, B episodes, R tasks (pairs of source and target), T decisions, K goals (stages and target).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from perturbrl.envs.fate.environment import U_TASK, FateEnv
from perturbrl.errors import UserError
from perturbrl.evaluate.actions import PopulationAct
from perturbrl.evaluate.returns import uniforms
from perturbrl.rng import Streams


@dataclass(frozen=True)
class Episodes:
    """What became of the episodes of S policies, each [S, B].

    ``value`` is the sum of rewards, discounted for each decision as the task says; ``reached`` whether the target was
    reached; ``length`` the number of decisions; ``n_perturbed`` the genes of all of them. ``passed`` [S, B, T + 1]
    counts the goals that were passed by t decisions. ``task`` [B] is the number of
    the task.
    """

    value: Tensor
    reached: Tensor
    length: Tensor
    n_perturbed: Tensor
    passed: Tensor
    task: Tensor

    def of_tasks(self, values: Tensor) -> Tensor:
        """Return the mean over the episodes of each task of ``values`` [S, B]: [S, R] float64, NaN of none."""
        n = torch.bincount(self.task)
        sums = torch.zeros(len(values), len(n), dtype=torch.float64).index_add_(1, self.task, values.double())
        return sums / n

    def by_task(self, values: Tensor) -> Tensor:
        """Return the mean over tasks of ``of_tasks``, [S] float64."""
        return self.of_tasks(values)[:, torch.bincount(self.task) > 0].mean(1)


def n_episodes(n_tasks: int, simulations: int, episodes: int) -> int:
    """Return B: so many for each task that there are ``simulations`` of each and ``episodes`` in all."""
    return n_tasks * max(simulations, -(-episodes // n_tasks))


def run_episodes(act: PopulationAct, env: FateEnv, seed: int, max_steps: int) -> Episodes:
    """Run one episode of each cell of ``env``; cell b has the task b modulo R, and fewer than R cells tasks far apart.

    Raises
    ------
    UserError
        An episode has not ended after ``max_steps`` steps.
    """
    streams, device = Streams([seed], "cpu"), env.device
    n_tasks = len(env.tasks)
    cell = torch.arange(env.n_envs)
    task = cell % n_tasks if env.n_envs >= n_tasks else cell * n_tasks // env.n_envs
    u = uniforms(streams, env, "evaluate/reset", 0, device).clone()
    u[..., U_TASK] = ((task + 0.5) / n_tasks).to(device)
    shape, discount = (env.n_runs, env.n_envs), env.tasks[0].discount
    value = torch.zeros(shape, dtype=torch.float64, device=device)
    reached, live = (torch.full(shape, on, device=device) for on in (False, True))
    length, n_perturbed = (torch.zeros(shape, dtype=torch.int64, device=device) for _ in range(2))
    decisions = torch.arange(env.config.n_decisions + 1, device=device)
    passed = torch.zeros(*shape, len(decisions), dtype=torch.int64, device=device)
    with torch.no_grad():
        obs = env.reset(u)
        for t in range(max_steps):
            action = act(obs)
            now = env.situation()
            step = env.step(action, uniforms(streams, env, "evaluate/step", t, device))
            decided, after = live & env.outcome.decided, now.progress + env.outcome.passed
            value += torch.where(live, step.reward.double() * discount**now.decision, 0.0)
            n_perturbed += live & (action != env.tasks[0].done)
            length += decided
            passed = torch.where(decided[..., None] & (decisions > now.decision[..., None]), after[..., None], passed)
            reached |= live & env.outcome.reached
            live &= ~(step.terminated | step.truncated)
            if not bool(live.any()):
                return Episodes(value.cpu(), reached.cpu(), length.cpu(), n_perturbed.cpu(), passed.cpu(), task)
            obs = step.obs
    raise UserError(f"protocol.max_steps: an episode has not ended after {max_steps} steps; allow more")
