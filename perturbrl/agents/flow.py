"""Conditional flow matching (Lipman et al. 2023, arXiv 2210.02747, eq. 9) as an agent that generates cells.

It does not act: it learns the cells of each training condition, and its effects are scored as a policy's are.
Letters: S runs, M cells of a minibatch, m cells of a group, G genes, K numbers of a condition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from perturbrl.agents.common.recipe import Settings
from perturbrl.agents.common.rollout import Log
from perturbrl.agents.model.actor_critic import PolicyConfig
from perturbrl.agents.optim import Adam, strip_prefix, with_prefix
from perturbrl.agents.settings.flow import FlowConfig
from perturbrl.config import require
from perturbrl.envs.base import BatchedEnv
from perturbrl.envs.counterfactual.populations import Populations
from perturbrl.generators.flow import FlowModel
from perturbrl.generators.mmd import mmd
from perturbrl.generators.path import grouped
from perturbrl.registry import agents
from perturbrl.rng import Streams

DRAWS = 6  # uniform numbers of a training cell: condition, control or not, cell, control cell, time, hidden or not


@dataclass(frozen=True)
class Batch:
    """Training cells in the space of the flow: ``cells``, ``control`` [S, M, G]; ``given`` [S, M, K], ``t`` [S, M]."""

    cells: Tensor
    control: Tensor
    given: Tensor
    t: Tensor


class Flow:
    """S flows in training. ``model.theta`` are the averaged parameters, which generate; ``theta`` those that learn."""

    name = "flow"
    executor = "torch"

    def __init__(self, configs: Sequence[FlowConfig], seen: Populations, streams: Streams) -> None:
        self.configs, self.seen, self.streams = tuple(configs), seen, streams
        self.c: Any = Settings(configs, streams.device)
        self.notes: tuple[str, ...] = ()
        both = torch.cat([seen.cells, seen.controls])
        self.model = FlowModel(configs[0].generator, both, seen.known.shape[1], streams.seeds)
        self.theta = self.model.theta.clone().requires_grad_()
        self.n_steps = -(-configs[0].total_steps // configs[0].rollout_steps) * self.steps_per_row
        self.adam = Adam(self.theta.detach(), [c.lr for c in configs], eps=1e-8)

    @property
    def steps_per_row(self) -> int:
        """Gradient steps between two rows of the log."""
        return self.configs[0].rollout_steps // self.configs[0].minibatch

    def batch(self, step: int) -> Batch:
        """Draw the training cells of a gradient step: conditions evenly, then cells evenly."""
        seen, group, size = self.seen, self.configs[0].group, self.configs[0].minibatch
        u = self.streams.uniform("flow/batch", step, (size, DRAWS))
        shared = u[:, ::group].repeat_interleave(group, 1)  # of a group: its condition
        condition = (shared[..., 0] * seen.allowed).long()
        is_control = shared[..., 1] < self.c.control_share
        at, n = seen.control_first[condition], seen.control_count[condition]
        beside = (u[..., 3] * n).long()
        other = (beside + 1 + (u[..., 2] * (n - 1)).long()) % n  # a control cell is not told by itself
        row = seen.first[condition] + (u[..., 2] * seen.count[condition]).long()
        cells = torch.where(is_control[..., None], seen.controls[at + other], seen.cells[row] - seen.begin[condition])
        known = torch.where(is_control[..., None], seen.known_control[condition], seen.known[condition])
        hidden = u[..., 5] < self.c.drop
        model = self.model
        given, control = model.conditions(known, hidden), model.standardised(seen.controls[at + beside])
        return Batch(model.standardised(cells), control, given, u[..., 4])

    def loss(self, theta: Tensor, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
        """Return the loss and its parts, each [S]: the squared error of the velocity, and the MMD of the endpoint."""
        path, group = self.model.path, self.configs[0].group
        start, control = path.pair(path.start(batch.control, noise), batch.control, batch.cells, group)
        t = batch.t.unsqueeze(-1)
        x = (1 - t) * start + t * batch.cells
        velocity = self.model.velocity(theta, x, batch.t, control, batch.given)
        error = (velocity - (batch.cells - start)).square().mean((1, 2))
        if not any(c.mmd for c in self.configs):
            return {"loss": error, "velocity_loss": error}
        end = x + (1 - t) * velocity
        distance = mmd(grouped(end, group), grouped(batch.cells, group)).mean(1)
        return {"loss": error + self.c.mmd.squeeze(1) * distance, "velocity_loss": error, "mmd": distance}

    def step(self, step: int) -> Log:
        """Take a gradient step; return what to log, each [S]."""
        noise = self.streams.normal("flow/noise", step, (self.configs[0].minibatch, len(self.model.mean)))
        with torch.enable_grad():
            parts = self.loss(self.theta, self.batch(step), noise)
            (grad,) = torch.autograd.grad(parts["loss"].sum(), self.theta)
        with torch.no_grad():
            norm = grad.norm(dim=1, keepdim=True)
            share = self.rate(step)
            rates = [c.lr * share for c in self.configs]
            self.adam.set_rates(rates)
            theta = self.theta.detach()
            theta.mul_(1 - self.c.weight_decay * self.c.lr * share)
            self.adam.step(grad, scale=(self.c.max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
            keep = self.c.ema.clamp(max=(1 + step) / (10 + step))  # early averages forget where the network began
            self.model.theta.lerp_(theta, 1 - keep)
        lr = torch.tensor(rates, device=norm.device)
        return {name: part.detach() for name, part in parts.items()} | {"grad_norm": norm.squeeze(1), "lr": lr}

    def rate(self, step: int) -> float:
        """Return the part of the learning rate that a gradient step takes."""
        if self.configs[0].lr_schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * step / self.n_steps))

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint needs beside the averaged parameters, each with a leading axis S."""
        return {"theta": self.theta.detach()} | with_prefix("adam", self.adam.state())

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        self.theta.detach().copy_(state["theta"])
        self.adam.load_state(strip_prefix("adam", state))


class FlowLearner:
    """S runs of flow matching, with the interface of ``common.learner.Learner``.

    A step is a training cell, so that budgets compare with the environment steps of other agents. Every random number
    is keyed by the number of the gradient step, so none is saved.
    """

    def __init__(self, flow: Flow, env: BatchedEnv) -> None:
        self.flow, self.model, self.env = flow, flow.model, env
        self.stages = (flow,)
        self.steps_per_iteration = flow.configs[0].rollout_steps
        self.n_iterations = flow.n_steps // flow.steps_per_row

    def stage_of(self, iteration: int) -> Flow:
        """Return the only stage."""
        return self.flow

    def iterate(self, iteration: int) -> Log:
        """Take the gradient steps of one row of the log; return their means, each [S]."""
        n = self.flow.steps_per_row
        if iteration == 0:  # from the parameters that the run starts with, whoever has set them
            self.flow.theta.detach().copy_(self.model.theta)
        logs = [self.flow.step(iteration * n + k) for k in range(n)]
        return {name: torch.stack([log[name] for log in logs]).mean(0) for name in logs[0]}

    def state(self) -> dict[str, Tensor]:
        """Return every tensor that a checkpoint needs, each with a leading axis S."""
        return {"theta": self.model.theta} | with_prefix("flow", self.flow.state())

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        self.model.theta.copy_(state["theta"])
        self.flow.load_state(strip_prefix("flow", state))


@agents.register("flow", FlowConfig)
def build(
    configs: Sequence[FlowConfig],
    policies: Sequence[PolicyConfig],
    env: BatchedEnv,
    slices: Mapping[str, slice],
    streams: Streams,
) -> FlowLearner:
    """Build flow matching for S runs; see ``registry``.

    Raises
    ------
    UserError
        The task has no cells of perturbations to learn from.
    """
    message = "flow generates cells of perturbations, and this task has none; choose env=counterfactual"
    require(hasattr(env, "populations"), "agent", message)
    seen: Populations = env.populations(configs[0].pool)  # type: ignore[attr-defined]
    return FlowLearner(Flow(configs, seen, streams), env)
