"""Build environment, networks and agent for jobs of one signature."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from perturbrl import registry
from perturbrl.agents.common.learner import Learner
from perturbrl.agents.model.heads import Model
from perturbrl.envs.base import BatchedEnv
from perturbrl.envs.factory import Table, observed_slices, training_cells
from perturbrl.rng import Streams
from perturbrl.runner.job import Job
from perturbrl.runner.machine import Shape, require_training_memory


def build_learner(jobs: Sequence[Job], table: Table, device: torch.device) -> Learner:
    """Build environment and agent for S jobs of one signature.

    Raises
    ------
    UserError
        The task does not fit the cells, or the device cannot hold the runs.
    """
    configs = [job.config for job in jobs]
    env, streams = _environment(jobs, table, configs[0].agent.n_envs, device), _streams(jobs, device)
    require_training_memory(jobs[0], Shape(env.n_runs, env.obs_dim, env.action_space.size), device)
    build = registry.agents[configs[0].agent.name].build
    learner: Learner = build(
        [c.agent for c in configs], [c.policy for c in configs], env, observed_slices(env, table), streams
    )
    return learner


def build_model(job: Job, table: Table, device: torch.device) -> tuple[Model, int]:
    """Build the networks of one job, without optimisers if the agent has ``make_model``; and G, what they observe."""
    env = _environment([job], table, 1, device)
    make = getattr(registry.agents[job.config.agent.name].build, "make_model", None)
    if make is None:
        return build_learner([job], table, device).model, env.obs_dim
    model: Model = make([job.config.policy], env, observed_slices(env, table), _streams([job], device))
    return model, env.obs_dim


def _environment(jobs: Sequence[Job], table: Table, n_envs: int, device: torch.device) -> BatchedEnv:
    configs = [job.config.env for job in jobs]
    env: BatchedEnv = registry.envs[configs[0].name].build(configs, table, training_cells(table), n_envs, device)
    return env


def _streams(jobs: Sequence[Job], device: torch.device) -> Streams:
    return Streams([job.config.seed for job in jobs], device)
